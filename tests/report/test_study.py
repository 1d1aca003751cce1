"""What a study leaves in a run folder."""

import json
import math

import optuna
import pandas as pd
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from echolung.evaluation.studies import run_study
from echolung.report.study import importances, save_study, trials_table

SPACE = {
    "x": FloatDistribution(1e-3, 1.0, log=True),
    "y": FloatDistribution(0.0, 1.0),
    "z": CategoricalDistribution(("a", "b")),
}


def trial(number, value, state=TrialState.COMPLETE, **attributes):
    parameters = {"x": 10 ** (-3 + 3 * ((number * 7) % 30) / 30), "y": ((number * 11) % 30) / 30, "z": "ab"[number % 2]}
    values = {} if value is None else {"value": value}
    made = optuna.create_trial(params=parameters, distributions=SPACE, state=state, user_attrs=attributes, **values)
    made.number = number
    return made


def test_from_a_study_to_its_files(write_classes, tmp_path):
    store = write_classes(signal=0.8)
    found = run_study(store, cv=3, epochs=5, trials=20)
    save_study(found, tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {
        "trials.csv", "study.json", "history.png", "parallel.png", "importance.png"
    }  # fmt: skip
    table = pd.read_csv(tmp_path / "trials.csv")
    assert table.groupby("study").size().to_dict() == {"all": 20, "fold-0": 20, "fold-1": 20, "fold-2": 20}
    about = json.loads((tmp_path / "study.json").read_text())
    for part, chosen in about["chosen"].items():
        rows = table[(table["study"] == part) & (table["state"] == "complete")]
        best = rows.loc[rows["value"].idxmin()]
        assert best["lr"] == pytest.approx(chosen["lr"], rel=1e-6) and best["epoch"] == chosen["epoch"]
    assert all(sum(shares.values()) == pytest.approx(1, abs=1e-3) for shares in about["importance"].values())


def test_few_trials_and_a_diverged_one_make_figures_too(write_classes, tmp_path):
    found = run_study(write_classes(signal=0.8), cv=3, epochs=3, trials=2, flat=True)
    save_study(found, tmp_path)
    assert not (tmp_path / "importance.png").exists()
    assert json.loads((tmp_path / "study.json").read_text())["importance"] == {}


def test_the_table_leaves_out_what_was_never_trained():
    trials = [
        trial(0, 0.5, epoch=3, worker="w"),
        trial(1, None, TrialState.FAIL, worker="w"),
        trial(2, None, TrialState.FAIL, surplus=True),
        trial(3, None, TrialState.WAITING),
        trial(4, 0.7, TrialState.PRUNED, retry_of=1),
        trial(5, math.inf, epoch=1),
    ]
    table = trials_table({"all": trials})
    assert table["number"].tolist() == [0, 1, 4, 5]
    assert table["state"].tolist() == ["complete", "fail", "pruned", "complete"]
    assert list(table.columns) == [
        "study",
        "number",
        "state",
        "value",
        "epoch",
        "x",
        "y",
        "z",
        "seconds",
        "worker",
        "retry_of",
    ]
    assert table["retry_of"].tolist()[2] == 1 and pd.isna(table["value"][1]) and table["value"][3] == math.inf


def test_importance_finds_what_matters():
    values = [(math.log10(trial(n, 0.0).params["x"]) + 1) ** 2 for n in range(30)]
    shares = importances({"all": [trial(n, value) for n, value in enumerate(values)]}, list(SPACE))["all"]
    assert shares["x"] > 0.7 and sum(shares.values()) == pytest.approx(1, abs=1e-3)
    diverged = [trial(n, value if n % 3 else math.inf) for n, value in enumerate(values)]
    assert importances({"all": diverged}, list(SPACE))["all"]["x"] > 0.5


def test_importance_says_nothing_of_nothing():
    assert importances({"all": [trial(n, 1.0) for n in range(30)]}, list(SPACE)) == {}
    assert importances({"all": [trial(n, float(n)) for n in range(9)]}, list(SPACE)) == {}
