"""Truth against prediction."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from echolung.evaluation import Result
from echolung.evaluation.summary import truth_of
from echolung.report.figures import INK, SMALL, TEXT, new_figure, save_figure, tidy, title_figure, wrap
from echolung.report.plots.values import encoder_of
from echolung.report.run import Run

STACKED = 6
"""Classes from which the two matrices stand one above the other."""


def draw_confusion(run: Run, path: Path) -> bool:
    """Draw counts, and the share of each true class, side by side."""
    if not run.result.task.classes:
        return False
    confusion_matrix(run.result, path, encoder_of(run))
    return True


def confusion_matrix(result: Result, path: Path, encoder: str = "") -> None:
    """Draw counts, and the share of each true class, of a result with classes; `encoder` is for the title."""
    classes = result.task.classes
    counts = count(result)
    with np.errstate(invalid="ignore"):
        shares = counts / counts.sum(1, keepdims=True)  # NaN: a class that no scored video has
    stacked = len(classes) > STACKED
    width = 3.0 + 0.62 * len(classes) if stacked else max(5.4, 2.2 + 1.05 * len(classes))
    height = 1.6 + 0.42 * len(classes)
    figure = new_figure(min(width, 9.0), 2 * height if stacked else max(2.9, 1.5 + 0.5 * len(classes)))
    axes = figure.subplots(2, 1) if stacked else figure.subplots(1, 2, sharey=True)
    repeats = result.settings.get("repeats") or 1
    once = "videos" if repeats == 1 else f"videos, each {repeats} times"
    texts = np.array([[str(n) for n in row] for row in counts])
    shown = np.array([["–" if np.isnan(s) else f"{100 * s:.0f}" for s in row] for row in shares])
    _matrix(axes[0], counts / max(counts.max(), 1), texts, f"counts ({once})")
    _matrix(axes[1], np.nan_to_num(shares), shown, "% of each true class")
    names = [wrap(name) for name in classes]
    fits = max(len(line) for name in names for line in name.split("\n")) <= (9 if len(classes) < 4 else 6)
    slant: dict[str, Any] = {} if fits else {"rotation": 35, "ha": "right", "rotation_mode": "anchor"}
    totals = [f"{name}\nn = {counts[i].sum()}" for i, name in enumerate(names)]
    for place, axis in enumerate(axes):
        axis.set_xticks(range(len(classes)), names, **slant)
        if stacked or place == 0:
            axis.set_yticks(range(len(classes)), totals)
            axis.set_ylabel("true", fontsize=TEXT, color=INK)
    title_figure(figure, "True against predicted class", result, encoder)
    save_figure(figure, path)


def count(result: Result) -> Int[np.ndarray, "c c"]:
    """Return how often each true class (row) was told as each class (column)."""
    counts = np.zeros((len(result.task.classes),) * 2, np.int64)
    np.add.at(counts, (truth_of(result), result.scores.argmax(1)), 1)
    return counts


def _matrix(axes: Any, shades: np.ndarray, texts: np.ndarray, title: str) -> None:
    axes.imshow(shades, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for i, j in np.ndindex(shades.shape):
        colour = "white" if shades[i, j] > 0.55 else INK
        axes.text(j, i, texts[i, j], ha="center", va="center", color=colour, fontsize=11 if len(shades) < 8 else SMALL)
    tidy(axes, title, "predicted")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
