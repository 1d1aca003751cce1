"""The command line as a person meets it: what they type, what they read, which exit code comes back."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from echolung.cli import app
from echolung.datasets import phantom_lung


class Shell:
    """Runs echolung in this process, as typed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def __call__(self, line: str, *more: str) -> tuple[int, str, str]:
        """Return (exit code, stdout, stderr)."""
        self.monkeypatch.setattr(sys, "argv", ["echolung", *line.split(), *more])
        self.monkeypatch.setattr(app, "_debug", False)
        with pytest.raises(SystemExit) as left:
            app.main()
        out, err = self.capsys.readouterr()
        return int(left.value.code or 0), out, err

    def fails(self, line: str, *more: str) -> str:
        """Return the error's text, all in one line; it must be bad input told without a traceback."""
        code, out, err = self(line, *more)
        assert code == 2, out + err
        assert "Traceback" not in err
        assert "Error:" in err
        return " ".join(err.split())


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(monkeypatch, capsys)


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    phantom_lung.write(folder, videos=18, frames=8, size=48)
    return folder


EXTRACT = (
    "extract --dataset phantom-lung --encoder random:vit_tiny --frames 4 --size 32 --workers 1 --device cpu --data"
)


@pytest.fixture(scope="session")
def extracted(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an ECHOLUNG_HOME that holds one store."""
    home = tmp_path_factory.mktemp("extracted")
    command = [sys.executable, "-m", "echolung.cli", *EXTRACT.split(), str(phantoms)]
    subprocess.run(command, check=True, env={**os.environ, "ECHOLUNG_HOME": str(home)}, capture_output=True)
    return home


def test_from_videos_to_a_saved_result(shell: Shell, extracted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHOLUNG_HOME", str(extracted))
    code, out, err = shell("probe --cv 3")
    assert code == 0, err
    assert "0 patients shared" in out
    assert "majority class" in out
    assert "Patients per class: regular 3, covid 3, pneumonia 3" in out
    assert "Store: phantom-lung" in err, "says which store it took"
    assert "Task: pattern" in err, "says which task it took"
    (run,) = (extracted / "runs").iterdir()
    assert {file.name for file in run.iterdir()} == {
        "record.json",
        "predictions.csv",
        "folds.csv",
        "inner.csv",
        "curves.csv",
        "looks.csv",
        "train.csv",
        "probe.safetensors",
        "probe.json",
        "confusion.png",
        "report.html",
        "figures",
    }
    predictions = pd.read_csv(run / "predictions.csv")
    assert len(predictions) == 18
    assert predictions["video_id"].is_unique


def test_same_seed_same_bytes(shell: Shell, extracted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHOLUNG_HOME", str(extracted))
    for name in ("a", "b"):
        code, _, err = shell("probe --no-report --cv 3 --probe attentive --epochs 3 --out", str(tmp_path / name))
        assert code == 0, err
    assert (tmp_path / "a" / "predictions.csv").read_bytes() == (tmp_path / "b" / "predictions.csv").read_bytes()


def test_json_is_for_programs(shell: Shell, extracted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHOLUNG_HOME", str(extracted))
    code, out, _ = shell("probe --no-report --cv 3 --probe knn --json")
    assert code == 0
    result = json.loads(out)
    assert result["settings"]["probe"] == "knn"
    assert 0 <= result["metrics"]["mean"]["accuracy"] <= 1


def test_extracting_again_does_nothing(
    shell: Shell, extracted: Path, phantoms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECHOLUNG_HOME", str(extracted))
    code, _, err = shell(EXTRACT, str(phantoms))
    assert code == 0
    assert "complete; nothing to do" in err


def test_seed_protocol_is_called_optimistic(shell: Shell, extracted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHOLUNG_HOME", str(extracted))
    code, out, _ = shell("probe --no-report --cv 3 --protocol seed --epochs 2")
    assert code == 0
    assert out.lower().count("optimistic") >= 2


def test_labels_can_be_added_to_a_store(
    shell: Shell, extracted: Path, phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECHOLUNG_HOME", str(extracted))
    table = pd.read_csv(phantoms / "phantoms.csv")
    table[["video_id", "pleural_depth"]].to_csv(tmp_path / "labels.csv", index=False)
    code, out, err = shell("probe --no-report --cv 3 --labels", str(tmp_path / "labels.csv"))
    assert code == 0, err
    assert "MAE" in out


def test_data_check_counts_and_names(shell: Shell, phantoms: Path, tmp_path: Path) -> None:
    for file in phantoms.rglob("*"):
        if file.is_file():
            copy = tmp_path / file.relative_to(phantoms)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    first, second, third = sorted((tmp_path / "videos").iterdir())[:3]
    first.write_bytes(b"not a video")
    same = third.with_name(third.stem + second.suffix)
    third.unlink()
    same.write_bytes(second.read_bytes())
    table = pd.read_csv(tmp_path / "phantoms.csv")
    table.loc[table["video_id"] == same.stem, "path"] = f"videos/{same.name}"
    table.to_csv(tmp_path / "phantoms.csv", index=False)
    code, out, err = shell("data check phantom-lung --workers 1 --data", str(tmp_path))
    assert code == 0, err
    assert f"unreadable {first.stem}" in out
    (line,) = [line for line in out.splitlines() if line.startswith("equal files")]
    assert second.stem in line
    assert same.stem in line


def test_data_list_names_every_dataset(shell: Shell) -> None:
    code, out, _ = shell("data list --json")
    assert code == 0
    assert {"pocus", "covid-blues", "table", "phantom-lung"} <= {row["name"] for row in json.loads(out)}


# ---- bad input ---------------------------------------------------------------------------------------------------------


def test_wrong_folder_says_what_it_looked_for(shell: Shell, tmp_path: Path) -> None:
    error = shell.fails("data check pocus --data", str(tmp_path))
    assert str(tmp_path) in error
    assert "convex" in error


def test_unknown_names_get_a_suggestion(shell: Shell, tmp_path: Path) -> None:
    assert "pocus" in shell.fails("data check pocs --data", str(tmp_path))


def test_no_encoder_and_no_checkpoint(shell: Shell, phantoms: Path) -> None:
    assert "random:vit_small" in shell.fails("extract --dataset phantom-lung --data", str(phantoms))


def test_unknown_encoder_gets_a_suggestion(shell: Shell, phantoms: Path) -> None:
    error = shell.fails("extract --dataset phantom-lung --encoder random:vit_smal --data", str(phantoms))
    assert "vit_small" in error


def test_no_store_says_how_to_make_one(shell: Shell) -> None:
    assert "echolung extract" in shell.fails("probe --cv 5")


def test_more_folds_than_patients_says_the_largest(
    shell: Shell, extracted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECHOLUNG_HOME", str(extracted))
    error = shell.fails("probe --cv 5")
    assert "largest that works is 3" in error
    code, _, _ = shell("probe --no-report --cv 3")
    assert code == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--probe linaer", "linear"),
        ("--task diagnosis", "pattern"),
        ("--group hospital", "patient, source, video"),
        ("--group source", "source is not known"),
        ("--protocol nasted", "nested"),
        ("--split 50/50", "60/20/20"),
        ("--split official", "split"),
        ("--dataset pocus", "pocus"),
        ("--device cuda:99", "cuda:99"),
    ],
)
def test_bad_options_of_probe(
    shell: Shell, extracted: Path, monkeypatch: pytest.MonkeyPatch, options: str, said: str
) -> None:
    monkeypatch.setenv("ECHOLUNG_HOME", str(extracted))
    assert said in shell.fails(f"probe --cv 3 {options}")


def test_a_csv_without_path(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("file,ef\na.mp4,50\n")
    assert "`path`" in shell.fails("data check", str(tmp_path / "mine.csv"))


def test_a_home_that_cannot_be_written(shell: Shell, phantoms: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHOLUNG_HOME", "/proc/nowhere")
    assert "ECHOLUNG_HOME" in shell.fails(EXTRACT, str(phantoms))


def test_the_unexpected_is_one_line_and_a_traceback_on_demand(
    shell: Shell, phantoms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(phantom_lung, "load", broken)
    from echolung import datasets

    broken_dataset = datasets.Dataset(broken, "", "", ())
    monkeypatch.setitem(datasets.DATASETS, "phantom-lung", broken_dataset)
    code, _, err = shell("data check phantom-lung --data", str(phantoms))
    assert code == 1
    assert "--debug" in err
    assert "Traceback" not in err
    monkeypatch.setattr(sys, "argv", ["echolung", "--debug", "data", "check", "phantom-lung", "--data", str(phantoms)])
    with pytest.raises(ZeroDivisionError):
        app.main()


# ---- what a person sees ------------------------------------------------------------------------------------------------


def test_the_table_fits_eighty_columns(
    shell: Shell, extracted: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.console import Console

    from echolung.cli.probing import conclusion
    from echolung.cli.probing import table as probe_table

    monkeypatch.setenv("ECHOLUNG_HOME", str(extracted))
    for module in (probe_table, conclusion):
        monkeypatch.setattr(module, "out", lambda: Console(width=80))
    code, out, err = shell("probe --no-report --cv 3")
    assert code == 0, err
    assert "…" not in out
    for label in ("\n 0 ", "mean ± sd", "95 % interval", "majority class", "AUROC", "Chosen (lr · wd · epoch): fold 0"):
        assert label in out, out
    assert max(map(len, out.splitlines())) <= 80


def test_a_store_that_cannot_be_read_is_passed_over(
    shell: Shell, extracted: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import shutil

    import zarr

    shutil.copytree(extracted / "stores", tmp_path / "stores")
    (store,) = (tmp_path / "stores").glob("*.zarr")
    shutil.copytree(store, store.with_name("from-the-future.zarr"))
    zarr.open_group(store.with_name("from-the-future.zarr")).attrs["schema_version"] = 99
    monkeypatch.setenv("ECHOLUNG_HOME", str(tmp_path))
    code, out, err = shell("probe --no-report --cv 3 --probe knn")
    assert code == 0, err
    assert "Passed over" in err
    assert "99" in err
    code, out, _ = shell("cache list --json")
    assert [row["name"] for row in json.loads(out)] == [store.name]


def test_nothing_is_trained_for_a_place_that_cannot_be_written(
    shell: Shell, extracted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECHOLUNG_HOME", str(extracted))
    (tmp_path / "kept").write_text("mine")
    assert "already" in shell.fails("probe --cv 3 --out", str(tmp_path))
    assert (tmp_path / "kept").read_text() == "mine"
    monkeypatch.setattr("echolung.evaluation.setup.load_features", lambda *_, **__: pytest.fail("trained first"))
    assert "ECHOLUNG_HOME" in shell.fails("probe --cv 3 --out", "/proc/nowhere/run")


def test_an_interrupt_is_one_sentence(phantoms: Path, tmp_path: Path) -> None:
    import signal

    command = [sys.executable, "-m", "echolung.cli", *EXTRACT.split(), str(phantoms), "--views", "40"]
    environment = {**os.environ, "ECHOLUNG_HOME": str(tmp_path)}
    # A shell starts background jobs with interrupts ignored, and children inherit that.
    run = subprocess.Popen(
        command,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    assert run.stderr is not None
    run.stderr.readline()  # it has begun
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "Stopped." in err
    assert "Traceback" not in err
