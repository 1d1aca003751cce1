"""Held-out loss and accuracy over the epochs of training."""

from pathlib import Path
from typing import Any

import pandas as pd

from echolung.evaluation import Result
from echolung.report.figures import (
    BLUE,
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
from echolung.report.plots.values import encoder_of
from echolung.report.run import Run

ALL = -1
"""The part that is all data."""


def draw_curves(run: Run, path: Path) -> bool:
    """Draw the curves of what was chosen, a line a fold, the chosen epoch marked; of the seed protocol every look."""
    curves = run.result.curves
    if curves is None or curves["epoch"].nunique() < 2:
        return False
    draw = _looks if run.result.settings["protocol"] == "seed" else _chosen
    figure = draw(run, curves)
    if figure is None:
        return False
    save_figure(figure, path)
    return True


def chosen_curves(result: Result, curves: pd.DataFrame) -> dict[int, tuple[pd.DataFrame, int]]:
    """Return part -> (the curve of its chosen setting, the chosen epoch), for parts whose setting is in the grid."""
    grid = [dict(setting) for setting in result.settings.get("grid", [])]
    choices = dict(zip(result.folds["fold"], result.chosen, strict=True))
    if result.probe is not None and "setting" in result.probe.about:
        choices[ALL] = {**result.probe.about["setting"], "epoch": result.probe.about["epoch"]}
    found = {}
    for part, choice in choices.items():
        setting = {name: value for name, value in choice.items() if name != "epoch"}
        if setting not in grid:
            continue
        own = curves[(curves["part"] == part) & (curves["setting"] == grid.index(setting))].sort_values("epoch")
        if len(own):
            found[int(part)] = (own, int(choice["epoch"]))
    return found


def _chosen(run: Run, curves: pd.DataFrame) -> Any:
    result = run.result
    found = chosen_curves(result, curves)
    if not found:
        return None
    columns = ["loss"] if curves["accuracy"].isna().all() else ["loss", "accuracy"]
    figure = new_figure(WIDTH if len(columns) > 1 else 5.6, 3.9)
    panels = figure.subplots(1, len(columns), squeeze=False)[0]
    draw = _each if len(found) <= len(PALETTE) else _bundle
    for axes, column in zip(panels, columns, strict=True):
        draw(axes, found, column, "split" in result.settings)
        tidy(axes, x="epoch", y=_name(result, column))
    handles, labels = panels[0].get_legend_handles_labels()
    if len(labels) > 1:
        across = min(len(labels), 6)
        figure.legend(handles, labels, loc="outside lower center", ncols=across, frameon=False, fontsize=SMALL)
    where = "the validation part" if "split" in result.settings else "inner folds"
    title_figure(figure, f"Held-out videos of {where}; dot: the chosen epoch", result, encoder_of(run))
    return figure


def _each(axes: Any, found: dict[int, tuple[pd.DataFrame, int]], column: str, split: bool) -> None:
    """Draw a line a fold in a colour of its own."""
    folds = [part for part in found if part != ALL]
    shades = dict(zip(folds, colours(len(folds)), strict=True)) | {ALL: INK}
    for part, (curve, epoch) in found.items():
        name = "all data" if part == ALL else "validation" if split else f"fold {part}"
        line = {"color": shades[part], "lw": 1.4, "ls": "--" if part == ALL else "-"}
        axes.plot(curve["epoch"], _shown(curve, column), label=name, **line)
        at = curve[curve["epoch"] == epoch]
        axes.plot(at["epoch"], _shown(at, column), "o", color=shades[part], ms=5.5, mec="white", mew=0.6, zorder=4)


def _bundle(axes: Any, found: dict[int, tuple[pd.DataFrame, int]], column: str, split: bool) -> None:
    """Draw many folds as thin lines, and their mean."""
    folds = {part: pair for part, pair in found.items() if part != ALL}
    for place, (curve, epoch) in enumerate(folds.values()):
        name = None if place else f"each of {len(folds)} folds"
        axes.plot(curve["epoch"], _shown(curve, column), color=GREY, lw=0.7, alpha=0.7, label=name)
        at = curve[curve["epoch"] == epoch]
        axes.plot(at["epoch"], _shown(at, column), "o", color=BLUE, ms=3, mew=0, zorder=4)
    mean = pd.concat([curve for curve, _ in folds.values()]).groupby("epoch")[["loss", "accuracy"]].mean().reset_index()
    axes.plot(mean["epoch"], _shown(mean, column), color=BLUE, lw=2, label="mean")


def _shown(curve: pd.DataFrame, column: str) -> pd.Series:
    return curve[column] * (100 if column == "accuracy" else 1)


def _looks(run: Run, curves: pd.DataFrame) -> Any:
    """Draw every look at the reported fold in grey, the chosen setting on top; a panel a fold."""
    result = run.result
    found = chosen_curves(result, curves)
    if not found:
        return None
    across = min(len(found), 3 if len(found) <= 6 else 5)
    down = -(-len(found) // across)
    figure = new_figure(WIDTH, 1.4 + 1.9 * down)
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, (part, (curve, epoch)) in zip(panels, found.items(), strict=False):
        for _, other in curves[curves["part"] == part].groupby("setting"):
            axes.plot(other["epoch"], 100 * other["accuracy"], color=GREY, lw=0.7, alpha=0.6)
        axes.plot(curve["epoch"], 100 * curve["accuracy"], color=BLUE, lw=1.5)
        at = curve[curve["epoch"] == epoch].iloc[0]
        axes.plot(epoch, 100 * at["accuracy"], "o", color=RED, ms=6, mec="white", mew=0.7, zorder=4)
        tidy(axes, f"fold {part}: {100 * at['accuracy']:.1f} % at epoch {epoch}")
    for axes in panels[len(found) :]:
        axes.set_axis_off()
    figure.supxlabel("epoch", fontsize=9, color=INK)
    figure.supylabel("accuracy of the reported fold %", fontsize=9, color=INK)
    looks = len(curves[curves["part"] == next(iter(found))])
    title_figure(
        figure,
        f"Optimistic: the best of {looks} looks at each fold that is reported (grey: the others)",
        result,
        encoder_of(run),
    )
    return figure


def _name(result: Result, column: str) -> str:
    if column == "accuracy":
        return "held-out accuracy %"
    return "held-out log-loss" if result.task.classes else "held-out squared error"
