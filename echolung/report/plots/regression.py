"""Predicted numbers against true ones."""

from pathlib import Path
from typing import Any

import numpy as np

from echolung.evaluation.summary import truth_of
from echolung.report.figures import (
    BLUE,
    BOX,
    GREY,
    INK,
    PALETTE,
    RED,
    SMALL,
    WIDTH,
    colours,
    new_figure,
    save_figure,
    tidy,
    title_figure,
)
from echolung.report.plots.values import encoder_of, folds_of, number, spread
from echolung.report.run import Run

LIMITS = 1.96
"""Standard deviations from the bias to the limits of agreement (Bland & Altman 1986)."""


def draw_scatter(run: Run, path: Path) -> bool:
    """Draw prediction against truth, and beside it their difference against their mean (Bland-Altman)."""
    result = run.result
    if result.task.kind != "regression":
        return False
    truth, told, folds = truth_of(result), result.scores[:, 0], folds_of(result)
    order = np.unique(folds)
    shades = dict(zip(order, colours(len(order)) if len(order) <= len(PALETTE) else [BLUE] * len(order), strict=True))
    figure = new_figure(WIDTH, 4.2)
    left, right = figure.subplots(1, 2)
    for fold in order:
        own = folds == fold
        style = {"s": 16, "alpha": 0.75, "color": shades[fold], "lw": 0, "label": f"fold {fold}"}
        left.scatter(truth[own], told[own], **style)
        right.scatter((truth[own] + told[own]) / 2, told[own] - truth[own], **style)
    _identity(left, truth, told)
    tidy(left, _headline(run), f"true {result.task.column}", "predicted")
    _limits(right, told - truth)
    tidy(right, "Bland-Altman", "mean of true and predicted", "predicted − true")
    if 1 < len(order) <= len(PALETTE):
        handles, labels = left.get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside lower center", ncols=min(len(labels), 6), frameon=False, fontsize=SMALL
        )
    title_figure(figure, "Predicted against true", result, encoder_of(run))
    save_figure(figure, path)
    return True


def _headline(run: Run) -> str:
    summary = run.summary
    text = f"MAE {spread('mae', summary.mean['mae'], summary.sd['mae'])}"
    if "mae" in summary.interval:
        text += f" [{' – '.join(number('mae', value) for value in summary.interval['mae'])}]"
    return f"{text}, R² {number('r2', summary.mean['r2'])}"


def _identity(axes: Any, truth: np.ndarray, told: np.ndarray) -> None:
    low, high = min(truth.min(), told.min()), max(truth.max(), told.max())
    edge = 0.04 * (high - low) or 1.0
    axes.plot([low - edge, high + edge], [low - edge, high + edge], color=GREY, lw=1, ls=":", zorder=0)
    axes.set_xlim(low - edge, high + edge)
    axes.set_ylim(low - edge, high + edge)


def _limits(axes: Any, difference: np.ndarray) -> None:
    bias, sd = difference.mean(), difference.std(ddof=1) if len(difference) > 1 else np.nan
    axes.axhline(0, color=GREY, lw=0.9, ls=":")
    lines = {"bias": (bias, INK), "+1.96 sd": (bias + LIMITS * sd, RED), "−1.96 sd": (bias - LIMITS * sd, RED)}
    for name, (height, colour) in lines.items():
        if height == height:
            axes.axhline(height, color=colour, lw=1, ls="-" if name == "bias" else "--")
            axes.annotate(
                f"{name} {number('mae', height)}", (1, height), (-2, 2), xycoords=("axes fraction", "data"),
                textcoords="offset points", ha="right", va="bottom", fontsize=SMALL, color=colour,
                bbox=BOX, zorder=5,
            )  # fmt: skip
    axes.margins(y=0.12)
