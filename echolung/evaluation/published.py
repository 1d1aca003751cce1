"""The seed protocol: what the published study did, best of everything on the fold it reports. Optimistic, and called so."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from echolung.errors import InputError
from echolung.evaluation.given import published_folds
from echolung.evaluation.result import Result, build_result, kept_together
from echolung.evaluation.selection import Choice, Collector
from echolung.evaluation.setup import Setup
from echolung.probes import Job
from echolung.probes.jobs import Setting

BATCH = 2
"""Videos a step in the published study."""


def published(setup: Setup, grid: Sequence[Setting], settings: dict[str, Any], only: int | None = None) -> Result:
    """Return the result of the seed protocol.

    Args:
        setup: videos, features and training.
        grid: the settings, all of which are looked at on the reported fold after every epoch.
        settings: for the record.
        only: train and report this fold alone, as one of several runs of a long evaluation; None: all.

    Raises:
        InputError: a regression, too few videos, or no such fold.
    """
    data, epochs = setup.data, setup.training.epochs
    if data.task.kind == "regression":
        raise InputError("The seed protocol chooses by accuracy and so needs classes; use --protocol nested.")
    cv = setup.question.cv
    folds, source = published_folds(setup.units, data.videos, cv)
    if only is not None and not 0 <= only < cv:
        raise InputError(f"--only-fold {only}: there are folds 0 to {cv - 1}.")
    order = range(cv) if only is None else [only]
    scores = np.full((len(data.targets), data.outputs), np.nan)
    choices, curves = [], []
    setup.say_how_long(
        [[Job(s, folds.train(i), watch=folds.test(i)) for s in grid] for i in order], f"{len(order)} folds"
    )
    for fold in order:
        test = folds.test(fold)
        choice, output, curve = _best_look(setup, grid, folds.train(fold), test)
        scores[test] = output
        choices.append(choice)
        curves.append(curve.assign(part=fold))
    notes = [
        *data.notes,
        f"Optimistic: each fold reports the best of {len(grid) * epochs} looks ({len(grid)} settings × "
        f"{epochs} epochs) at the very videos it is scored on, as the published study did.",
        source,
        "The published training augmentation cannot be cached; random --views at extraction come near it.",
    ]
    settings = {**settings, "folds": cv, "group": kept_together(data, folds, range(cv))}
    if only is not None:
        settings["only_fold"] = only
    result = build_result(data, folds, order, scores, choices, settings, notes, None)
    return replace(result, curves=pd.concat(curves, ignore_index=True))


def _best_look(
    setup: Setup, grid: Sequence[Setting], train: np.ndarray, test: np.ndarray
) -> tuple[Choice, np.ndarray, pd.DataFrame]:
    """Return the best setting and epoch on the reported fold, its outputs there, and every look."""
    targets = setup.data.targets[test]
    jobs = [Job(setting, train, watch=test) for setting in grid]
    collector = Collector(setup.data.targets, jobs, [(0, i) for i in range(len(jobs))], setup.training.epochs)
    best: dict[str, Any] = {"rank": (-1.0, 0, 0)}

    def look(epoch: int, indices: Sequence[int], outputs: np.ndarray) -> None:
        collector.on_epoch(epoch, indices, outputs)
        for i, output in zip(indices, outputs, strict=True):
            accuracy = float((output[test].argmax(-1) == targets).mean())
            # At a tie the earlier epoch, then the earlier setting: never what memory happens to train first.
            if (rank := (accuracy, -epoch, -i)) > best["rank"]:
                best.update(rank=rank, choice=Choice(grid[i], epoch), output=output[test])

    setup.fit(jobs, look)
    return best["choice"], best["output"], collector.curves()
