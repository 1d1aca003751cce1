"""EL204 to EL207: whether settings were chosen freely, and what choosing on the scored videos would have added."""

import numpy as np
import pandas as pd

from echolung.evaluation.checks.codes import fine, not_applicable, warning
from echolung.evaluation.checks.finding import Finding
from echolung.evaluation.result import Result, is_optimistic, score_columns
from echolung.text import sentence

EDGES = ("lr", "C", "k")
"""Settings whose grids are wide enough to have an edge that means something."""

OPTIMISM = 0.05
"""Accuracy (of numbers: share of the error) that choosing on the scored videos may add before it is a warning."""


def grid_edge(result: Result) -> Finding:
    """EL204: more than half of the folds choose the smallest, or the largest, of three values or more."""
    grid = result.settings.get("grid") or []
    found, free = [], []
    for name in EDGES:
        values = sorted({float(setting[name]) for setting in grid if name in setting})
        if len(values) < 3:
            continue
        chosen = [float(setting[name]) for setting in result.chosen if name in setting]
        free.append(name)
        for edge, what in ((values[0], "smallest"), (values[-1], "largest")):
            count = sum(bool(np.isclose(value, edge)) for value in chosen)
            if count > len(chosen) / 2:
                found.append(f"{count} of {len(chosen)} folds chose the {what} {name} of the grid, {edge:g}")
    if found:
        return warning("EL204", sentence(found))
    if not free:
        return not_applicable("EL204", "No setting was chosen from three values or more.")
    return fine("EL204", f"Chosen within the grid: {', '.join(free)}.")


def last_epoch(result: Result) -> Finding:
    """EL205: more than half of the folds choose the first epoch, or the last."""
    epochs = [int(setting["epoch"]) for setting in result.chosen if "epoch" in setting]
    last = [
        int(setting.get("epochs", result.settings.get("epochs", 1))) for setting in result.chosen if "epoch" in setting
    ]
    if not epochs or max(last) < 3:
        return not_applicable("EL205", "This probe does not learn in epochs.")
    spread = f"epochs {min(epochs)} to {max(epochs)} of {max(last)}"
    at = {
        "first": sum(epoch == 1 for epoch in epochs),
        "last": sum(epoch == most for epoch, most in zip(epochs, last, strict=True)),
    }
    for what, count in at.items():
        if count > len(epochs) / 2:
            return warning("EL205", f"{count} of {len(epochs)} folds chose the {what} epoch ({spread}).")
    return fine("EL205", f"Chosen: {spread}.")


def optimism(result: Result) -> Finding:
    """EL206: the best of all looks at the scored folds, minus the honest score; or that this run itself is of that kind."""
    if is_optimistic(result.settings):
        looks = len(result.settings.get("grid") or []) * int(result.settings.get("epochs", 1))
        many = f"the best of {looks} looks at" if looks > 1 else "chosen on"
        return warning("EL206", f"The score of each fold is {many} the very videos that it is scored on.")
    if result.looks is None or result.looks.empty:
        return not_applicable("EL206", "The best of all looks at the scored videos was not worked out.")
    table = result.looks
    honest, best = float(table["honest"].mean()), float(table["best"].mean())
    looks, numbers = int(table["looks"].iloc[0]), table["metric"].iloc[0] == "mae"
    gain = (honest - best) / honest if numbers and honest > 0 else best - honest
    shown = (
        f"{best:.3g} instead of {honest:.3g} (MAE)"
        if numbers
        else f"{100 * best:.1f} % accuracy instead of {100 * honest:.1f} %"
    )
    text = f"The best of {looks} looks at each scored fold would have been {shown}."
    scores = {"honest": honest, "best": best, "optimism": best - honest}
    return (warning if gain > OPTIMISM else fine)("EL206", text, scores)


def inner_against_outer(result: Result) -> Finding:
    """EL207: accuracy of the inner predictions minus that of the outer ones: more than 10 points, and 2 standard errors."""
    if result.inner is None or not len(result.inner):
        return not_applicable("EL207", "There are no inner predictions.")
    sign = 1.0 if result.task.classes else -1.0  # of an error less is better
    outer = sign * pd.Series(score_by(result, result.predictions, "fold"))
    inner = sign * pd.Series(score_by(result, result.inner[result.inner["part"] >= 0], "part"))
    gaps = (inner - outer).dropna()
    if len(gaps) < 2:
        return not_applicable("EL207", "One fold says nothing of how they differ.")
    mean, error = float(gaps.mean()), float(gaps.std(ddof=1) / np.sqrt(len(gaps)))
    inside, outside = float(inner.mean()), float(outer.mean())
    if result.task.classes:
        text = f"Accuracy {100 * inside:.1f} % in the inner folds, {100 * outside:.1f} % in the outer"
        limit = 0.1
    else:
        text = f"MAE {-inside:.3g} in the inner folds, {-outside:.3g} in the outer"
        limit = 0.2 * abs(inside)
    if mean > limit and mean > 2 * error:
        return warning("EL207", f"{text}.")
    return fine("EL207", f"{text}.")


def score_by(result: Result, table: pd.DataFrame, column: str) -> dict[int, float]:
    """Return accuracy, or mean absolute error, of each fold or part in a table of predictions."""
    scores = table[score_columns(result.task)].to_numpy(np.float64)
    if result.task.classes:
        said = np.array(result.task.classes, object)[np.nan_to_num(scores, nan=-1).argmax(1)]
        values = (said == table["truth"].to_numpy()).astype(np.float64)
    else:
        values = np.abs(scores[:, 0] - table["truth"].to_numpy(np.float64))
    of = table[column].to_numpy(np.int64)
    return {int(part): float(values[of == part].mean()) for part in np.unique(of)}
