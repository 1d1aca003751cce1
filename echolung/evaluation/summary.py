"""What a result comes to: metrics a fold, their mean and spread, intervals, and what guessing would have scored."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from echolung.evaluation import metrics
from echolung.evaluation.bootstrap import intervals
from echolung.evaluation.patient_level import PatientLevel, patient_level
from echolung.evaluation.result import Result, score_columns
from echolung.evaluation.statistics.calibration import apply_temperature, calibration
from echolung.evaluation.statistics.delong import clustered_auroc
from echolung.evaluation.statistics.reduced import THRESHOLDS, Reduced, find_reduced


@dataclass(frozen=True)
class Summary:
    """The numbers of a result, all computed from its out-of-fold predictions.

    Attributes:
        folds: one row a fold, one column a metric. Of repeated cross-validation the folds of all repeats.
        mean: metric -> mean over folds (of those in which it is defined).
        sd: metric -> standard deviation over folds (ddof 1; NaN where fewer than two).
        sd_repeats: metric -> standard deviation (ddof 1) of the means of the repeats: what another draw of folds changes.
            Empty where there is one repeat.
        interval: metric -> 95 % patient-bootstrap interval of the pooled predictions (AUROC: of the mean over folds).
        redrawn: how many of the 2,000 resamples behind `interval` had lost a class and were drawn anew.
        guess: what guessing the training part's most frequent class (regression: its mean) scores, mean over folds.
        median: of numbers, what predicting the training part's median scores, the least MAE without looking; mean over folds.
        patient: metrics with one prediction a patient, the mean of the videos'; empty where patients are not known.
        patient_interval: metric -> interval of those.
        patients_per_class: class -> number of patients with such a video.
        mixed_patients: patients whose videos differ in class: left out of `patient`.
        calibration: ece, brier and log_loss of all predictions pooled; with `_after` behind the name, after each fold's
            logits were divided by its temperature. Empty of numbers.
        delong: 95 % interval of the mean AUROC by clustered DeLong; None where it is not defined.
        visit: metrics with one prediction a visit, the mean of its videos'; empty where the dataset knows no visits.
        visit_interval: metric -> interval of those; patients are drawn, not visits.
        visits: how many were scored.
        reduced: of an ejection fraction, how well it finds hearts below each threshold.
        train: metric -> mean over folds of what each fold's probe scores on its own training part: how well it fits.
        train_sd: standard deviation of those over folds (ddof 1).
    """

    folds: pd.DataFrame
    mean: dict[str, float]
    sd: dict[str, float]
    sd_repeats: dict[str, float]
    interval: dict[str, tuple[float, float]]
    redrawn: int
    guess: dict[str, float]
    median: dict[str, float]
    patient: dict[str, float]
    patient_interval: dict[str, tuple[float, float]]
    patients_per_class: dict[str, int]
    mixed_patients: int
    calibration: dict[str, float]
    delong: tuple[float, float] | None
    visit: dict[str, float] = field(default_factory=dict)
    visit_interval: dict[str, tuple[float, float]] = field(default_factory=dict)
    visits: int = 0
    reduced: tuple[Reduced, ...] = ()
    train: dict[str, float] = field(default_factory=dict)
    train_sd: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return everything but the folds as plain values; NaN becomes None."""
        fields = {k: v for k, v in self.__dict__.items() if k != "folds"}
        return _plain({**fields, "reduced": [each.to_json() for each in self.reduced]})


def summarise(result: Result, seed: int = 0) -> Summary:
    """Return the summary of a result."""
    table, task = result.predictions, result.task
    truth, patients, folds = truth_of(result), patients_of(result), table["fold"].to_numpy(np.int64)
    by_fold, guessed, learnt = fold_metrics(result), fold_metrics(result, "guess"), train_metrics(result)
    found, redrawn = intervals(truth, result.scores, folds, patients, seed, ordinal=task.ordinal)
    known = not (table["patient"].astype(str) == "").any()
    each = patient_level(truth, result.scores, folds, repeat_of(result), patients, task, seed) if known else None
    visit = visit_level(result, truth, patients, seed)
    delong = clustered_auroc(truth, result.scores, folds, patients) if task.classes else None
    return Summary(
        folds=by_fold,
        mean=_means(by_fold),
        sd=_sds(by_fold),
        sd_repeats=_sd_of_repeats(by_fold, result),
        interval=found,
        redrawn=redrawn,
        guess=_means(guessed),
        median=_means(fold_metrics(result, "median")) if "median" in result.folds else {},
        patient=each.values if each else {},
        patient_interval=each.interval if each else {},
        patients_per_class={name: len(np.unique(patients[truth == c])) for c, name in enumerate(task.classes)},
        mixed_patients=each.mixed if each else 0,
        calibration=calibration(truth, result.scores, calibrated(result)) if task.classes else {},
        delong=(delong.low, delong.high) if delong and not np.isnan(delong.low) else None,
        visit=visit.values,
        visit_interval=visit.interval,
        visits=visit.units,
        reduced=()
        if task.classes
        else find_reduced(truth, result.scores[:, 0], folds, patients, thresholds_of(result), seed),
        train=_means(learnt),
        train_sd=_sds(learnt),
    )


