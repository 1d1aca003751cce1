"""A round: trials of several studies, each with its inner folds, trained in one bank; values told, the hopeless pruned."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import optuna
from jaxtyping import Float, Float32, Int
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from echolung.evaluation.selection import losses
from echolung.evaluation.studies.leases import Leases
from echolung.evaluation.studies.problem import Part, Problem
from echolung.evaluation.studies.storage import Storage
from echolung.probes import Job

LOOKS = 10
"""How often in its training a trial is shown to the pruner. To a journal it reports every epoch, all trials at once; to a
database, where each value is a transaction, only when it is looked at."""


@dataclass
class Losses:
    """The loss of a trial's held-out videos after each epoch, added up over its folds as they come in.

    Attributes:
        total: [epochs] sum over videos.
        folds: [epochs] number of folds in it.
        videos: number of videos in all folds.
        count: number of folds.
    """

    total: Float[np.ndarray, " epochs"]
    folds: Int[np.ndarray, " epochs"]
    videos: int
    count: int

    @classmethod
    def of(cls, part: Part, epochs: int) -> "Losses":
        """Return those of a part, with nothing in them."""
        videos = int((part.folds.of >= 0).sum())
        return cls(np.zeros(epochs), np.zeros(epochs, np.int64), videos, part.folds.count)

    def add(self, epoch: int, loss: float) -> bool:
        """Add a fold's loss after an epoch (from 1); return whether it was the last fold's."""
        self.total[epoch - 1] += loss
        self.folds[epoch - 1] += 1
        return bool(self.folds[epoch - 1] == self.count)

    def mean(self, epoch: int) -> float:
        """Return the mean over all videos after an epoch."""
        return float(self.total[epoch - 1] / self.videos)

    def best(self) -> tuple[float, int]:
        """Return the least mean over epochs that all folds have reached, and the first such epoch; inf if none is finite."""
        values = np.where((self.folds == self.count) & np.isfinite(self.total), self.total / self.videos, np.inf)
        epoch = int(np.argmin(values))
        return float(values[epoch]), epoch + 1


@dataclass
class Entry:
    """A trial in training."""

    study: optuna.Study
    trial: optuna.Trial
    part: Part
    losses: Losses
    jobs: list[int] = field(default_factory=list)
    over: bool = False


class Round:
    """Trains trials together and tells their studies.

    A trial's value is the least of its pooled inner-fold losses over epochs; its epoch is kept as the attribute `epoch`. One
    whose training diverged has the value inf: samplers learn from it, and it is never chosen.
    """

    def __init__(self, problem: Problem, storage: Storage, leases: Leases, entries: Sequence[Entry]) -> None:
        self.problem, self.storage, self.leases, self.entries = problem, storage, leases, entries
        self.jobs: list[Job] = []
        self.owners: list[Entry] = []
        for group, entry in enumerate(entries):
            jobs = problem.jobs(entry.part, entry.trial.params, group)
            entry.jobs = list(range(len(self.jobs), len(self.jobs) + len(jobs)))
            self.jobs += jobs
            self.owners += [entry] * len(jobs)

    def run(self) -> None:
        """Train, report, prune and tell."""
        self.problem.setup.fit(self.jobs, self.on_epoch)
        self._tell(self.entries)

    def on_epoch(self, epoch: int, indices: Sequence[int], outputs: Float32[np.ndarray, "p v c"]) -> set[int]:
        """Take outputs after an epoch; return the jobs that need no more training."""
        targets, ready = self.problem.setup.data.targets, []
        for index, output in zip(indices, outputs, strict=True):
            entry, held = self.owners[index], self.jobs[index].watch
            if not entry.over and entry.losses.add(epoch, float(losses(output[held], targets[held]).sum())):
                ready.append(entry)
        if epoch == self.problem.setup.training.epochs:
            self._tell(ready)
        else:
            self._report(epoch, ready)
        return {job for entry in ready if entry.over for job in entry.jobs}

    def _report(self, epoch: int, ready: Sequence[Entry]) -> None:
        look = epoch % max(1, self.problem.setup.training.epochs // LOOKS) == 0
        if self.storage.database and not look:
            return
        with self.storage.together():
            for entry in ready:
                try:
                    entry.trial.report(entry.losses.mean(epoch), epoch)
                except UpdateFinishedTrialError:  # taken up by another worker
                    self._close(entry)
        hopeless = [entry for entry in ready if look and not entry.over and entry.trial.should_prune()]
        with self.storage.together():
            for entry in hopeless:
                self._finish(entry, None, TrialState.PRUNED)

    def _tell(self, ready: Sequence[Entry]) -> None:
        with self.storage.together():
            for entry in ready:
                if entry.over:
                    continue
                value, epoch = entry.losses.best()
                try:
                    entry.trial.set_user_attr("epoch", epoch)
                except UpdateFinishedTrialError:
                    self._close(entry)
                    continue
                self._finish(entry, value, TrialState.COMPLETE)

    def _finish(self, entry: Entry, value: float | None, state: TrialState) -> None:
        # Another worker may have taken it up meanwhile, if this one was out of reach for longer than the lease.
        with suppress(UpdateFinishedTrialError):
            entry.study.tell(entry.trial, value, state, skip_if_finished=True)
        self._close(entry)

    def _close(self, entry: Entry) -> None:
        entry.over = True
        self.leases.drop(entry.trial)
