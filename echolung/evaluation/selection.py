"""Choosing a setting and an epoch by the loss of pooled held-out predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32

from echolung.errors import RunError
from echolung.evaluation.data import TaskData


@dataclass(frozen=True)
class Choice:
    """A setting, and the epoch (from 1) after which training is stopped."""

    setting: Mapping[str, Any]
    epoch: int


class Collector:
    """Adds up, for every part, setting and epoch, the loss of the videos that were held out.

    Args:
        data: the videos and targets.
        owners: for each job (part it chooses for, [v] videos held out); jobs come setting by setting within each.
        settings: number of settings.
        epochs: number of epochs.
        parts: number of parts.
        patience: epochs without a lesser loss after which a setting is trained no further; None: to its end.
    """

    def __init__(
        self,
        data: TaskData,
        owners: Sequence[tuple[int, Bool[np.ndarray, " v"]]],
        settings: int,
        epochs: int,
        parts: int,
        patience: int | None = None,
    ) -> None:
        self.data, self.owners, self.settings, self.patience = data, owners, settings, patience
        self.totals = np.zeros((parts, settings, epochs))
        self.counted = np.zeros((parts, settings, epochs), int)
        self.held = np.zeros((parts, settings), int)
        self.jobs: dict[tuple[int, int], list[int]] = {}
        for job, (part, videos) in enumerate(owners):
            self.held[part, job % settings] += videos.sum()
            self.jobs.setdefault((part, job % settings), []).append(job)

    def on_epoch(self, epoch: int, jobs: Sequence[int], outputs: Float32[np.ndarray, "p v c"]) -> list[int]:
        """Take the outputs of some jobs after an epoch; return those that have stopped getting better."""
        touched = set()
        for job, output in zip(jobs, outputs, strict=True):
            part, videos = self.owners[job]
            cell = part, job % self.settings, epoch - 1
            self.totals[cell] += losses(output[videos], self.data.targets[videos]).sum()
            self.counted[cell] += videos.sum()
            touched.add(cell[:2])
        if self.patience is None:
            return []
        return [
            job
            for part, setting in touched
            if self._has_stalled(part, setting, epoch)
            for job in self.jobs[part, setting]
        ]

    def _has_stalled(self, part: int, setting: int, epoch: int) -> bool:
        known = self.losses[part, setting, :epoch]
        # Where memory parts the folds of a setting into several passes its loss is not known yet, and it goes on.
        return not np.isnan(known).any() and epoch - 1 - int(np.argmin(known)) >= (self.patience or 0)

    @property
    def losses(self) -> Float[np.ndarray, "parts settings epochs"]:
        """Mean loss over all videos held out in a part's inner folds, pooled; NaN where not all of them are known."""
        whole = self.counted == self.held[:, :, None]
        return np.where(whole, self.totals / self.held[:, :, None], np.nan)


def losses(outputs: Float32[np.ndarray, "v c"], targets: np.ndarray) -> Float[np.ndarray, " v"]:
    """Return each video's log-loss (classes: `outputs` are logits) or squared error (numbers)."""
    outputs = outputs.astype(np.float64)
    if targets.dtype.kind == "f":
        return (outputs[:, 0] - targets) ** 2
    top = outputs.max(1)
    return top + np.log(np.exp(outputs - top[:, None]).sum(1)) - outputs[np.arange(len(targets)), targets]


def choose(loss: Float[np.ndarray, "settings epochs"], settings: Sequence[Mapping[str, Any]]) -> Choice:
    """Return the setting and epoch of least loss; at a tie the earlier setting in the list, then the earlier epoch.

    A setting that diverged (NaN) is never the best; RunError where all did.
    """
    if np.isnan(loss).all():
        raise RunError(
            "Every setting diverged in training. Check the labels for extreme values, or take smaller learning rates."
        )
    setting, epoch = np.unravel_index(int(np.argmin(np.where(np.isnan(loss), np.inf, loss))), loss.shape)
    return Choice(settings[int(setting)], int(epoch) + 1)
