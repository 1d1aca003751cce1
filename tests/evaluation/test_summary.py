"""What is made of predictions: means over folds, guessing, one prediction a patient."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from echolung.datasets.manifest import Task
from echolung.evaluation.result import Result
from echolung.evaluation.summary import summarise

CLASSES = ("a", "b", "c")


@pytest.fixture
def result() -> Result:
    """Three folds; fold 2 lacks class c; patient p0 has videos of two classes."""
    random = np.random.default_rng(0)
    patient = np.repeat(np.arange(20), 3)
    truth = patient % 3
    truth[0] = 1
    fold = np.where(truth == 2, patient // 3 % 2, patient // 3 % 3)
    fold[:3] = 0
    p = random.dirichlet(np.ones(3), 60)
    table = pd.DataFrame(
        {"video_id": [f"v{i}" for i in range(60)], "patient": [f"p{i}" for i in patient], "source": ""}
    )
    table = table.assign(fold=fold, truth=np.array(CLASSES)[truth], p_a=p[:, 0], p_b=p[:, 1], p_c=p[:, 2])
    guesses = [(np.bincount(truth[fold != f]) / (fold != f).sum()).tolist() for f in range(3)]
    folds = pd.DataFrame({"fold": [0, 1, 2], "guess": guesses})
    settings = {"protocol": "nested"}
    return Result(table, folds, [], None, Task("classification", "x", CLASSES), settings)


def test_folds_mean_and_spread(result):
    summary, table = summarise(result), result.predictions
    expected = [
        sk.accuracy_score(part["truth"], part[["p_a", "p_b", "p_c"]].to_numpy().argmax(1).choose(CLASSES))
        for _, part in table.groupby("fold")
    ]
    assert summary.folds["accuracy"].tolist() == pytest.approx(expected)
    assert summary.mean["accuracy"] == pytest.approx(np.mean(expected))
    assert summary.sd["accuracy"] == pytest.approx(np.std(expected, ddof=1))
    assert np.isnan(summary.folds["auroc"][2])
    assert summary.mean["auroc"] == pytest.approx(summary.folds["auroc"][:2].mean())
    low, high = summary.interval["accuracy"]
    assert low < summary.mean["accuracy"] < high


def test_guessing_is_the_majority_class_of_the_training_part(result):
    summary, table = summarise(result), result.predictions
    expected = []
    for fold in range(3):
        train, test = table[table["fold"] != fold], table[table["fold"] == fold]
        expected.append((test["truth"] == train["truth"].mode()[0]).mean())
    assert summary.guess["accuracy"] == pytest.approx(np.mean(expected))
    assert summary.guess["auroc"] == 0.5


def test_one_prediction_a_patient(result):
    summary, table = summarise(result), result.predictions
    right = []
    for _, part in table.groupby("patient"):
        if part["truth"].nunique() == 1:
            mean = part[["p_a", "p_b", "p_c"]].mean().to_numpy()
            right.append(CLASSES[mean.argmax()] == part["truth"].iloc[0])
    assert summary.patient["accuracy"] == pytest.approx(np.mean(right)) and len(right) == 19
    assert summary.mixed_patients == 1
    assert summary.patients_per_class == {"a": 7, "b": 8, "c": 6}
    assert not {"auroc", "auprc", "sensitivity_at_90"} & set(summary.patient)  # ranks of different probes


def test_unknown_patients_have_no_patient_level(result):
    result.predictions.loc[5, "patient"] = ""
    summary = summarise(result)
    assert summary.patient == {} and summary.interval["accuracy"][0] > 0


def test_as_json_there_is_no_nan(result):
    result.predictions.loc[:, "fold"] = result.predictions["truth"].map({"a": 0, "b": 1, "c": 2})
    summary = summarise(result)
    assert np.isnan(summary.mean["auroc"])
    fields = json.loads(json.dumps(summary.to_json(), allow_nan=False))
    assert fields["mean"]["auroc"] is None and fields["mean"]["accuracy"] == summary.mean["accuracy"]
