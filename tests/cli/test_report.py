"""`echolung report` as a person meets it."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from echolung.cli import app
from echolung.evaluation import cross_validate
from echolung.evaluation.summary import summarise
from echolung.report.html import images
from echolung.report.record import save_run


@pytest.fixture(scope="module")
def store(write_classes):
    return write_classes()


@pytest.fixture(scope="module")
def made(store, tmp_path_factory):
    """Return the folder of a run."""
    result = cross_validate(store, cv=3, epochs=2)
    return save_run(result, summarise(result), store, 1.0, tmp_path_factory.mktemp("made") / "run")


@pytest.fixture
def run(made, echolung_home) -> Path:
    """Return a copy of that run that can be damaged, under ECHOLUNG_HOME/runs."""
    return Path(shutil.copytree(made, echolung_home / "runs" / "one"))


@pytest.fixture
def shell(monkeypatch, capsys):
    """Return a runner of `echolung report`: (arguments) -> (exit code, stdout, stderr). Figures have tests of their own."""
    monkeypatch.setattr(images, "PLOTS", {})
    monkeypatch.setattr(images, "PICTURES", {"samples": lambda run, store, folder: []})

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["echolung", "report", *map(str, arguments)])
        monkeypatch.setattr(app, "_debug", False)
        with pytest.raises(SystemExit) as left:
            app.main()
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, " ".join(err.split())

    return call


def test_the_newest_run_and_its_store_are_found(shell, run, store, echolung_home):
    older = Path(shutil.copytree(run, echolung_home / "runs" / "older"))
    edit(older, at="2001-01-01T00:00:00+00:00")
    curve = Path(shutil.copytree(run, echolung_home / "runs" / "zz-curve"))
    edit(curve, at="2999-01-01T00:00:00+00:00", label_efficiency={})
    (echolung_home / "runs" / "broken").mkdir()
    (echolung_home / "runs" / "broken" / "record.json").write_text("{")
    (echolung_home / "stores").mkdir()
    (echolung_home / "stores" / "synthetic.zarr").symlink_to(store.path)
    code, out, err = shell("--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["run"] == str(run) and told["store"].endswith("synthetic.zarr") and "left out" not in err
    assert "Run: one (the newest)" in err and "broken" in err
    assert "What is left out" not in (run / "report.html").read_text()


def test_a_run_by_its_name_and_a_file_elsewhere(shell, run, store, tmp_path):
    code, _, err = shell("one", "--store", store.path, "--out", tmp_path / "page.html")
    assert code == 0 and f"Report: {tmp_path / 'page.html'}" in err
    assert (tmp_path / "page.html").is_file() and not (run / "report.html").exists()
    code, _, err = shell(run, "--out", tmp_path)
    assert code == 2 and "is a folder; name a file" in err


def test_without_its_store(shell, run, echolung_home, write_classes):
    code, _, err = shell(run)
    assert code == 0 and "The store synthetic.zarr is not under ECHOLUNG_HOME/stores" in err
    assert "What is left out" in (run / "report.html").read_text()
    (echolung_home / "stores" / "synthetic.zarr").mkdir(parents=True)
    code, _, err = shell(run)
    assert code == 0 and "cannot be read" in err


def test_another_store_is_refused(shell, run, store, tmp_path):
    edit(run, store={"name": "theirs.zarr", "key": {}, "key_digest": "0123456789abcdef"})
    code, _, err = shell(run, "--store", store.path)
    assert (
        code == 2 and "is not the one that this run was made from: that was theirs.zarr" in err and "0123456789" in err
    )


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda run: shutil.rmtree(run), "is not there"),
        (lambda run: (run / "record.json").unlink(), "it has no record.json"),
        (lambda run: (run / "record.json").write_text("{"), "record.json is damaged"),
        (lambda run: (run / "predictions.csv").unlink(), "predictions.csv missing"),
        (lambda run: (run / "predictions.csv").write_text("x"), "is not what the run wrote"),
        (lambda run: (run / "probe.safetensors").write_bytes(b""), "is not what the run wrote"),
        (lambda run: edit(run, record_schema=99), "Update echolung"),
        (lambda run: edit(run, label_efficiency={}), "curve of label efficiency"),
    ],
)
def test_folders_that_hold_no_sound_run(shell, run, damage, says):
    damage(run)
    code, _, err = shell(run)
    assert code == 2 and says in err and "Traceback" not in err
    assert not (run / "report.html").exists()


def test_no_run_at_all(shell, echolung_home):
    code, _, err = shell()
    assert code == 2 and "There is no run under" in err and "echolung probe" in err


def test_a_place_that_cannot_be_written_to(shell, run, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = shell(run, "--out", tmp_path / "file" / "page.html")
    assert code == 2 and "Cannot create the folder" in err


def edit(run: Path, **fields: object) -> None:
    """Change fields of record.json."""
    file = run / "record.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))
