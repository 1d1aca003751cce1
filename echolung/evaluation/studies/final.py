"""What comes of the trials: each part's choice, each outer fold predicted once by it, the probe that is kept."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from echolung.errors import RunError
from echolung.evaluation.protocols import fewer_inner_folds
from echolung.evaluation.result import Result, build_result
from echolung.evaluation.selection import Choice
from echolung.evaluation.studies.problem import Problem
from echolung.evaluation.studies.search import at_edges
from echolung.probes import Job
from echolung.text import listed


def choose_best(part: str, trials: Sequence[FrozenTrial], problem: Problem) -> Choice:
    """Return the trial of least value, of several the first."""
    finite = [trial for trial in trials if is_finite(trial)]
    if not finite:
        raise RunError(
            f"No trial of {part} came to an end with a finite loss ({len(trials)} begun). Check the labels for extreme "
            "values, lower the learning rates searched, or use --pruner none."
        )
    best = min(finite, key=lambda trial: (trial.value, trial.number))
    return Choice({**problem.fixed, **best.params}, best.user_attrs["epoch"])


def is_finite(trial: FrozenTrial) -> bool:
    """Whether a trial came to its end, and has not diverged."""
    return trial.state == TrialState.COMPLETE and trial.value is not None and math.isfinite(trial.value)


def refit(problem: Problem, choices: Mapping[str, Choice], about: dict[str, Any], flat: bool) -> Result:
    """Train each outer fold with its choice and predict its test rows; train the probe that is kept on everything."""
    data, outer = problem.setup.data, problem.outer
    picks = [choices["all" if flat else f"fold-{fold}"] for fold in range(outer.count)]
    jobs = [Job(c.setting, outer.train(i), keep=c.epoch, watch=outer.test(i)) for i, c in enumerate(picks)]
    whole = np.ones(len(data.targets), bool)
    jobs.append(Job(choices["all"].setting, whole, keep=choices["all"].epoch, watch=~whole))
    scores = np.full((len(data.targets), data.outputs), np.nan)

    def keep(epoch: int, indices: Sequence[int], outputs: np.ndarray) -> None:
        for i, output in zip(indices, outputs, strict=True):
            if i < outer.count and epoch == picks[i].epoch:
                scores[outer.test(i)] = output[outer.test(i)]

    arrays = problem.setup.fit(jobs, keep)[-1]
    notes = [*data.notes, *_edges(problem, choices)]
    if flat:
        notes.insert(0, _optimistic(about, outer.count))
    else:
        notes += fewer_inner_folds(problem.settings["inner_folds"])
    settings = {**problem.settings, "study": about}
    final = (choices["all"], arrays)
    return build_result(data, outer, range(outer.count), scores, picks, settings, notes, final)


def _optimistic(about: Mapping[str, Any], folds: int) -> str:
    return (
        f"Optimistic: the best of {sum(about['told'].values())} trials was chosen on the very {folds} folds it is scored on. "
        "Without --flat every fold is scored by a study that has not seen it."
    )


def _edges(problem: Problem, choices: Mapping[str, Choice]) -> list[str]:
    """Return a sentence for each hyper-parameter that was chosen at the edge of what was searched."""
    found: dict[tuple[str, str], list[str]] = {}
    for part, choice in choices.items():
        for name, side in at_edges(problem.space, problem.setup.kind.hyper, choice.setting).items():
            found.setdefault((name, side), []).append(part)
    lines = []
    for (name, side), parts in found.items():
        low, high = (getattr(problem.space[name], end) for end in ("low", "high"))
        lines.append(
            f"{name} was chosen at the {side} edge of {low:g} to {high:g} by {listed(parts)}: better values may lie "
            f"beyond; widen it with --search {name}=LOW:HIGH."
        )
    return lines
