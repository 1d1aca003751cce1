"""`echolung probe --label-fractions` as a person meets it."""

import json
import sys

import pytest

from echolung.cli import app
from echolung.cli.probing import label_efficiency


@pytest.fixture
def typed(write_classes, monkeypatch, capsys):
    """Return what runs `echolung probe` on a small store: arguments -> (exit code, stdout, stderr)."""
    store = write_classes()

    def run(*more):
        line = [
            "echolung",
            "probe",
            "--store",
            str(store.path),
            "--probe",
            "knn",
            "--cv",
            "3",
            "--device",
            "cpu",
            *more,
        ]
        monkeypatch.setattr(sys, "argv", line)
        monkeypatch.setattr(app, "_debug", False)
        with pytest.raises(SystemExit) as left:
            app.main()
        return int(left.value.code or 0), *capsys.readouterr()

    return run


def test_a_table_of_eighty_columns_and_a_folder(typed, tmp_path, monkeypatch):
    from rich.console import Console

    monkeypatch.setattr(label_efficiency, "out", lambda: Console(width=80))
    code, out, err = typed("--label-fractions", "0.25,0.5,1", "--label-seeds", "2", "--out", str(tmp_path / "run"))
    assert code == 0, err
    shown = [line for line in out.splitlines() if line.split()[:1] in (["0.5"], ["1"], ["majority"])]
    assert len(shown) == 3 and "±" in shown[0] and "±" not in shown[1] and "…" not in out
    assert max(map(len, out.splitlines())) <= 80
    assert "mean ± sd of 2 draws" in out and "0 patients shared" in out
    assert (tmp_path / "run" / "curve.png").exists() and not (tmp_path / "run.partial").exists()


@pytest.mark.parametrize("task", ["label", "number"])
def test_json(typed, task):
    code, out, err = typed("--label-fractions", "0.5", "--label-seeds", "2", "--task", task, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert [row["fraction"] for row in found["label_efficiency"]] == [0.5, 1.0]
    assert found["counted_in"] == "patient" and found["settings"]["probe"] == "knn"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["half"], "'half' must be numbers above 0 and up to 1"),
        (["0.5,,1"], "must be numbers above 0"),
        (["0.1,2"], "--label-fractions 2: a share of the patients is above 0 and at most 1."),
        (["0.1,0.10"], "name each share once"),
        (["0.1", "--label-seeds", "1000"], "--label-seeds 1000 must be 1 to 100"),
        (["0.1", "--protocol", "seed"], "goes with one nested round"),
    ],
)
def test_bad_input_is_told_in_a_sentence(typed, arguments, message):
    code, out, err = typed("--label-fractions", *arguments)
    assert code == 2 and "Traceback" not in err and not out
    assert message in " ".join(err.split())
