"""`echolung study` as a person meets it."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from echolung.cli import app


@pytest.fixture(scope="module")
def store(write_classes):
    return write_classes(signal=0.8)


@pytest.fixture
def shell(store, monkeypatch, capsys):
    """Return a runner of `echolung study` on a small store: (options) -> (exit code, stdout, stderr)."""

    def run(line: str) -> tuple[int, str, str]:
        arguments = ["echolung", "study", "--store", str(store.path), "--cv", "3", "--epochs", "4", *line.split()]
        arguments += [] if "--report" in line else ["--no-report"]  # which takes longer than the rest
        monkeypatch.setattr(sys, "argv", arguments)
        monkeypatch.setattr(app, "_debug", False)
        with pytest.raises(SystemExit) as left:
            app.main()
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, " ".join(err.split())

    return run


def test_a_study_is_shown_and_saved(shell, echolung_home: Path):
    code, out, err = shell("--trials 12 --name mine --device cpu --report")
    assert code == 0, err
    assert "protocol nested" in out and "optimistic" not in out
    assert "0 patients shared" in out and "Study mine:" in out
    assert "Task: label (the first)" in err and "48/48 trials" in err
    assert "[I " not in err and "ExperimentalWarning" not in err
    (run,) = (echolung_home / "runs").iterdir()
    record = json.loads((run / "record.json").read_text())
    assert record["settings"]["study"]["trials"] == 12 and not record["optimistic"]
    assert len(pd.read_csv(run / "trials.csv")) == 48
    assert (run / "probe.safetensors").exists() and (run / "history.png").exists() and (run / "report.html").exists()
    code, _, err = shell("--trials 12 --name mine")
    assert code == 2 and "There is a study mine" in err and "--resume" in err
    code, _, err = shell("--trials 12 --name mine --resume --set dropout=0.1")
    assert code == 2 and "cannot go on" in err and "dropout" in err
    code, out, err = shell("--trials 13 --name mine --resume --json --device cpu")
    assert code == 0, err
    assert json.loads(out)["settings"]["study"]["told"]["complete"] > 0 and "52/52" in err


def test_flat_is_called_optimistic(shell, echolung_home: Path):
    code, out, err = shell("--trials 4 --flat --search lr=1e-4:1e-1 --set dropout=0,0.2 --set class_weights=none")
    assert code == 0, err
    assert "protocol flat" in out and out.count("ptimistic") >= 2
    (run,) = (echolung_home / "runs").iterdir()
    assert json.loads((run / "record.json").read_text())["optimistic"]
    space = json.loads((run / "study.json").read_text())["space"]
    assert space["lr"] == {"low": 1e-4, "high": 0.1, "log": True}
    assert space["dropout"] == {"choices": [0.0, 0.2]} and "class_weights" not in space


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("--sampler tepe", "Did you mean 'tpe'"),
        ("--pruner medan", "Did you mean 'median'"),
        ("--storage postgresql://me:geheim@127.0.0.1:9/x", "cannot be used"),
        ("--search lr=1", "NAME=LOW:HIGH"),
        ("--search lr=1:2:3", "NAME=LOW:HIGH"),
        ("--set lr", "NAME=VALUE"),
        ("--memory lots", "4GB"),
        ("--resume", "say which with --name"),
        ("--probe linea", "Did you mean 'linear'"),
        ("--timeout 0", "above 0"),
    ],
)
def test_bad_input(shell, line: str, text: str):
    code, out, err = shell(line)
    assert code == 2 and text in err, out + err
    assert "Error:" in err and "Traceback" not in err and "geheim" not in err


def test_an_interrupt_says_how_to_go_on(shell, monkeypatch):
    from echolung.probes import PROBES

    def interrupt(*rest):
        raise KeyboardInterrupt

    monkeypatch.setitem(PROBES, "linear", replace(PROBES["linear"], fit=interrupt))
    code, _, err = shell("--trials 4 --name stopped")
    assert code == 130
    assert err.rstrip().endswith("--name stopped --no-report --resume")
