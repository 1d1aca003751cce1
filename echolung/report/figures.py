"""Figures as PNG files, drawn without a display."""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from echolung.evaluation import Result
from echolung.evaluation.result import is_optimistic

BLUE, GREY = "#1f5fa8", "#9aa3ad"
"""What is shown, and what it is shown beside."""


def new_figure(width: float, height: float) -> Any:
    """Return an empty figure, in inches, that needs no display."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=160)


def save_figure(figure: Any, path: Path) -> None:
    """Write a PNG that is the same for the same figure, whatever drew it."""
    figure.savefig(path, metadata={"Software": None})


def confusion_matrix(result: Result, path: Path) -> None:
    """Draw truth against prediction: counts as text, the share of each true class as shade."""
    classes = result.task.classes
    truth = result.predictions["truth"].map({name: i for i, name in enumerate(classes)}).to_numpy()
    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(counts, (truth, result.scores.argmax(1)), 1)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)

    figure = new_figure(1.6 + 1.05 * len(classes), 1.7 + 0.95 * len(classes))
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.ndindex(counts.shape):
        shade = "white" if shares[i, j] > 0.55 else "#222222"
        axes.text(j, i, f"{counts[i, j]}\n{shares[i, j]:.0%}", ha="center", va="center", color=shade, fontsize=11)
    names = [textwrap.fill(name, 18) for name in classes]
    fits = max(len(line) for name in names for line in name.split("\n")) <= 10
    slant: dict[str, Any] = {} if fits else {"rotation": 35, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(classes)), names, **slant)
    axes.set_yticks(range(len(classes)), [f"{name}\n(n = {counts[i].sum()})" for i, name in enumerate(names)])
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    settings = result.settings
    optimistic = " (optimistic)" if is_optimistic(settings) else ""
    axes.set_title(
        f"{settings['dataset']} · {settings['task']}\n{settings['probe']}, {settings['protocol']}{optimistic}, "
        f"by {settings['group']}",
        fontsize=10,
    )
    save_figure(figure, path)
