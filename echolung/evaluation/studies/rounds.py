"""A round: trials of several studies, each with its inner folds, trained in one bank; values told, the hopeless pruned."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import optuna
from jaxtyping import Float32
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from echolung.evaluation.selection import HeldOut
from echolung.evaluation.studies.leases import Leases
from echolung.evaluation.studies.problem import Problem
from echolung.evaluation.studies.storage import Storage
from echolung.probes import Job

LOOKS = 10
"""How often in its training a trial is shown to the pruner. To a journal it reports every epoch, all trials at once; to a
database, where each value is a transaction, only when it is looked at."""


@dataclass(eq=False)
class Entry:
    """A trial in training: of which study, as which jobs, what they came to so far, and whether it has ended."""

    study: optuna.Study
    trial: optuna.Trial
    jobs: list[Job]
    held: HeldOut
    over: bool = False


class Round:
    """Trains trials together and tells their studies.

    A trial's value is the least of its pooled inner-fold losses over epochs; its epoch is kept as the attribute `epoch`. One
    whose training diverged has the value inf: samplers learn from it, and it is never chosen.
    """

    def __init__(self, problem: Problem, storage: Storage, leases: Leases, entries: Sequence[Entry]) -> None:
        self.problem, self.storage, self.leases, self.entries = problem, storage, leases, entries
        self.jobs = [job for entry in entries for job in entry.jobs]
        self.owners = [entry for entry in entries for _ in entry.jobs]

    def run(self) -> None:
        """Train, report, prune and tell."""
        self.problem.setup.fit(self.jobs, self.on_epoch)
        self._tell(self.entries)

    def on_epoch(self, epoch: int, indices: Sequence[int], outputs: Float32[np.ndarray, "p v c"]) -> set[int]:
        """Take outputs after an epoch; return the jobs that need no more training."""
        ready = []
        for i, output in zip(indices, outputs, strict=True):
            entry = self.owners[i]
            if not entry.over and entry.held.add(epoch, self.jobs[i], output):
                ready.append(entry)
        if epoch == self.problem.setup.training.epochs:
            self._tell(ready)
        else:
            self._report(epoch, ready)
        return {i for i in indices if self.owners[i].over}

    def _report(self, epoch: int, ready: Sequence[Entry]) -> None:
        look = epoch % max(1, self.problem.setup.training.epochs // LOOKS) == 0
        if self.storage.database and not look:
            return
        with self.storage.together():
            for entry in ready:
                try:
                    entry.trial.report(float(entry.held.mean[epoch - 1]), epoch)
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
                value, epoch = entry.held.best()
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
