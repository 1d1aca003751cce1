"""Would labels that mean nothing have scored as well? The whole nested procedure, again and again with permuted labels."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from echolung.cache import TokenStore
from echolung.datasets.manifest import Manifest
from echolung.errors import InputError
from echolung.evaluation import metrics
from echolung.evaluation.nested import divide
from echolung.evaluation.parts import Part, choose_inside, refit
from echolung.evaluation.question import Question
from echolung.evaluation.setup import Setup, set_up
from echolung.evaluation.splits import Folds, Units
from echolung.evaluation.statistics.permutation import p_value, shuffle_patients
from echolung.probes import find_kind, settings_with
from echolung.probes.jobs import Setting

AT_ONCE = 8
"""Permutations that are trained in one bank, where memory allows."""

REDRAWS = 20
"""Permutations that may be drawn until one can be divided into folds."""


@dataclass(frozen=True)
class PermutationTest:
    """What came of permuted labels.

    Attributes:
        metric: what is compared: "balanced_accuracy" or "mae", mean over folds.
        observed: of the true labels.
        null: of each permutation.
        p: share of permutations (and the true labels) that do as well as the true labels, (1 + #) / (1 + n).
        redrawn: permutations that could not be divided into folds, and were drawn anew.
    """

    metric: str
    observed: float
    null: Float[np.ndarray, " n"]
    p: float
    redrawn: int

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        about = {"kind": "whole nested procedure, labels permuted by patient", "permutations": len(self.null)}
        spread = {"null_mean": float(self.null.mean()), "null_95": float(np.quantile(self.null, 0.95))}
        return {
            **about,
            "metric": self.metric,
            "observed": self.observed,
            "p": self.p,
            **spread,
            "redrawn": self.redrawn,
        }


def permutation_test(
    store: TokenStore,
    task: str | None = None,
    manifest: Manifest | None = None,
    *,
    permutations: int = 200,
    progress: Callable[[int], None] = lambda count: None,
    **asked: Any,
) -> PermutationTest:
    """Return how the nested procedure scores when a patient receives another patient's labels.

    Folds are made anew for every permutation, settings are chosen anew, and nothing is carried over: what the procedure as a
    whole makes of chance.

    Args:
        store: the tokens.
        task: as in `Question`.
        manifest: as in `Question`.
        permutations: how many; p cannot be less than 1 / (1 + permutations).
        progress: is told after each bank how many permutations it held.
        asked: the other fields of `Question`.

    Raises:
        InputError: whatever `cross_validate` raises; fewer than one permutation.
    """
    if permutations < 1:
        raise InputError(f"--permutations {permutations}: there must be 1 at least; 200 tell p = 0.005 from chance.")
    question = Question(task, manifest, **asked)
    grid = settings_with(question.probe, find_kind(question.probe).settings, question.hyper)
    setup = set_up(store, question, grid)
    observed = divide(setup.units, question.cv, question.seed)
    true = _scores(setup, grid, [_Draw(setup.data.targets, *observed)])[0]
    null, redrawn = list[float](), 0
    for draws in _batches(setup, permutations):
        null += _scores(setup, grid, draws)
        redrawn += sum(draw.redrawn for draw in draws)
        progress(len(draws))
    better = setup.data.task.kind != "regression"
    values = np.array(null)
    return PermutationTest(
        metrics.MAIN[setup.data.task.kind], true, values, p_value(true, values, larger_is_better=better), redrawn
    )


@dataclass(frozen=True)
class _Draw:
    """One permutation: its labels, outer folds and parts, the last of which is everything and not needed."""

    targets: np.ndarray
    outer: Folds
    parts: list[Part]
    redrawn: int = 0


def _batches(setup: Setup, permutations: int) -> Iterator[list[_Draw]]:
    for start in range(0, permutations, AT_ONCE):
        yield [_draw(setup, number) for number in range(start, min(start + AT_ONCE, permutations))]


def _draw(setup: Setup, number: int) -> _Draw:
    data, question = setup.data, setup.question
    patients = data.videos["patient"].fillna("").astype(str).to_numpy()
    people = data.groups if (patients == "").any() else patients
    for attempt in range(REDRAWS):
        seed = int(np.random.default_rng([question.seed, number, attempt]).integers(2**31))
        targets = shuffle_patients(data.targets, people, seed)
        units = Units.of(targets, data.groups, data.level, data.task.classes)
        try:
            return _Draw(targets, *divide(units, question.cv, question.seed, targets), redrawn=attempt)
        except InputError:
            continue
    raise InputError(
        f"None of {REDRAWS} permutations of these labels can be divided into {question.cv} folds: too few patients. Take "
        "fewer folds with --cv."
    )


def _scores(setup: Setup, grid: tuple[Setting, ...], draws: list[_Draw]) -> list[float]:
    """Return the score of each draw, all trained in one bank."""
    cv = setup.question.cv
    parts = [part for draw in draws for part in draw.parts[:-1]]
    choices, _ = choose_inside(setup, grid, parts, None)
    outputs, _ = refit(setup, parts, choices)
    found = []
    for i, draw in enumerate(draws):
        own = np.take_along_axis(outputs[i * cv : (i + 1) * cv], draw.outer.of[None, :, None], 0)[0]
        folds = [draw.outer.test(fold) for fold in range(cv)]
        found.append(float(np.mean([_score(draw.targets[test], own[test]) for test in folds])))
    return found


def balanced_accuracy(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Return the mean recall of the classes that are present."""
    return float(np.mean([(predicted[truth == c] == c).mean() for c in np.unique(truth)]))


def _score(truth: np.ndarray, outputs: np.ndarray) -> float:
    if truth.dtype.kind == "f":
        return metrics.regression(truth.astype(np.float64), outputs[:, 0])["mae"]
    return balanced_accuracy(truth, outputs.argmax(1))
