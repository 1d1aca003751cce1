"""Where a result is right and wrong: per source and per patient."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from echolung.evaluation import Result
from echolung.evaluation.bootstrap import percentiles, resample
from echolung.evaluation.summary import patients_of
from echolung.report.figures import (
    BLUE,
    GREY,
    INK,
    PALE,
    SMALL,
    WIDTH,
    colours,
    new_figure,
    save_figure,
    tidy,
    title_figure,
    wrap,
)
from echolung.report.plots.values import encoder_of, errors_of
from echolung.report.run import Run

SEVERAL = "several classes"
"""What a patient with videos of more than one class is called."""

MOST = 30
"""Sources that are drawn; those with the most videos."""


def draw_sources(run: Run, path: Path) -> bool:
    """Draw accuracy (numbers: absolute error) per source and what a source consists of, and how patients are distributed."""
    from matplotlib.patches import Patch

    result = run.result
    sources, patients = source_table(result), patient_values(result)
    several = len(sources) > 1
    if not several and len(patients) < 2:
        return False
    shapes = {"scores contents": 0.9 + 0.3 * min(len(sources), MOST)} if several else {}
    shapes |= {"patients patients": 2.0} if len(patients) > 1 else {}
    figure = new_figure(WIDTH, 1.0 + sum(shapes.values()))
    axes = figure.subplot_mosaic([row.split() for row in shapes], height_ratios=list(shapes.values()))
    if several:
        axes["contents"].sharey(axes["scores"])
        _scores(axes["scores"], sources, result)
        _contents(axes["contents"], sources, result)
    if len(patients) > 1:
        _patients(axes["patients"], patients, result)
    if result.task.classes:
        names = [*result.task.classes, *([SEVERAL] if (patients["class"] == SEVERAL).any() else [])]
        handles = [Patch(color=_colour(result, name), label=wrap(name, 30)) for name in names]
        figure.legend(
            handles=handles, loc="outside lower center", ncols=min(len(names), 4), frameon=False, fontsize=SMALL
        )
    title_figure(figure, "Per source and per patient" if several else "Per patient", result, encoder_of(run))
    save_figure(figure, path)
    return True


def source_table(result: Result) -> pd.DataFrame:
    """Return one row a source, the largest first: value (accuracy, mean absolute error), low, high, videos, patients, classes.

    low and high are 95 % quantiles with patients resampled, NaN where there is one patient.
    """
    values, groups = errors_of(result), patients_of(result)
    repeats = result.settings.get("repeats") or 1
    names = result.predictions["source"].fillna("").astype(str).replace("", "not known").to_numpy()
    rows = {}
    for name in np.unique(names):
        own = names == name
        low = high = np.nan
        if len(np.unique(groups[own])) > 1:
            weights = resample(groups[own])
            low, high = percentiles(weights @ values[own] / weights.sum(1))
        truth = result.predictions["truth"][own]
        counts = {f"n_{c}": (truth == c).sum() / repeats for c in result.task.classes}
        rows[name] = {
            "value": values[own].mean(), "low": low, "high": high, "videos": own.sum() / repeats,
            "patients": len(np.unique(groups[own])), **counts,
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index").sort_values("videos", ascending=False, kind="stable")


def patient_values(result: Result) -> pd.DataFrame:
    """Return one row a known patient: value (accuracy, mean absolute error of its videos), class ("" of numbers)."""
    known = (result.predictions["patient"].fillna("").astype(str) != "").to_numpy()
    patients, classes = patients_of(result)[known], bool(result.task.classes)
    truth = result.predictions["truth"][known].reset_index(drop=True)
    of_class = truth.groupby(patients).agg(lambda own: own.iloc[0] if own.nunique() == 1 else SEVERAL)
    values = pd.Series(errors_of(result)[known]).groupby(patients).mean()
    return pd.DataFrame({"value": values, "class": of_class if classes else ""})


def _scores(axes: Any, table: pd.DataFrame, result: Result) -> None:
    scale = 100 if result.task.classes else 1
    shown = table.head(MOST)
    places = np.arange(len(shown))
    axes.barh(places, scale * shown["value"], 0.64, color=PALE)
    axes.hlines(places, scale * shown["low"], scale * shown["high"], color=INK, lw=1.1)
    axes.axvline(scale * errors_of(result).mean(), color=INK, lw=0.9, ls=":")
    axes.set_yticks(places, [wrap(str(name), 26) for name in shown.index])
    axes.invert_yaxis()
    most = 100.0 if scale == 100 else np.nanmax([*shown["value"], *shown["high"]])
    axes.set_xlim(0, 1.2 * most)
    if scale == 100:
        axes.set_xticks(range(0, 101, 20))
    for place, value in zip(places, scale * shown["value"], strict=True):
        text = f"{value:.0f}" if scale == 100 else f"{value:.2f}"
        axes.text(1.19 * most, place, text, ha="right", va="center", fontsize=SMALL, color=INK)
    tidy(axes, "per source; line: 95 %, dotted: all", "accuracy %" if result.task.classes else "mean absolute error")
    axes.tick_params(axis="y", length=0)


def _contents(axes: Any, table: pd.DataFrame, result: Result) -> None:
    shown = table.head(MOST)
    places, left = np.arange(len(shown)), np.zeros(len(shown))
    parts = {c: shown[f"n_{c}"] for c in result.task.classes} or {"videos": shown["videos"]}
    for name, counts in parts.items():
        axes.barh(places, counts, 0.64, left=left, color=_colour(result, name))
        left += counts.to_numpy()
    for place, (_, row) in zip(places, shown.iterrows(), strict=True):
        people = f"{row['patients']:.0f} patient{'' if row['patients'] == 1 else 's'}"
        axes.annotate(
            people, (row["videos"], place), (3, 0), textcoords="offset points", va="center", fontsize=SMALL, color=INK
        )
    axes.set_xlim(0, 1.35 * shown["videos"].max())
    tidy(axes, "its videos, by true class" if result.task.classes else "its videos", "videos")
    axes.tick_params(axis="y", length=0, labelleft=False)


def _patients(axes: Any, table: pd.DataFrame, result: Result) -> None:
    classes = bool(result.task.classes)
    scale, digits = (100, 1) if classes else (1, 2)
    names = [name for name in [*result.task.classes, SEVERAL] if (table["class"] == name).any()] if classes else [""]
    parts = [scale * table["value"][table["class"] == name] for name in names]
    edges = np.linspace(0, 100, 11) if classes else np.histogram_bin_edges(scale * table["value"], 12)
    axes.hist(parts, bins=edges, stacked=True, color=[_colour(result, name) for name in names], rwidth=0.9)
    counts = np.histogram(scale * table["value"], edges)[0]
    for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True):
        if count:
            place = ((low + high) / 2, count)
            axes.annotate(str(count), place, (0, 2), textcoords="offset points", ha="center", fontsize=SMALL)
    mean = scale * table["value"].mean()
    axes.axvline(mean, color=INK, lw=0.9, ls=":")
    axes.margins(y=0.15)
    unit = "accuracy % of a patient's videos" if classes else "mean absolute error of a patient's videos"
    tidy(axes, f"{len(table)} patients, mean {mean:.{digits}f} (dotted)", unit, "patients")


def _colour(result: Result, name: str) -> str:
    shades = dict(zip(result.task.classes, colours(len(result.task.classes)), strict=True))
    return str({SEVERAL: GREY, **shades}.get(name, BLUE))
