"""What is made of predictions: means over folds, guessing, one prediction a patient."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from echolung.datasets.manifest import Task
from echolung.evaluation.metrics import brier, calibration_error
from echolung.evaluation.result import Result
from echolung.evaluation.summary import calibrated, repeat_of, summarise

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
    low, high = summary.patient_interval["accuracy"]
    assert low < summary.patient["accuracy"] < high


def test_ranks_of_patients_are_compared_within_a_fold(result):
    table = result.predictions
    each = table.groupby("patient").agg(
        {"p_a": "mean", "p_b": "mean", "p_c": "mean", "fold": "first", "truth": "first"}
    )
    each = each[table.groupby("patient")["truth"].nunique() == 1]
    by_fold = [
        sk.roc_auc_score(part["truth"], part[["p_a", "p_b", "p_c"]], multi_class="ovr", labels=CLASSES)
        for fold, part in each.groupby("fold")
        if fold < 2
    ]
    assert summarise(result).patient["auroc"] == pytest.approx(np.mean(by_fold))
    table.loc[::3, "fold"] = 1  # videos of a patient in several folds: its scores are of several probes
    assert not {"auroc", "auprc", "sensitivity_at_90"} & set(summarise(result).patient)


def repeated(result: Result) -> Result:
    """The same three folds once more, with other predictions."""
    again = result.predictions.assign(fold=result.predictions["fold"] + 3)
    again[["p_a", "p_b", "p_c"]] = np.random.default_rng(1).dirichlet(np.ones(3), 60)
    folds = pd.concat([result.folds, result.folds.assign(fold=result.folds["fold"] + 3)], ignore_index=True)
    predictions = pd.concat([result.predictions, again], ignore_index=True)
    return replace(
        result, predictions=predictions, folds=folds, settings={"protocol": "nested", "folds": 3, "repeats": 2}
    )


def test_repeats(result):
    both = repeated(result)
    first, summary = summarise(result), summarise(both)
    second = summarise(replace(both, predictions=both.predictions[60:], folds=both.folds[3:], settings=result.settings))
    assert first.sd_repeats == {} and len(summary.folds) == 6
    for name in ("accuracy", "auroc", "log_loss"):
        means = [first.mean[name], second.mean[name]]
        assert summary.mean[name] == pytest.approx(np.mean(means))
        assert summary.sd_repeats[name] == pytest.approx(np.std(means, ddof=1))
    for name in ("accuracy", "auroc"):
        assert summary.patient[name] == pytest.approx((first.patient[name] + second.patient[name]) / 2)
    assert (summary.patients_per_class, summary.mixed_patients) == (first.patients_per_class, 1)
    assert summary.guess == pytest.approx(first.guess)
    spans = [high - low for low, high in (first.interval["accuracy"], summary.interval["accuracy"])]
    assert spans[1] > 0.5 * spans[0]  # twice the rows, no more patients
    assert repeat_of(both).tolist() == [0] * 60 + [1] * 60


def test_auroc_has_delongs_interval_and_lost_classes_are_counted(result):
    summary = summarise(result)
    low, high = summary.delong
    assert 0 < low < summary.mean["auroc"] < high < 1
    assert summary.redrawn < 100
    few = result.predictions["patient"].isin(["p1", "p2", "p3", "p4", "p5", "p6"])
    assert summarise(replace(result, predictions=result.predictions[few].reset_index(drop=True))).redrawn > 100
    result.predictions.loc[:, "fold"] = result.predictions["truth"].map({"a": 0, "b": 1, "c": 2})
    assert summarise(result).delong is None


def test_calibration_before_and_after_the_folds_temperatures(result):
    summary = summarise(result)
    p, truth = result.scores, result.predictions["truth"].map({"a": 0, "b": 1, "c": 2}).to_numpy()
    assert summary.calibration == pytest.approx(
        {"ece": calibration_error(truth, p), "brier": brier(truth, p), "log_loss": sk.log_loss(truth, p)}
    )
    mended = replace(result, temperatures=(3.0, 1.0, 0.5))
    scaled = p ** (1 / np.array([3.0, 1.0, 0.5])[result.predictions["fold"]])[:, None]
    np.testing.assert_allclose(calibrated(mended), scaled / scaled.sum(1, keepdims=True))
    after = summarise(mended).calibration
    assert after["brier_after"] == pytest.approx(brier(truth, calibrated(mended)))
    assert {k: v for k, v in after.items() if "after" not in k} == summary.calibration


def test_numbers():
    random = np.random.default_rng(0)
    table = pd.DataFrame({"video_id": [f"v{i}" for i in range(40)], "patient": [f"p{i // 2}" for i in range(40)]})
    table = table.assign(source="", fold=np.arange(40) // 2 % 2, truth=random.normal(size=40), prediction=0.0)
    folds = pd.DataFrame({"fold": [0, 1], "guess": [[0.0], [0.5]]})
    summary = summarise(Result(table, folds, [], None, Task("regression", "x"), {"protocol": "nested"}))
    # Predictions that are all alike have no correlation, and nobody invents one.
    assert set(summary.interval) == {"mae", "rmse", "r2"} <= set(summary.patient)
    assert set(summary.patient_interval) == {"mae", "rmse", "r2"}
    assert (summary.calibration, summary.delong, summary.redrawn) == ({}, None, 0)
    halves = [table["truth"][table["fold"] == fold] for fold in (0, 1)]
    assert summary.guess["mae"] == pytest.approx(np.mean([abs(halves[0]).mean(), abs(halves[1] - 0.5).mean()]))


def ejection(visits: bool = True, column: str = "ef") -> Result:
    """30 patients of two visits of three videos; folds by patient."""
    random, number = np.random.default_rng(0), np.arange(180)
    visit = random.normal(50, 12, 60)[number // 3]
    table = pd.DataFrame(
        {"video_id": [f"v{i}" for i in number], "patient": [f"p{i // 6}" for i in number], "source": ""}
    )
    if visits:
        table["visit"] = [f"p{i // 6}-{i // 3 % 2}" for i in number]
    table = table.assign(fold=number // 6 % 2, truth=visit, prediction=visit + random.normal(0, 8, 180))
    folds = pd.DataFrame({"fold": [0, 1], "guess": [[50.0], [52.0]], "median": [[51.0], [53.0]]})
    return Result(table, folds, [], None, Task("regression", column), {"protocol": "nested", "task": column})


def test_one_prediction_a_visit_is_the_mean_of_its_videos():
    result = ejection()
    summary = summarise(result)
    means = result.predictions.groupby("visit")[["truth", "prediction"]].mean()
    assert summary.visits == 60 and summary.visit["mae"] == pytest.approx(
        (means["prediction"] - means["truth"]).abs().mean()
    )
    assert summary.visit["mae"] < 0.8 * summary.mean["mae"]  # three errors average out
    low, high = summary.visit_interval["mae"]
    assert low < summary.visit["mae"] < high
    # Patients are drawn, and both of a patient's visits with them.
    assert summary.patient["mae"] < summary.visit["mae"] and summary.visit_interval != summary.patient_interval
    assert summarise(ejection(visits=False)).visit == {}


def test_an_ejection_fraction_is_also_judged_as_a_classifier_and_against_mean_and_median():
    summary = summarise(ejection())
    assert [each.below for each in summary.reduced] == [35, 40, 45, 50]
    assert all(each.auroc > 0.7 for each in summary.reduced)
    assert {"pearson", "r_squared", "r2"} <= set(summary.interval)
    truth, fold = (ejection().predictions[name] for name in ("truth", "fold"))
    assert summary.median["mae"] == pytest.approx(
        np.mean([(truth - 51)[fold == 0].abs().mean(), (truth - 53)[fold == 1].abs().mean()])
    )
    assert summarise(ejection(column="weight")).reduced == ()
    asked = replace(ejection(column="weight"), settings={"protocol": "nested", "thresholds": [60]})
    assert [each.below for each in summarise(asked).reduced] == [60]
    assert json.loads(json.dumps(summary.to_json(), allow_nan=False))["reduced"][0]["below"] == 35


def test_what_probes_score_on_their_own_training_part_stands_beside(result):
    tables = [
        result.predictions[result.predictions["fold"] != fold]
        .drop(columns=["fold"])
        .assign(part=fold, p_a=1.0, p_b=0.0, p_c=0.0)
        for fold in range(3)
    ]
    summary = summarise(replace(result, train=pd.concat(tables)))
    shares = [(table["truth"] == "a").mean() for table in tables]
    assert summary.train["accuracy"] == pytest.approx(np.mean(shares))
    assert summary.train_sd["accuracy"] == pytest.approx(np.std(shares, ddof=1))
    assert summarise(result).train == {}


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
