"""What comes of the trials: each part's choice, each outer fold predicted once by it, the probe that is kept."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from echolung.errors import RunError
from echolung.evaluation.nested import calibrated
from echolung.evaluation.parts import Part, fewer_inner_folds, inner_table, predict_inside, refit
from echolung.evaluation.result import Result, build_result
from echolung.evaluation.selection import Choice
from echolung.evaluation.splits import Folds
from echolung.evaluation.studies.problem import Problem
from echolung.evaluation.studies.search import at_edges
from echolung.probes.saved import with_provenance
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


def conclude(problem: Problem, choices: Mapping[str, Choice], about: dict[str, Any], flat: bool) -> Result:
    """Train each outer fold with its choice and predict its test rows; train the probe that is kept on everything."""
    setup, outer, data = problem.setup, problem.outer, problem.setup.data
    picks = [choices["all" if flat else f"fold-{fold}"] for fold in range(outer.count)]
    tests = [outer.test(fold) for fold in range(outer.count)]
    whole = np.ones(len(data.targets), bool)
    everything = Part(Folds(np.zeros(len(whole), np.int64), 1), ~whole, keep=True)
    inner = [_inner(problem, fold) for fold in range(outer.count)]
    parts = [*(Part(folds, test) for folds, test in zip(inner, tests, strict=True)), everything]
    outputs, arrays = refit(setup, parts, [*picks, choices["all"]])
    scores = np.take_along_axis(outputs[:-1], outer.of[None, :, None], 0)[0]
    notes = [*data.notes, *_edges(problem, choices)]
    if flat:
        notes.insert(0, _optimistic(about, outer.count))
    else:
        notes += fewer_inner_folds(problem.settings["inner_folds"])
    settings = {**problem.settings, "study": about}
    final = (choices["all"], arrays[-1])
    result = build_result(data, outer, range(outer.count), scores, picks, settings, notes, final)
    if result.probe is not None:
        result = replace(result, probe=with_provenance(result.probe, setup.store, data.videos))
    if flat:
        return result
    held = predict_inside(setup, parts[:-1], picks)
    return calibrated(replace(result, inner=inner_table(setup, held, range(outer.count))))


def _inner(problem: Problem, fold: int) -> Folds:
    """Return the folds inside an outer training part; of a flat study, which has none, that part as one fold."""
    found = next((part.folds for part in problem.parts if part.name == f"fold-{fold}"), None)
    return found or Folds(np.where(problem.outer.train(fold), 0, -1), 1)


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
