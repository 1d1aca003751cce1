"""What several figures read off a result."""

import numpy as np
from jaxtyping import Float, Int

from echolung.datasets.manifest import Task
from echolung.evaluation import Result, metrics
from echolung.evaluation.summary import truth_of
from echolung.report.run import Run


def folds_of(result: Result) -> Int[np.ndarray, " v"]:
    """Return the fold that scored each row."""
    return result.predictions["fold"].to_numpy(np.int64)


def errors_of(result: Result) -> Float[np.ndarray, " v"]:
    """Return for each row 1 where it is right, else 0; of numbers the absolute error."""
    truth = truth_of(result)
    if result.task.kind == "regression":
        return np.abs(result.scores[:, 0] - truth)
    return (result.scores.argmax(1) == truth).astype(np.float64)


def main_metrics(task: Task) -> list[str]:
    """Return the metrics that bars show, the main one first."""
    if task.kind == "regression":
        return ["mae", "rmse", "r2"]
    return ["balanced_accuracy", "accuracy", "qwk" if task.ordinal else "auroc"]


PER_CENT = ("accuracy", "balanced_accuracy")


def label_of(metric: str) -> str:
    """Return what an axis calls a metric."""
    return metrics.LABELS[metric] + (" %" if metric in PER_CENT else "")


def scale_of(metric: str) -> float:
    """Return what a metric is multiplied by to be shown."""
    return 100.0 if metric in PER_CENT else 1.0


def number(metric: str, value: float) -> str:
    """Return a metric as figures write it, or "–" where it is not defined."""
    if value != value:
        return "–"
    if metric in PER_CENT:
        return f"{100 * value:.1f}"
    return (f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}").replace("-", "−")


def spread(metric: str, mean: float, sd: float) -> str:
    """Return "mean ± sd", or the mean alone where there is no sd."""
    return number(metric, mean) + (f" ± {number(metric, sd)}" if sd == sd else "")


def encoder_of(run: Run) -> str:
    """Return the name of the encoder whose store a run is of, "" where the record does not say."""
    return str(run.record.get("encoder") or "")
