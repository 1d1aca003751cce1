"""Choosing a setting and an epoch by the loss of pooled held-out predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Float32

from echolung.errors import RunError
from echolung.probes import Job


@dataclass(frozen=True)
class Choice:
    """A setting, and the epoch (from 1) after which training is stopped."""

    setting: Mapping[str, Any]
    epoch: int


class HeldOut:
    """The loss after each epoch of the videos that a setting's folds hold out, pooled as the folds come in.

    Args:
        targets: [v] of all videos; where the jobs have targets of their own, these count.
        jobs: the setting's, one a fold; each watches the videos that it holds out.
        epochs: length of training.
    """

    def __init__(self, targets: np.ndarray, jobs: Sequence[Job], epochs: int) -> None:
        self.targets = targets if jobs[0].targets is None else jobs[0].targets
        self.videos = sum(int(self._held(job).sum()) for job in jobs)
        self.total, self.right, self.counted = np.zeros(epochs), np.zeros(epochs), np.zeros(epochs, np.int64)

    def add(self, epoch: int, job: Job, output: Float32[np.ndarray, "v c"]) -> bool:
        """Add a job's output after an epoch (from 1); return whether the outputs of all jobs are in."""
        held = self._held(job)
        self.total[epoch - 1] += losses(output[held], self.targets[held]).sum()
        self.right[epoch - 1] += (output[held].argmax(-1) == self.targets[held]).sum()
        self.counted[epoch - 1] += held.sum()
        return bool(self.counted[epoch - 1] == self.videos)

    def _held(self, job: Job) -> Bool[np.ndarray, " v"]:
        return np.ones(len(self.targets), bool) if job.watch is None else job.watch

    @property
    def mean(self) -> Float[np.ndarray, " epochs"]:
        """Mean over all videos held out; NaN after epochs of which a job has not come in."""
        return np.where(self.counted == self.videos, self.total / self.videos, np.nan)

    @property
    def accuracy(self) -> Float[np.ndarray, " epochs"]:
        """Share of all videos held out that are classified rightly; NaN as in `mean`, and of numbers."""
        known = (self.counted == self.videos) & (self.targets.dtype.kind != "f")
        return np.where(known, self.right / self.videos, np.nan)

    def best(self) -> tuple[float, int]:
        """Return the least mean and the first epoch that has it; inf if none is known and finite."""
        known = np.where(np.isfinite(self.mean), self.mean, np.inf)
        epoch = int(np.argmin(known))
        return float(known[epoch]), epoch + 1

    def has_stalled(self, epoch: int, patience: int) -> bool:
        """Whether the least mean is `patience` epochs old. One that diverged, or is not wholly known, has not."""
        known = self.mean[:epoch]
        return not np.isnan(known).any() and epoch - 1 - int(np.argmin(known)) >= patience


class Collector:
    """Pools the held-out losses of jobs by what they are to choose: for every part, a setting and an epoch.

    Args:
        targets: [v] of all videos.
        jobs: what is trained; each watches the videos that it holds out.
        owners: for each job (part it chooses for, place of its setting).
        epochs: length of training.
        patience: epochs without a lesser loss after which a setting is trained no further; None: to its end.
    """

    def __init__(
        self,
        targets: np.ndarray,
        jobs: Sequence[Job],
        owners: Sequence[tuple[int, int]],
        epochs: int,
        patience: int | None = None,
    ) -> None:
        self.jobs, self.owners, self.patience = jobs, owners, patience
        folds: dict[tuple[int, int], list[Job]] = {}
        for job, owner in zip(jobs, owners, strict=True):
            folds.setdefault(owner, []).append(job)
        self.held = {owner: HeldOut(targets, own, epochs) for owner, own in folds.items()}

    def on_epoch(self, epoch: int, indices: Sequence[int], outputs: Float32[np.ndarray, "p v c"]) -> list[int]:
        """Take the outputs of some jobs after an epoch; return those that have stopped getting better."""
        stalled = set()
        for i, output in zip(indices, outputs, strict=True):
            held = self.held[self.owners[i]]
            # Where memory parts the folds of a setting into several passes not all are in yet, and it goes on.
            whole = held.add(epoch, self.jobs[i], output)
            if whole and self.patience is not None and held.has_stalled(epoch, self.patience):
                stalled.add(self.owners[i])
        return [i for i, owner in enumerate(self.owners) if owner in stalled] if stalled else []

    @property
    def losses(self) -> Float[np.ndarray, "parts settings epochs"]:
        """Mean loss over all videos held out in a part's inner folds, pooled; NaN where not all of them are known."""
        parts = 1 + max(part for part, _ in self.held)
        means = np.stack([self.held[owner].mean for owner in sorted(self.held)])
        return means.reshape(parts, -1, means.shape[-1])

    def curves(self) -> pd.DataFrame:
        """Return one row a part, setting (its place) and epoch (from 1) that is known: loss, accuracy."""
        tables = [
            pd.DataFrame(
                {
                    "part": part,
                    "setting": place,
                    "epoch": np.arange(1, len(held.mean) + 1),
                    "loss": held.mean,
                    "accuracy": held.accuracy,
                }
            )
            for (part, place), held in sorted(self.held.items())
        ]
        table = pd.concat(tables, ignore_index=True)
        return table[table["loss"].notna()].reset_index(drop=True)


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
