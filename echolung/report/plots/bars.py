"""Bars over folds: pretrained against random weights, the folds themselves, inner against outer."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from echolung.evaluation import Result
from echolung.evaluation.summary import Summary
from echolung.report.figures import (
    BLUE,
    BOX,
    GREY,
    INK,
    PALE,
    RED,
    ROSE,
    SMALL,
    WIDTH,
    new_figure,
    save_figure,
    tidy,
    title_figure,
)
from echolung.report.plots.values import encoder_of, errors_of, label_of, main_metrics, number, scale_of, spread
from echolung.report.run import Run


def draw_twins(run: Run, path: Path) -> bool:
    """Draw mean ± sd of the run, of its random twins and of guessing; dots are folds, joined where they are the same."""
    if not run.twins:
        return False
    metrics, told = main_metrics(run.result.task), "majority" if run.result.task.classes else "mean"
    names = ["pretrained", *(_seed_name(twin.encoder, i) for i, twin in enumerate(run.twins)), told]
    same = all(same_folds(run.result, twin.result) for twin in run.twins)
    figure = new_figure(WIDTH, 1.2 + 0.58 * len(names))
    panels = figure.subplots(1, len(metrics), sharey=True)
    for axes, metric in zip(panels, metrics, strict=True):
        _compare(axes, metric, [run.summary, *(twin.summary for twin in run.twins)], same)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
    what = "Pretrained against random weights, mean ± sd; a dot a fold" + (", lines join the same fold" if same else "")
    title_figure(figure, what, run.result, encoder_of(run))
    save_figure(figure, path)
    return True


def draw_folds(run: Run, path: Path) -> bool:
    """Draw the main metrics of each fold, their mean ± sd, and what guessing scores."""
    table, metrics = run.summary.folds, main_metrics(run.result.task)
    if not len(table):
        return False
    figure = new_figure(WIDTH, 1.0 + 1.55 * len(metrics))
    places = np.arange(len(table))
    panels = figure.subplots(len(metrics), 1, sharex=True)
    for axes, metric in zip(panels, metrics, strict=True):
        values = scale_of(metric) * table[metric].to_numpy(float)
        mean, sd = (scale_of(metric) * part[metric] for part in (run.summary.mean, run.summary.sd))
        axes.bar(places, np.nan_to_num(values), 0.62, color=BLUE, alpha=0.85, zorder=2)
        if sd == sd:
            axes.axhspan(mean - sd, mean + sd, color=GREY, alpha=0.25, lw=0, zorder=1)
            axes.axhline(mean, color=INK, lw=1, zorder=3)
        if (guess := scale_of(metric) * run.summary.guess[metric]) == guess:
            axes.axhline(guess, color=RED, lw=1, ls="--", zorder=3)
        axes.set_ylim(*_room(np.array([*values, mean - sd, mean + sd, guess]), metric))
        if len(table) <= 12:
            _write_values(axes, places, table[metric].to_numpy(float), metric, "white")
        tidy(axes, f"{label_of(metric)}: {spread(metric, run.summary.mean[metric], run.summary.sd[metric])}")
        axes.set_xlim(-0.7 - (len(table) == 1), len(table) - 0.3 + (len(table) == 1))
    step = 1 if len(table) <= 12 else max(len(table) // 10, 1)
    panels[-1].set_xticks(
        places[::step], [f"fold {fold}" if len(table) <= 8 else str(fold) for fold in table.index[::step]]
    )
    if len(table) > 8:
        panels[-1].set_xlabel("fold", fontsize=9, color=INK)
    several = "; line and band: mean ± sd" if len(table) > 1 else ""
    title_figure(figure, f"Per fold{several}; dashed: guessing", run.result, encoder_of(run))
    save_figure(figure, path)
    return True


def draw_inner_outer(run: Run, path: Path) -> bool:
    """Draw validation (inner) beside test (outer) of each fold, and what the best of all looks at the test fold would be."""
    table = inner_outer(run)
    if table.shape[1] < 2:
        return False
    metric = "accuracy" if run.result.task.classes else "mae"
    looks = int(run.result.looks["looks"].iloc[0]) if run.result.looks is not None else 0
    split = "split" in run.result.settings
    styles: dict[str, tuple[str, str, dict[str, Any]]] = {
        "inner": ("validation" if split else "validation (inner folds)", INK, {"color": PALE}),
        "outer": (
            "test" if split else "test (outer fold), scored once" if len(table) > 1 else "test, scored once",
            "white",
            {"color": BLUE},
        ),
        "best": (
            f"best of {looks} looks at the test fold (optimistic)",
            INK,
            {"color": ROSE, "ec": RED, "hatch": "///"},
        ),
    }
    figure = new_figure(WIDTH, 4.1)
    axes = figure.subplots()
    whole = pd.concat([table, table.mean().to_frame("mean").T]) if len(table) > 1 else table
    places = np.arange(len(whole)) + np.where(whole.index == "mean", 0.5, 0.0)
    width = 0.84 / table.shape[1] if len(table) > 1 else 0.25
    axes.set_ylim(*_room(scale_of(metric) * whole.to_numpy(float).ravel(), metric))
    for i, column in enumerate(table):
        name, ink, style = styles[str(column)]
        at = places + (i - (table.shape[1] - 1) / 2) * width
        label = f"{name}: {number(metric, table[column].mean())}"
        axes.bar(at, scale_of(metric) * whole[column], width * 0.94, label=label, lw=0.8, zorder=2, **style)
        if len(table) <= 8:
            _write_values(axes, at, whole[column].to_numpy(float), metric, ink, turn=90.0)
    _name_folds(axes, places, list(whole.index), len(table))
    tidy(axes, x="fold" if len(table) > 8 else "", y=label_of(metric))
    figure.legend(loc="outside lower center", ncols=1 if looks else 2, frameon=False, fontsize=SMALL)
    title_figure(
        figure, "Validation and test" + ("; means below" if len(table) > 1 else ""), run.result, encoder_of(run)
    )
    save_figure(figure, path)
    return True


def _name_folds(axes: Any, places: np.ndarray, index: list[Any], folds: int) -> None:
    """Write folds below their bars, only some where there are many."""
    step = 1 if folds <= 8 else -(-folds // 8)
    kept = [i for i, fold in enumerate(index) if fold == "mean" or i % step == 0]
    axes.set_xticks(
        places[kept], [str(index[i]) if step > 1 or index[i] == "mean" else f"fold {index[i]}" for i in kept]
    )
    if folds == 1:
        axes.set_xlim(-1, 1)


def inner_outer(run: Run) -> pd.DataFrame:
    """Return a row a fold, in columns what there is of inner, outer and best: accuracy, or mean absolute error."""
    result = run.result
    metric = "accuracy" if result.task.classes else "mae"
    columns = {"outer": run.summary.folds[metric]}
    if result.inner is not None:
        own = result.inner[result.inner["part"] >= 0]
        right = errors_of(replace(result, predictions=own))
        columns = {"inner": pd.Series(right).groupby(own["part"].to_numpy()).mean(), **columns}
    if result.looks is not None:
        columns["best"] = result.looks.set_index("fold")["best"]
    return pd.DataFrame(columns).reindex(run.summary.folds.index)


def same_folds(a: Result, b: Result) -> bool:
    """Whether the same videos are in the same folds."""
    pairs = [set(zip(r.predictions["video_id"].astype(str), r.predictions["fold"], strict=True)) for r in (a, b)]
    return pairs[0] == pairs[1]


def _compare(axes: Any, metric: str, summaries: list[Summary], same: bool) -> None:
    """Draw a bar a summary, from top to bottom, and one of guessing."""
    scale = scale_of(metric)
    means = scale * np.array([*(s.mean[metric] for s in summaries), summaries[0].guess[metric]])
    sds = scale * np.array([s.sd[metric] for s in summaries])
    shades = [BLUE, *[GREY] * (len(summaries) - 1), ROSE]
    axes.barh(range(len(means)), np.nan_to_num(means), 0.52, color=shades, alpha=0.8, zorder=2)
    rows = range(len(summaries))
    axes.errorbar(
        means[:-1], rows, xerr=np.nan_to_num(sds), fmt="none", ecolor=INK, elinewidth=1.2, capsize=3, zorder=4
    )
    folds = [scale * s.folds[metric].to_numpy(float) for s in summaries]
    heights = [row + np.linspace(-0.18, 0.18, len(f)) if len(f) > 1 else np.array([row]) for row, f in enumerate(folds)]
    crowded = max(map(len, folds)) > 10
    if same and not crowded:
        for joined, rows_of in zip(zip(*folds, strict=True), zip(*heights, strict=True), strict=True):
            axes.plot(joined, rows_of, color=INK, lw=0.5, alpha=0.45, zorder=3)
    for values, at in zip(folds, heights, strict=True):
        axes.plot(values, at, "o", color="white", mec=INK, mew=0.7, ms=2.5 if crowded else 3.8, zorder=5)
    texts = [
        *(spread(metric, s.mean[metric], s.sd[metric]) for s in summaries),
        number(metric, summaries[0].guess[metric]),
    ]
    across = axes.get_yaxis_transform()
    for row, text in enumerate(texts):
        axes.text(0.03, row - 0.285, text, va="bottom", fontsize=SMALL, color=INK, bbox=BOX, transform=across, zorder=6)
    axes.set_xlim(*_room(np.concatenate([*folds, means]), metric))
    tidy(axes, x=label_of(metric))
    axes.tick_params(axis="y", length=0)


def _seed_name(encoder: str, place: int) -> str:
    seed = encoder.rpartition("@")[2]
    return f"random @{seed}" if seed.isdigit() else f"random {place + 1}"


def _write_values(
    axes: Any, places: np.ndarray, values: np.ndarray, metric: str, colour: str, turn: float = 0.0
) -> None:
    """Write values at the foot of their bars, where lines of means seldom cross them; above bars too low for that."""
    low, high = axes.get_ylim()
    need = (0.5 if turn else 0.3) / axes.figure.get_figheight() * len(axes.figure.axes) * (high - low)
    for place, value in zip(places, values, strict=True):
        tall, down = abs(scale_of(metric) * value) > need, value < 0
        foot = 0.0 if tall or value != value else scale_of(metric) * value
        axes.annotate(
            number(metric, value), (place, foot), (0, -3 if down else 3), textcoords="offset points", ha="center",
            va="top" if down else "bottom", fontsize=SMALL, rotation=turn, zorder=5, color=colour if tall else INK,
            bbox=None if tall and colour == "white" else BOX,
        )  # fmt: skip


def _room(values: np.ndarray, metric: str) -> tuple[float, float]:
    """Return limits that hold every value; shares from 0 to all, so that bars are not cut."""
    known = values[np.isfinite(values)]
    if metric in ("accuracy", "balanced_accuracy", "auroc"):
        return 0.0, 112.0 if metric != "auroc" else 1.12
    low, high = min(known.min(initial=0), 0.0), max(known.max(initial=0), 0.0)
    edge = 0.15 * (high - low) or 1.0
    return low - (edge if low < 0 else 0), high + edge
