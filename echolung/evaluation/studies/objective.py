"""An objective for a study of the user's own."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna

from echolung.cache import TokenStore
from echolung.datasets.manifest import Manifest
from echolung.errors import InputError
from echolung.evaluation.question import Question
from echolung.evaluation.selection import HeldOut
from echolung.evaluation.studies.problem import pose
from echolung.evaluation.studies.search import suggest_all


def objective(
    store: TokenStore,
    task: str | None = None,
    manifest: Manifest | None = None,
    *,
    outer: int | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    **asked: Any,
) -> Callable[[optuna.Trial], float]:
    """Return a function of an Optuna trial, to be minimised: `optuna.create_study().optimize(objective(store), n_trials=50)`.

    It suggests the probe's hyper-parameters, trains the folds of a trial together, reports the pooled held-out loss after
    each epoch, and returns the least; the trial's attribute `epoch` says when that was. Pruners work.

    Args:
        store: the tokens.
        task: as in `Question`.
        manifest: as in `Question`.
        outer: judge trials by the inner folds of this outer fold's training part, so that the fold itself stays unseen; None:
            by the `cv` folds of everything, which makes the least value an optimistic estimate.
        ranges: name -> (low, high) to search in the place of the probe's own.
        asked: the other fields of `Question`, such as probe="mlp".

    Raises:
        InputError: bad arguments.
    """
    question = Question(task, manifest, **asked)
    problem = pose(store, question, ranges or {}, flat=outer is None)
    if outer is not None and not 0 <= outer < question.cv:
        raise InputError(f"outer {outer} must be one of the {question.cv} folds, 0 to {question.cv - 1}.")
    part = problem.parts[outer or 0]

    def judge(trial: optuna.Trial) -> float:
        jobs = problem.jobs(part, suggest_all(trial, problem.space), group=0)
        held = HeldOut(problem.setup.data.targets, jobs, problem.setup.training.epochs)
        pruned = False

        def on_epoch(epoch: int, indices: Sequence[int], outputs: np.ndarray) -> Sequence[int]:
            nonlocal pruned
            for i, output in zip(indices, outputs, strict=True):
                if not pruned and held.add(epoch, jobs[i], output):
                    trial.report(float(held.mean[epoch - 1]), epoch)
                    pruned = trial.should_prune()
            return range(len(jobs)) if pruned else ()

        problem.setup.fit(jobs, on_epoch)
        if pruned:
            raise optuna.TrialPruned
        value, epoch = held.best()
        trial.set_user_attr("epoch", epoch)
        return value

    return judge
