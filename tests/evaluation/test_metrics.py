"""Every metric against scikit-learn, scipy or a slow restatement."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from echolung.evaluation.metrics import LABELS, calibration_error, classification, regression


def made_up(classes: int, v: int = 200, seed: int = 0):
    random = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(classes), random.integers(classes, size=v - classes)])
    logits = random.normal(size=(v, classes)) + 1.2 * np.eye(classes)[truth]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return truth, np.round(p, 1 if classes == 2 else 2) / np.round(p, 1 if classes == 2 else 2).sum(1, keepdims=True)


@pytest.mark.parametrize("seed", range(3))
def test_two_classes(seed: int):
    truth, p = made_up(2, seed=seed)
    found, predicted = classification(truth, p), p.argmax(1)
    false_rate, true_rate, _ = sk.roc_curve(truth, p[:, 1], drop_intermediate=False)
    expected = {
        "accuracy": sk.accuracy_score(truth, predicted),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, predicted),
        "auroc": sk.roc_auc_score(truth, p[:, 1]),
        "auprc": sk.average_precision_score(truth, p[:, 1]),
        "kappa": sk.cohen_kappa_score(truth, predicted),
        "mcc": sk.matthews_corrcoef(truth, predicted),
        "f1": sk.f1_score(truth, predicted),
        "sensitivity": sk.recall_score(truth, predicted),
        "specificity": sk.recall_score(truth, predicted, pos_label=0),
        "precision": sk.precision_score(truth, predicted),
        "auprc_macro": np.mean([sk.average_precision_score(truth == c, p[:, c]) for c in (0, 1)]),
        "log_loss": sk.log_loss(truth, np.clip(p, 1e-15, None)),
        "brier": 2 * sk.brier_score_loss(truth, p[:, 1]),
        "sensitivity_at_90": max(t for f, t in zip(false_rate, true_rate, strict=True) if f <= 0.1),
        "ece": slow_ece(truth, p),
    }
    assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("classes", [3, 5])
def test_several_classes(classes: int):
    truth, p = made_up(classes)
    found, predicted = classification(truth, p, ordinal=True), p.argmax(1)
    one_hot = np.eye(classes)[truth]
    specificities = [sk.recall_score(truth != c, predicted != c) for c in range(classes)]
    expected = {
        "accuracy": sk.accuracy_score(truth, predicted),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, predicted),
        "auroc": sk.roc_auc_score(truth, p, multi_class="ovr"),
        "auprc": sk.average_precision_score(one_hot, p),
        "kappa": sk.cohen_kappa_score(truth, predicted),
        "mcc": sk.matthews_corrcoef(truth, predicted),
        "f1": sk.f1_score(truth, predicted, average="macro"),
        "sensitivity": sk.recall_score(truth, predicted, average="macro"),
        "specificity": np.mean(specificities),
        "precision": sk.precision_score(truth, predicted, average="macro"),
        "log_loss": sk.log_loss(truth, np.clip(p, 1e-15, None)),
        "brier": ((p - one_hot) ** 2).sum(1).mean(),
        "ece": slow_ece(truth, p),
        "qwk": sk.cohen_kappa_score(truth, predicted, weights="quadratic"),
        "score_mae": sk.mean_absolute_error(truth, predicted),
        "within_one": np.mean([abs(a - b) <= 1 for a, b in zip(truth, predicted, strict=True)]),
    }
    assert found == pytest.approx(expected, abs=1e-9)


def slow_ece(truth: np.ndarray, p: np.ndarray) -> float:
    total = 0.0
    for b in range(10):
        inside = [i for i in range(len(p)) if b / 10 <= max(p[i]) < (b + 1) / 10 or (b == 9 and max(p[i]) == 1.0)]
        if inside:
            right = np.mean([p[i].argmax() == truth[i] for i in inside])
            total += len(inside) / len(p) * abs(right - np.mean([max(p[i]) for i in inside]))
    return total


def test_calibration_counts_full_confidence():
    truth, p = np.array([0, 1]), np.array([[1.0, 0.0], [1.0, 0.0]])
    assert calibration_error(truth, p) == pytest.approx(0.5)
    # 1.0 (wrong) is in the bin of 0.95 (right): one of two at a mean confidence of 0.975
    assert calibration_error(1 - truth, np.array([[1.0, 0.0], [0.95, 0.05]])) == pytest.approx(0.475)


def test_a_fold_that_lacks_a_class_has_no_rank_metrics_and_no_warnings():
    truth, p = made_up(3)
    truth, p = truth[truth < 2], p[truth < 2]
    found = classification(truth, p, ordinal=True)
    assert np.isnan([found["auroc"], found["auprc"]]).all()
    recalls = [(p[truth == c].argmax(1) == c).mean() for c in (0, 1)]
    assert found["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    assert np.isfinite([v for k, v in found.items() if k not in ("auroc", "auprc")]).all()


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("right", [True, False])
def test_a_fold_of_one_class(classes: int, right: bool):
    truth = np.zeros(4, np.int64)
    p = np.tile(np.eye(classes)[0 if right else 1], (4, 1))
    found = classification(truth, p)
    assert found["accuracy"] == found["balanced_accuracy"] == float(right)
    assert np.isnan(found["auroc"])
    assert found["kappa"] == found["mcc"] == 0


def test_a_probe_that_says_one_thing():
    truth, _ = made_up(2)
    found = classification(truth, np.tile([0.7, 0.3], (200, 1)))
    assert (found["sensitivity"], found["specificity"], found["f1"], found["precision"]) == (0, 1, 0, 0)
    assert (found["kappa"], found["mcc"], found["auroc"], found["balanced_accuracy"]) == (0, 0, 0.5, 0.5)
    assert found["sensitivity_at_90"] == 0


def test_regression():
    random = np.random.default_rng(0)
    truth = random.normal(55, 12, 100)
    predicted = 20 + 0.5 * truth + random.normal(0, 5, 100)
    assert regression(truth, predicted) == pytest.approx(
        {
            "mae": sk.mean_absolute_error(truth, predicted),
            "rmse": sk.root_mean_squared_error(truth, predicted),
            "r2": sk.r2_score(truth, predicted),
            "r_squared": stats.pearsonr(truth, predicted)[0] ** 2,
            "pearson": stats.pearsonr(truth, predicted)[0],
        }
    )


@pytest.mark.parametrize("constant", [0.1, 55.7776, 1e-3])
def test_regression_to_a_constant_has_no_correlation(constant: float):
    random = np.random.default_rng(0)
    found = regression(random.normal(size=37), np.full(37, constant))
    assert np.isnan([found["pearson"], found["r_squared"]]).all() and np.isfinite(found["r2"])
    alone = regression(np.array([1.0]), np.array([2.0]))
    assert alone["mae"] == 1 and np.isnan([alone["r2"], alone["pearson"]]).all()


def test_every_metric_has_a_label():
    truth, p = made_up(2)
    assert set(classification(truth, p, True)) | set(regression(truth * 1.0, p[:, 0])) == set(LABELS)
