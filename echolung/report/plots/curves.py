"""ROC and precision-recall curves of each fold and their mean."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from echolung.evaluation import Result
from echolung.evaluation.bootstrap import draw_predictions, percentiles
from echolung.evaluation.statistics.weighted import mean_auroc
from echolung.evaluation.summary import patients_of, truth_of
from echolung.report.figures import GREY, WIDTH, colours, new_figure, save_figure, tidy, title_figure
from echolung.report.plots.values import encoder_of, folds_of
from echolung.report.run import Run

GRID = np.linspace(0, 1, 201)
"""False positive rates (ROC) and recalls (PR) at which curves of folds are averaged."""


@dataclass(frozen=True)
class ClassCurves:
    """One class against the rest.

    Attributes:
        name: the class.
        roc: [f, 201] true positive rate at each of `GRID`, a row a fold that has the class and others.
        precision: [f, 201] precision at each recall of `GRID`.
        areas: [f] AUROC.
        averages: [f] average precision.
        interval: 95 % of the mean AUROC over those folds, patients resampled; None where no fold has both.
        folds: how many folds there are in all.
        share: of the scored videos that are of the class.
    """

    name: str
    roc: Float[np.ndarray, "f g"]
    precision: Float[np.ndarray, "f g"]
    areas: Float[np.ndarray, " f"]
    averages: Float[np.ndarray, " f"]
    interval: tuple[float, float] | None
    folds: int
    share: float


def draw_roc_pr(run: Run, path: Path) -> bool:
    """Draw ROC and precision-recall curves: of the last class for two, of each against the rest for more."""
    if not run.result.task.classes:
        return False
    found = [curves for curves in class_curves(run.result) if len(curves.areas)]
    if not found:
        return False
    figure = new_figure(WIDTH, 0.9 + (3.1 if len(found) == 1 else 2.75 * len(found)))
    grid = figure.subplots(len(found), 2, squeeze=False)
    for row, curves, colour in zip(grid, found, colours(len(found)), strict=True):
        _roc(row[0], curves, colour)
        _precision_recall(row[1], curves, colour)
    what = "ROC and precision-recall"
    if len(found) > 1:
        what += ", each class against the rest"
    what += "; mean ± sd over folds [95 %]" if found[0].folds > 1 else ""
    title_figure(figure, what, run.result, encoder_of(run))
    save_figure(figure, path)
    return True


def class_curves(result: Result) -> Iterator[ClassCurves]:
    """Yield the curves of the last class for two, of each class for more."""
    from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

    classes, folds, groups = result.task.classes, folds_of(result), patients_of(result)
    truth, scores = truth_of(result), result.scores
    for c in range(1, 2) if len(classes) == 2 else range(len(classes)):
        positive, score = truth == c, scores[:, c]
        whole = [fold for fold in np.unique(folds) if 0 < positive[folds == fold].mean() < 1]
        parts = [(positive[folds == fold], score[folds == fold]) for fold in whole]
        rates = [roc_curve(*part, drop_intermediate=False)[:2] for part in parts]
        steps = [precision_recall_curve(*part)[:2] for part in parts]
        yield ClassCurves(
            classes[c],
            np.array([np.interp(GRID, *rate) for rate in rates]).reshape(-1, len(GRID)),
            np.array([precision_at(GRID, *step) for step in steps]).reshape(-1, len(GRID)),
            np.array([roc_auc_score(*part) for part in parts]),
            np.array([average_precision_score(*part) for part in parts]),
            _interval(positive.astype(np.int64), score, folds, groups) if whole else None,
            len(np.unique(folds)),
            float(positive.mean()),
        )


def precision_at(
    recalls: Float[np.ndarray, " g"], precision: Float[np.ndarray, " k"], recall: Float[np.ndarray, " k"]
) -> Float[np.ndarray, " g"]:
    """Return the precision at each recall: that of the first threshold that reaches it, as average precision counts it."""
    rising, at = recall[::-1], precision[::-1]
    first = rising[rising > 0][0]  # at recall 0 there is no precision; it is that of the first video found
    return at[np.searchsorted(rising, np.maximum(recalls, first) - 1e-12)]


def _interval(
    truth: Int[np.ndarray, " v"], score: Float[np.ndarray, " v"], folds: Int[np.ndarray, " v"], groups: np.ndarray
) -> tuple[float, float]:
    both = np.stack([1 - score, score], axis=1)
    weights, _ = draw_predictions(truth, both, folds, groups)
    return percentiles(mean_auroc(truth, both, folds, weights))


def _roc(axes: Any, curves: ClassCurves, colour: str) -> None:
    axes.plot([0, 1], [0, 1], color=GREY, lw=0.9, ls=":")
    _bundle(axes, curves.roc, colour)
    axes.plot([0, *GRID], [0, *curves.roc.mean(0)], color=colour, lw=2)
    text = f"AUROC {_spread(curves.areas)}"
    if curves.interval:
        text += f" [{curves.interval[0]:.2f} – {curves.interval[1]:.2f}]"
    if len(curves.areas) < curves.folds:
        text += f", {len(curves.areas)} of {curves.folds} folds"
    tidy(axes, f"{curves.name}\n{text}", "false positive rate", "true positive rate")
    _square(axes)


def _precision_recall(axes: Any, curves: ClassCurves, colour: str) -> None:
    axes.axhline(curves.share, color=GREY, lw=0.9, ls=":")
    _bundle(axes, curves.precision, colour)
    axes.plot(GRID, curves.precision.mean(0), color=colour, lw=2)
    text = f"average precision {_spread(curves.averages)}, guessing {curves.share:.2f}"
    tidy(axes, f"{curves.name}\n{text}", "recall", "precision")
    _square(axes)


def _bundle(axes: Any, lines: Float[np.ndarray, "f g"], colour: str) -> None:
    """Draw the folds as thin lines and mean ± sd as a band, where there are several."""
    if len(lines) < 2:
        return
    mean, sd = lines.mean(0), lines.std(0, ddof=1)
    axes.fill_between(GRID, np.maximum(mean - sd, 0), np.minimum(mean + sd, 1), color=colour, alpha=0.15, lw=0)
    for line in lines:
        axes.plot(GRID, line, color=colour, lw=0.7, alpha=0.45 if len(lines) < 10 else 0.2)


def _square(axes: Any) -> None:
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.03)


def _spread(values: Float[np.ndarray, " f"]) -> str:
    return f"{values.mean():.2f}" + (f" ± {values.std(ddof=1):.2f}" if len(values) > 1 else "")
