"""Choosing a setting and an epoch by the loss of pooled held-out predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32

from echolung.evaluation.data import TaskData


@dataclass(frozen=True)
class Choice:
    """A setting, and the epoch (from 1) after which training is stopped."""

    setting: Mapping[str, float]
    epoch: int


class Collector:
    """Adds up, for every part, setting and epoch, the loss of the videos that were held out.

    Args:
        data: the videos and targets.
        owners: for each job (part it chooses for, [v] videos held out); jobs come setting by setting within each.
        settings: number of settings.
        epochs: number of epochs.
        parts: number of parts.
    """

    def __init__(
        self,
        data: TaskData,
        owners: Sequence[tuple[int, Bool[np.ndarray, " v"]]],
        settings: int,
        epochs: int,
        parts: int,
    ) -> None:
        self.data, self.owners, self.settings = data, owners, settings
        self.totals = np.zeros((parts, settings, epochs))
        held = np.zeros((parts, settings))
        for job, (part, videos) in enumerate(owners):
            held[part, job % settings] += videos.sum()
        self.held = held

    def on_epoch(self, epoch: int, jobs: Sequence[int], outputs: Float32[np.ndarray, "p v c"]) -> None:
        """Take the outputs of some jobs after an epoch."""
        for job, output in zip(jobs, outputs, strict=True):
            part, videos = self.owners[job]
            self.totals[part, job % self.settings, epoch - 1] += losses(output[videos], self.data.targets[videos]).sum()

    @property
    def losses(self) -> Float[np.ndarray, "parts settings epochs"]:
        """Mean loss over all videos held out in a part's inner folds, pooled."""
        return self.totals / self.held[:, :, None]


def losses(outputs: Float32[np.ndarray, "v c"], targets: np.ndarray) -> Float[np.ndarray, " v"]:
    """Return each video's log-loss (classes: `outputs` are logits) or squared error (numbers)."""
    outputs = outputs.astype(np.float64)
    if targets.dtype.kind == "f":
        return (outputs[:, 0] - targets) ** 2
    top = outputs.max(1)
    return top + np.log(np.exp(outputs - top[:, None]).sum(1)) - outputs[np.arange(len(targets)), targets]


def choose(loss: Float[np.ndarray, "settings epochs"], settings: Sequence[Mapping[str, float]]) -> Choice:
    """Return the setting and epoch of least loss; at a tie the earlier setting in the list, then the earlier epoch.

    A setting that diverged (NaN) is never the best.
    """
    setting, epoch = np.unravel_index(int(np.argmin(np.where(np.isnan(loss), np.inf, loss))), loss.shape)
    return Choice(settings[int(setting)], int(epoch) + 1)
