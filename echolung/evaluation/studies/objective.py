"""An objective for a study of the user's own."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna

from echolung.cache import TokenStore
from echolung.datasets.manifest import Manifest
from echolung.errors import InputError
from echolung.evaluation.selection import losses
from echolung.evaluation.studies.problem import pose
from echolung.evaluation.studies.rounds import Losses
from echolung.evaluation.studies.search import suggest_all


def objective(
    store: TokenStore,
    task: str | None = None,
    manifest: Manifest | None = None,
    *,
    probe: str = "linear",
    cv: int = 5,
    outer: int | None = None,
    group: str | None = None,
    epochs: int | None = None,
    batch: int = 16,
    seed: int = 0,
    device: str = "cpu",
    memory: float = 4e9,
    precision: str = "float32",
    fusion: str = "early",
    fixed: Mapping[str, Any] | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
) -> Callable[[optuna.Trial], float]:
    """Return a function of an Optuna trial, to be minimised: `optuna.create_study().optimize(objective(store), n_trials=50)`.

    It suggests the probe's hyper-parameters, trains the folds of a trial together, reports the pooled held-out loss after
    each epoch, and returns the least; the trial's attribute `epoch` says when that was. Pruners work.

    Args:
        store: the tokens.
        task: name of the task; None: the dataset's first.
        manifest: another table for the same videos; None: the store's own.
        probe: a name in `PROBES`.
        cv: number of outer folds.
        outer: judge trials by the inner folds of this outer fold's training part, so that the fold itself stays unseen; None:
            by the `cv` folds of everything, which makes the least value an optimistic estimate.
        group: "patient", "source" or "video"; None: patients where known.
        epochs: length of training; None: the kind's.
        batch: videos a step.
        seed: of folds, initial parameters and batches.
        device: where probes are trained.
        memory: bytes that tokens and one bank of probes may take together.
        precision: "float32" or "bfloat16", of the products over tokens.
        fusion: "early" joins a video's segments along the token axis, "late" averages the outputs of each.
        fixed: hyper-parameters held at one value, or (a list) chosen from several.
        ranges: name -> (low, high) to search in the place of the probe's own.

    Raises:
        InputError: bad arguments.
    """
    problem = pose(
        store, task, manifest, probe=probe, cv=cv, group=group, flat=outer is None, fixed=fixed or {}, ranges=ranges or {},
        epochs=epochs, batch=batch, seed=seed, device=device, memory=memory, precision=precision,
        fusion=fusion, tell=lambda text: None,
    )  # fmt: skip
    if outer is not None and not 0 <= outer < cv:
        raise InputError(f"outer {outer} must be one of the {cv} folds, 0 to {cv - 1}.")
    part = problem.parts[outer or 0]
    targets = problem.setup.data.targets

    def judge(trial: optuna.Trial) -> float:
        parameters = suggest_all(trial, problem.space)
        jobs, seen, pruned = problem.jobs(part, parameters, 0), Losses.of(part, problem.setup.training.epochs), False

        def on_epoch(epoch: int, indices: Sequence[int], outputs: np.ndarray) -> Sequence[int]:
            nonlocal pruned
            for i, output in zip(indices, outputs, strict=True):
                held = jobs[i].watch
                if not pruned and seen.add(epoch, float(losses(output[held], targets[held]).sum())):
                    trial.report(seen.mean(epoch), epoch)
                    pruned = trial.should_prune()
            return range(len(jobs)) if pruned else ()

        problem.setup.fit(jobs, on_epoch)
        if pruned:
            raise optuna.TrialPruned
        value, epoch = seen.best()
        trial.set_user_attr("epoch", epoch)
        return value

    return judge
