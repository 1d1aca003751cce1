"""The nested protocol: a setting is chosen inside each training part, and a test video is looked at once."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from echolung.evaluation.parts import (
    Part,
    best_looks,
    choose_inside,
    fewer_inner_folds,
    inner_table,
    predict_inside,
    refit,
    say_how_long,
)
from echolung.evaluation.result import Result, build_result, score_columns
from echolung.evaluation.setup import Setup
from echolung.evaluation.splits import Folds, Units, nested_folds
from echolung.evaluation.statistics.calibration import fit_temperature
from echolung.probes.jobs import Setting
from echolung.probes.saved import with_provenance

REPEAT = 100_003
"""Between the seeds of two repeats' folds: no other draw of folds uses what lies that far apart."""


def nested(
    setup: Setup,
    grid: Sequence[Setting],
    settings: dict[str, Any],
    *,
    patience: int | None = None,
    repeats: int = 1,
    diagnose: bool = True,
) -> Result:
    """Return the result of nested cross-validation.

    Args:
        setup: videos, features and training.
        grid: what is chosen from.
        settings: for the record.
        patience: epochs without a lesser inner loss after which a setting is given up; None: never.
        repeats: how often, each time with other folds; initial weights and batches stay. The folds of repeat r are numbered
            from r × folds on.
        diagnose: also keep inner predictions, calibrate by them, say how well each probe fits its own training part, and look
            what choosing on the scored folds would have given.
    """
    cv, seed = setup.question.cv, setup.question.seed
    divisions = [divide(setup.units, cv, seed + REPEAT * repeat) for repeat in range(repeats)]
    # The last part is everything: it chooses the setting of the probe that is saved.
    everything = replace(divisions[0][1][-1], keep=True)
    parts = [part for _, parts in divisions for part in parts[:-1]] + [everything]
    say_how_long(setup, grid, parts)
    choices, curves = choose_inside(setup, grid, parts, patience)
    outputs, arrays = refit(setup, parts, choices, fit=diagnose)
    counts = sorted({part.inner.count for part in parts})
    notes = [*setup.data.notes, *fewer_inner_folds(counts)]
    settings = {**settings, "folds": cv, "inner_folds": counts, "repeats": repeats}
    results = []
    for repeat, (outer, _) in enumerate(divisions):
        own = slice(repeat * cv, (repeat + 1) * cv)
        scores = _pooled(outputs[own], outer)
        final = (choices[-1], arrays[-1]) if repeat == 0 else None
        results.append(build_result(setup.data, outer, range(cv), scores, choices[own], settings, notes, final))
    names = [*range(len(parts) - 1), -1]
    result = replace(_joined(results, cv), curves=curves.assign(part=np.array(names)[curves["part"]]))
    if result.probe is not None:
        result = replace(result, probe=with_provenance(result.probe, setup.store, setup.data.videos))
    if not diagnose:
        return result
    inner = inner_table(setup, predict_inside(setup, parts, choices), names)
    learnt = np.stack([part.train for part in parts[:-1]])[:, :, None]
    train = inner_table(setup, np.where(learnt, outputs[:-1], np.nan), names[:-1])
    honest = np.nan_to_num(outputs[:-1])
    looks = []
    for r, (outer, _) in enumerate(divisions):
        own = slice(r * cv, (r + 1) * cv)
        table = best_looks(setup, grid, parts[own], _pooled(honest[own], outer))
        looks.append(table.assign(fold=table["fold"] + r * cv))
    return calibrated(replace(result, inner=inner, train=train, looks=pd.concat(looks, ignore_index=True)))


def divide(units: Units, cv: int, seed: int, targets: np.ndarray | None = None) -> tuple[Folds, list[Part]]:
    """Return outer folds, the part of each, and last the part that is everything.

    Raises:
        InputError: such folds cannot be made.
    """
    outer, inner = nested_folds(units, cv, seed)
    tests = [*(outer.test(fold) for fold in range(cv)), np.zeros(len(outer.of), bool)]
    return outer, [Part(folds, test, targets) for folds, test in zip(inner, tests, strict=True)]


def calibrated(result: Result) -> Result:
    """Return the result with a temperature for each fold, and for the saved probe, fitted on inner predictions."""
    if result.inner is None or not result.task.classes:
        return result
    index = {name: i for i, name in enumerate(result.task.classes)}
    by_part = {}
    for part, table in result.inner.groupby("part"):
        logs = np.log(np.clip(table[score_columns(result.task)].to_numpy(np.float64), 1e-12, None))
        by_part[part] = fit_temperature(logs, table["truth"].map(index).to_numpy(np.int64))
    probe = result.probe
    # Of one split or a transfer the only part is what the saved probe was chosen on.
    own = by_part.get(-1, by_part[0] if len(by_part) == 1 else None)
    if probe is not None and own is not None:
        probe = replace(probe, about={**probe.about, "temperature": own})
    return replace(result, probe=probe, temperatures=tuple(by_part[fold] for fold in result.folds["fold"]))


def _pooled(outputs: np.ndarray, outer: Folds) -> np.ndarray:
    return np.take_along_axis(outputs, outer.of[None, :, None], 0)[0]


def _joined(results: Sequence[Result], cv: int) -> Result:
    """Return the results of several repeats as one, their folds numbered on."""
    if len(results) == 1:
        return results[0]
    predictions, folds = (
        pd.concat([table.assign(fold=table["fold"] + r * cv) for r, table in enumerate(tables)], ignore_index=True)
        for tables in ([result.predictions for result in results], [result.folds for result in results])
    )
    chosen = [choice for result in results for choice in result.chosen]
    shared = {unit: max(result.shared[unit] for result in results) for unit in results[0].shared}
    return replace(results[0], predictions=predictions, folds=folds, chosen=chosen, shared=shared)
