"""The figure of a comparison: every fold of every arm, and the gain with its interval."""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from echolung.evaluation.comparison import Comparison
from echolung.report.comparison_text import about, label, title
from echolung.report.figures import BLUE, GREY, INK, SMALL, TEXT, WIDTH, new_figure, save_figure
from echolung.report.html.tables import PER_CENT


def draw_gain(found: Comparison, path: Path) -> None:
    """Draw the main metric: left every fold of every arm, joined; right the gain over each other arm and its interval."""
    scale = 100 if found.metric in PER_CENT else 1
    count = len(found.names)
    figure = new_figure(WIDTH, 3.6 + 0.25 * max(0, count - 3))
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.25])
    _draw_arms(left, found, scale)
    _draw_gains(right, found, scale)
    optimistic = " (optimistic)" if found.optimistic else ""
    heading = textwrap.fill(f"{title(found)}{optimistic}", 88)
    figure.suptitle(f"{heading}\n{about(found)}", fontsize=10, color=INK)
    save_figure(figure, path)


def _draw_arms(axes: Any, found: Comparison, scale: int) -> None:
    """Draw a dot a fold and arm, lines between the same fold, and the mean; without folds a dot a run."""
    # The first arm stands at the right, where a gain is a line that rises.
    names = [*found.names[1:], found.a]
    if len(found.contrasts[0].folds):
        chosen = [c.folds[c.folds["metric"] == found.metric] for c in found.contrasts]
        values = [scale * each.to_numpy(float) for each in (*(table["b"] for table in chosen), chosen[0]["a"])]
        axes.plot(range(len(names)), np.stack(values), color=GREY, lw=1, zorder=1)
        left = "a line a fold, bar: mean"
    else:
        values = [scale * np.array(found.per_run[name][found.metric]) for name in names]
        left = "a dot a run, pooled"
    for place, of_arm in enumerate(values):
        colour = BLUE if place == len(names) - 1 else INK
        axes.plot(np.full(len(of_arm), place), of_arm, "o", color=colour, ms=4.5, alpha=0.8, mew=0, zorder=2)
        axes.plot([place - 0.16, place + 0.16], [pd.Series(of_arm).mean()] * 2, color=colour, lw=3, zorder=3)
    axes.set_xticks(range(len(names)), [_short(name) for name in names], fontsize=SMALL)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_ylabel(label(found.metric), fontsize=TEXT)
    axes.set_title(left, fontsize=TEXT, color=INK)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_gains(axes: Any, found: Comparison, scale: int) -> None:
    places = np.arange(len(found.contrasts))[::-1]
    for place, contrast in zip(places, found.contrasts, strict=True):
        gain = contrast.gains[found.metric]
        if len(contrast.folds):
            each = contrast.folds[contrast.folds["metric"] == found.metric]["gain"]
            axes.plot(scale * each, np.full(len(each), place - 0.17), "o", color=GREY, ms=4, mew=0)
        if gain.low == gain.low:
            axes.plot([scale * gain.low, scale * gain.high], [place, place], color=BLUE, lw=2.2, solid_capstyle="butt")
        axes.plot(scale * gain.pooled, place, "D", color=BLUE, ms=6)
    axes.axvline(0, color=INK, lw=1, ls=":", zorder=0)
    names = [f"over\n{_short(contrast.b)}" for contrast in found.contrasts]
    axes.set_yticks(places, names, fontsize=SMALL)
    axes.set_ylim(-0.6, len(places) - 0.4)
    points = " (points)" if found.metric in PER_CENT else ""
    axes.set_xlabel(f"gain in {label(found.metric).replace(' %', '')}{points}", fontsize=TEXT)
    axes.set_title("pooled gain and 95 % interval; grey: folds", fontsize=TEXT, color=INK)
    axes.spines[["top", "right"]].set_visible(False)


def _short(name: str, room: int = 16) -> str:
    """Return a name over several lines, broken where its parts end."""
    parts, lines = name.replace(":", ":\0").replace("_", "_\0").replace("@", "\0@").split("\0"), [""]
    for part in parts:
        if lines[-1] and len(lines[-1]) + len(part) > room:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)
