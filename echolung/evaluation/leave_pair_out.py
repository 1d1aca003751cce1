"""Leave-pair-out for cohorts of a few dozen patients: the whole nested procedure without one positive and one negative."""

from collections.abc import Callable
from typing import Any

import numpy as np

from echolung.cache import TokenStore
from echolung.datasets.manifest import Manifest
from echolung.errors import InputError
from echolung.evaluation.data import TaskData, task_data
from echolung.evaluation.parts import Part, choose_inside, refit
from echolung.evaluation.question import Question
from echolung.evaluation.setup import Setup, set_up
from echolung.evaluation.splits import Folds, inner_folds
from echolung.evaluation.statistics.pair_out import LeavePairOut, Pair, auroc_of_pairs, pairs
from echolung.probes import find_kind, settings_with
from echolung.probes.saved import softmax

AT_ONCE = 40
"""Pairs whose probes are trained in one bank, where memory allows."""


def leave_pair_out_auroc(
    store: TokenStore,
    task: str | None = None,
    manifest: Manifest | None = None,
    *,
    most: int = 200,
    progress: Callable[[int], None] = lambda count: None,
    **asked: Any,
) -> LeavePairOut:
    """Return the AUROC over pairs of patients, each pair scored by a probe that was chosen and trained without both.

    Args:
        store: the tokens.
        task: as in `Question`; two classes, of which the last is the positive.
        manifest: as in `Question`.
        most: pairs at most, drawn so that every patient is in about as many.
        progress: is told after each bank how many pairs it held.
        asked: the other fields of `Question`.

    Raises:
        InputError: more than two classes, numbers, folds by something else than patients, or too few patients.
    """
    question = Question(task, manifest, **asked)
    grid = settings_with(question.probe, find_kind(question.probe).settings, question.hyper)
    setup = set_up(store, question, grid)
    _check(setup.data)
    left_out = pairs(setup.data.targets, setup.data.groups, most, question.seed)
    scores = np.full((len(left_out), len(setup.data.targets)), np.nan)
    for start in range(0, len(left_out), AT_ONCE):
        some = left_out[start : start + AT_ONCE]
        parts = [_part(setup, pair) for pair in some]
        choices, _ = choose_inside(setup, grid, parts, None)
        outputs, _ = refit(setup, parts, choices)
        for row, (part, output) in enumerate(zip(parts, outputs, strict=True), start):
            scores[row, part.test] = softmax(output[part.test])[:, 1]
        progress(len(some))
    return auroc_of_pairs(setup.data.targets, setup.data.groups, left_out, scores)


def check_pairs(store: TokenStore, task: str | None, manifest: Manifest | None, group: str | None) -> None:
    """Raise InputError, before anything is trained, where pairs of patients cannot be left out."""
    _check(task_data(store, tuple(store.rows["video_id"].unique()), task, manifest, group))


def _check(data: TaskData) -> None:
    if len(data.task.classes) != 2:
        raise InputError(f"--leave-pair-out needs a task of two classes, and {data.name} is none.")
    if data.level != "patient":
        raise InputError(
            f"--leave-pair-out leaves out patients, and folds here keep each {data.level} together: leave out --group, or add "
            "the patients."
        )


def _part(setup: Setup, pair: Pair) -> Part:
    test = np.isin(setup.data.groups.astype(str), pair)
    inner = inner_folds(setup.units.part(~test), setup.question.seed)
    if inner is None:
        raise InputError(
            f"Without {pair[0]} and {pair[1]} too few {setup.data.level}s of a class are left to choose a setting on: two of "
            "each are needed."
        )
    of = np.full(len(test), -1)
    of[~test] = inner.of
    return Part(Folds(of, inner.count), test)
