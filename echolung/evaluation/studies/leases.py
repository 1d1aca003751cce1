"""Who works on which trial, and what becomes of the trials of a worker that died.

A database has Optuna's heartbeat. A journal has none: there a trial's attributes hold its worker and the time of its last
sign of life. A trial without one for as long as the lease is failed, which only one worker can do, and whoever did queues
its parameters again.
"""

import threading
import time
from collections.abc import Iterable, Sequence
from types import TracebackType

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from echolung.evaluation.studies.storage import LOST, Storage, ask_again, quiet

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
"""States of the trials that count."""


class Leases:
    """Gives signs of life for the trials of this worker, from a thread, while the block runs.

    Args:
        storage: where the trials are.
        worker: a name no other worker has.
    """

    def __init__(self, storage: Storage, worker: str) -> None:
        self.storage, self.worker = storage, worker
        self._trials: dict[int, optuna.Trial] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_on, daemon=True)

    def __enter__(self) -> "Leases":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def take(self, trials: Iterable[optuna.Trial]) -> None:
        """Start to give signs of life for trials that this worker was just given."""
        taken = {trial._trial_id: trial for trial in trials}
        with self.storage.together():
            self._sign(taken)
            for trial in taken.values():
                trial.set_user_attr("worker", self.worker)
        self._trials |= taken

    def drop(self, trial: optuna.Trial) -> None:
        """Stop to give signs of life for a trial."""
        self._trials.pop(trial._trial_id, None)

    def _keep_on(self) -> None:
        while not self._stop.wait(self.storage.lease / 4):
            try:
                with self.storage.together():
                    self._sign(dict(self._trials))
            except (*LOST, OSError):
                continue  # a storage that has gone away is told of by the thread that trains

    def _sign(self, trials: dict[int, optuna.Trial]) -> None:
        if database := self.storage.database:
            for number in trials:
                database.record_heartbeat(number)
            return
        for number in trials:
            self.storage.optuna.set_trial_user_attr(number, "lease", time.time())


def take_up(storage: Storage, study: optuna.Study) -> None:
    """Fail the running trials of a study whose worker gives no sign of life, and queue their parameters."""
    if storage.database:
        with quiet():
            optuna.storages.fail_stale_trials(study)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if _silent(trial, storage):
            give_up(study, trial)


def give_up(study: optuna.Study, trial: FrozenTrial) -> None:
    """Fail a running trial and queue its parameters, unless it is finished by now."""
    if fail(study, trial.number):
        ask_again(study, trial)


def fail(study: optuna.Study, number: int) -> bool:
    """Fail a running trial; return whether it was this call that did."""
    try:
        study.tell(number, state=TrialState.FAIL)
    except (ValueError, UpdateFinishedTrialError):  # finished already: seen at once, or on writing
        return False
    return True


def _silent(trial: FrozenTrial, storage: Storage) -> bool:
    if storage.database and "worker" in trial.user_attrs:
        return False  # its heart beats, or `fail_stale_trials` has just failed it
    began = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
    return time.time() - max(began, trial.user_attrs.get("lease", 0.0)) > storage.lease


def open_places(trials: Sequence[FrozenTrial], wanted: int) -> int:
    """Return how many trials may still be asked for where `wanted` are to be finished."""
    return wanted - sum(trial.state in (*FINISHED, TrialState.RUNNING) for trial in trials)


def is_surplus(trials: Sequence[FrozenTrial], number: int, wanted: int) -> bool:
    """Whether a trial is one too many: several workers may ask for the last open place at once.

    Those with lower numbers have the places. Failed ones have none, and trials only ever turn into failed ones, so at most
    `wanted` are ever kept, without anybody waiting for anybody.
    """
    return sum(trial.number < number and trial.state != TrialState.FAIL for trial in trials) >= wanted