def thresholds_of(result: Result) -> tuple[float, ...]:
    """Return the thresholds below which numbers are positive: those asked for; of an ejection fraction `THRESHOLDS`; none."""
    names = {str(result.settings.get("task", "")).casefold(), result.task.column.casefold()}
    return tuple(map(float, result.settings.get("thresholds", THRESHOLDS if "ef" in names else ())))


def visit_level(result: Result, truth: np.ndarray, patients: np.ndarray, seed: int = 0) -> PatientLevel:
    """Return the metrics with one prediction a visit; nothing where visits are not known of every video."""
    table = result.predictions
    if "visit" not in table or (table["visit"] == "").any():
        return PatientLevel({}, {}, 0, 0)
    folds, visits = table["fold"].to_numpy(np.int64), table["visit"].to_numpy(str)
    return patient_level(truth, result.scores, folds, repeat_of(result), patients, result.task, seed, visits)


def train_metrics(result: Result) -> pd.DataFrame:
    """Return one row a fold, one column a metric, of what its probe says of the videos it learnt from; none where not kept."""
    if result.train is None:
        return pd.DataFrame()
    task, rows = result.task, {}
    for fold, table in result.train.groupby("part"):
        scores = table[score_columns(task)].to_numpy(np.float64)
        if task.classes:
            index = {name: i for i, name in enumerate(task.classes)}
            rows[fold] = metrics.classification(table["truth"].map(index).to_numpy(np.int64), scores, task.ordinal)
        else:
            rows[fold] = metrics.regression(table["truth"].to_numpy(np.float64), scores[:, 0])
    return pd.DataFrame.from_dict(rows, orient="index")


def fold_metrics(result: Result, guess: str = "") -> pd.DataFrame:
    """Return one row a fold, one column a metric.

    With `guess` ("guess" or "median", a column of `Result.folds`): of whoever only knows the training part's labels.
    """
    truth, scores, folds = truth_of(result), result.scores, result.predictions["fold"].to_numpy()
    guesses = dict(zip(result.folds["fold"], result.folds[guess], strict=True)) if guess else {}
    rows = {}
    for fold in np.unique(folds):
        own = folds == fold
        told = np.tile(np.array(guesses[fold], float), (own.sum(), 1)) if guess else scores[own]
        if result.task.kind == "regression":
            rows[fold] = metrics.regression(truth[own], told[:, 0])
        else:
            rows[fold] = metrics.classification(truth[own], told, result.task.ordinal)
    return pd.DataFrame.from_dict(rows, orient="index")


def truth_of(result: Result) -> np.ndarray:
    """Return the class index (int64) of each row of the predictions, or the number (float64)."""
    column = result.predictions["truth"]
    if result.task.kind == "regression":
        return column.to_numpy(np.float64)
    return column.map({name: i for i, name in enumerate(result.task.classes)}).to_numpy(np.int64)


def patients_of(result: Result) -> np.ndarray:
    """Return the patient of each row of the predictions; where not known, the video."""
    names = result.predictions["patient"].astype(str)
    return names.where(names != "", result.predictions["video_id"]).to_numpy(str)


def repeat_of(result: Result) -> np.ndarray:
    """Return which repeat of cross-validation each row of the predictions belongs to."""
    folds = result.predictions["fold"].to_numpy(np.int64)
    return folds // result.settings["folds"] if result.settings.get("repeats", 1) > 1 else np.zeros_like(folds)


def calibrated(result: Result) -> Float[np.ndarray, "v c"] | None:
    """Return the probabilities after each fold's temperature; None where none was fitted."""
    if not result.temperatures:
        return None
    of_fold = dict(zip(result.folds["fold"], result.temperatures, strict=True))
    temperatures = result.predictions["fold"].map(of_fold).to_numpy(np.float64)
    return apply_temperature(result.scores, temperatures[:, None])


def _means(by_fold: pd.DataFrame) -> dict[str, float]:
    return {str(name): float(values.mean()) for name, values in by_fold.items()}


def _sds(by_fold: pd.DataFrame) -> dict[str, float]:
    return {str(name): float(values.std(ddof=1)) for name, values in by_fold.items()}


def _sd_of_repeats(by_fold: pd.DataFrame, result: Result) -> dict[str, float]:
    if result.settings.get("repeats", 1) < 2:
        return {}
    means = by_fold.groupby(by_fold.index // result.settings["folds"]).mean()
    return {str(name): float(values.std(ddof=1)) for name, values in means.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and np.isnan(value) else value
