"""An ejection fraction as a classifier: how well the predicted number finds hearts below a threshold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from echolung.evaluation.statistics import weighted
from echolung.evaluation.statistics.resampling import LEVEL, draw_whole

THRESHOLDS = (35.0, 40.0, 45.0, 50.0)
"""Per cent. EchoNet-Dynamic's code draws ROC curves at the same four, there with the preserved hearts (EF above) as positive."""


@dataclass(frozen=True)
class Reduced:
    """Hearts below a threshold against the others.

    Attributes:
        below: the threshold; positive is a true number strictly below it.
        positive: videos below.
        negative: the others.
        auroc: of minus the predicted number, mean over the folds that have both; None where no fold has both.
        interval: its 95 % interval, patients drawn with replacement; None where not defined.
    """

    below: float
    positive: int
    negative: int
    auroc: float | None
    interval: tuple[float, float] | None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return dict(self.__dict__)


def find_reduced(
    truth: Float[np.ndarray, " v"],
    predicted: Float[np.ndarray, " v"],
    folds: Int[np.ndarray, " v"],
    patients: np.ndarray,
    thresholds: Sequence[int | float] = THRESHOLDS,
    seed: int = 0,
) -> tuple[Reduced, ...]:
    """Return the AUROC of finding numbers below each threshold. A threshold with one side empty has none, and says so.

    Args:
        truth: true numbers.
        predicted: predicted numbers, in the same unit.
        folds: which fold's probe scored a video; ranks are compared within a fold only.
        patients: of each video.
        thresholds: in the same unit.
        seed: of the resampling.
    """
    scores = np.stack([predicted, -predicted], 1)  # as the two columns of a classifier; ranks need no probability
    found = []
    for threshold in thresholds:
        low = (truth < threshold).astype(np.int64)
        counts = (float(threshold), int(low.sum()), int((1 - low).sum()))
        area = weighted.value("auroc", low, scores, folds)
        if np.isnan(area):
            found.append(Reduced(*counts, None, None))
            continue
        weights, _ = draw_whole(patients, weighted.lost_classes(low, folds, 2), seed)
        ends = np.nanquantile(weighted.mean_auroc(low, scores, folds, weights), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        found.append(Reduced(*counts, area, (float(ends[0]), float(ends[1]))))
    return tuple(found)
