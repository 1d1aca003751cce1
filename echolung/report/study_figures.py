"""Figures of a study, drawn without a display: its history, what its best trials have in common, what mattered."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from echolung.report.figures import BLUE, GREY, new_figure, save_figure


def draw_history(table: pd.DataFrame, title: str, loss: str, path: Path) -> None:
    """Draw each trial's value, and the best so far of every study, in the order of trials."""
    figure = new_figure(7.0, 3.8)
    axes = figure.subplots()
    finite = table[np.isfinite(table["value"])]
    complete = finite[finite["state"] == "complete"]
    for part, rows in complete.groupby("study", sort=False):
        best = rows["value"].cummin()
        last = int(table.loc[table["study"] == part, "number"].max())
        style = {"color": BLUE, "lw": 2, "zorder": 3} if part == "all" else {"color": GREY, "lw": 1}
        axes.step([*rows["number"], last], [*best, best.iloc[-1]], where="post", **style)
    whole = finite[finite["study"] == "all"]
    for state, style in (
        ("complete", {"color": BLUE, "s": 12}),
        ("pruned", {"color": GREY, "s": 14, "marker": "x", "lw": 0.8}),
    ):
        rows = whole[whole["state"] == state]
        axes.scatter(rows["number"], rows["value"], alpha=0.75, **style, zorder=2)
    low, high = complete["value"].min(), finite["value"].quantile(0.95)
    room = 0.06 * (high - low) or 0.1
    axes.set_ylim(low - room, high + room)  # a few diverged trials must not flatten the rest
    handles = [
        axes.plot([], [], color=BLUE, lw=2)[0],
        *([axes.plot([], [], color=GREY, lw=1)[0]] if table["study"].nunique() > 1 else []),
        axes.scatter([], [], color=BLUE, s=12),
        *([axes.scatter([], [], color=GREY, s=14, marker="x", lw=0.8)] if (whole["state"] == "pruned").any() else []),
    ]
    names = ["best so far, all data", "best so far, each outer fold", "trial (all data)", "pruned, last value"]
    kept = [names[0], *names[1:2] * (table["study"].nunique() > 1), names[2], names[3]]
    axes.legend(handles, kept[: len(handles)], frameon=False, fontsize=8, loc="upper right")
    axes.set_xlabel("trial")
    axes.set_ylabel(loss)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, fontsize=10)
    save_figure(figure, path)


def draw_importance(weights: Mapping[str, Mapping[str, float]], title: str, path: Path) -> None:
    """Draw each hyper-parameter's mean share of importance over the studies, and the share in each as a dot."""
    table = pd.DataFrame(weights)  # hyper-parameter × study
    table = table.loc[table.mean(axis=1).sort_values().index]
    figure = new_figure(6.0, 1.3 + 0.38 * len(table))
    axes = figure.subplots()
    places = np.arange(len(table))
    axes.barh(places, table.mean(axis=1), color="#bcd2ea", height=0.62)
    if table.shape[1] > 1:
        spread = np.linspace(-0.18, 0.18, table.shape[1])
        for offset, part in zip(spread, table, strict=True):
            axes.plot(table[part], places + offset, "o", color=BLUE if part == "all" else GREY, ms=3.5)
    axes.set_yticks(places, table.index)
    axes.set_xlabel(
        "share of importance (PED-ANOVA)" + ("; a dot a study, blue: all data" if table.shape[1] > 1 else ""),
        fontsize=9,
    )
    axes.set_xlim(0, None)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_title(title, fontsize=10)
    save_figure(figure, path)


def draw_parallel(
    table: pd.DataFrame, space: Mapping[str, Mapping[str, Any]], title: str, loss: str, path: Path
) -> None:
    """Draw every finished trial of one study as a line over its hyper-parameters; the better, the darker and on top."""
    names = list(space)
    figure = new_figure(1.6 + 1.45 * (len(names) + 1), 4.2)
    axes = figure.subplots()
    ordered = table.sort_values("value", ascending=False)
    values = ordered["value"].to_numpy(float)
    low, high = values.min(), np.quantile(values, 0.95)
    heights = [_heights(ordered[name], space[name]) for name in names]
    heights.append(np.clip((values - low) / ((high - low) or 1), 0, 1.03))
    lines = np.stack(heights, axis=1)
    from matplotlib import colormaps

    shades = colormaps["Blues"](np.linspace(0.15, 0.95, len(lines)))
    for place, (line, shade) in enumerate(zip(lines, shades, strict=True)):
        best = place == len(lines) - 1
        axes.plot(line, color="#d1495b" if best else shade, lw=2 if best else 0.9, alpha=1 if best else 0.8)
    box = {"fc": "white", "ec": "none", "alpha": 0.75, "pad": 0.6}
    for place, name in enumerate([*names, loss]):
        axes.axvline(place, color="#444444", lw=0.8, zorder=3)
        ticks = _ticks(space[name]) if name in space else {0.0: f"{low:.3g}", 1.0: f"{high:.3g}"}
        for height, text in ticks.items():
            axes.text(place + 0.04, height, text, fontsize=7, va="center", zorder=4, bbox=box)
    axes.set_xticks(range(len(names) + 1), [*names, loss])
    axes.set_xlim(-0.1, len(names) + 0.3)
    axes.set_ylim(-0.05, 1.07)
    axes.set_yticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(f"{title}\n{len(table)} finished trials on all data, the best in red", fontsize=10)
    save_figure(figure, path)


def _heights(column: "pd.Series[Any]", field: Mapping[str, Any]) -> np.ndarray:
    """Return where values stand on their axis, 0 to 1; words are spread a little so that their lines do not coincide."""
    if "choices" in field:
        places = {word: place for place, word in enumerate(field["choices"])}
        jitter = np.random.default_rng(0).uniform(-0.03, 0.03, len(column))
        return column.map(places).to_numpy(float) / max(1, len(places) - 1) + jitter
    scale = np.log if field["log"] else np.asarray
    low, high = (scale(float(field[end])) for end in ("low", "high"))
    return (scale(column.to_numpy(float)) - low) / ((high - low) or 1)


def _ticks(field: Mapping[str, Any]) -> dict[float, str]:
    """Return height -> what is written there."""
    if "choices" in field:
        return {place / max(1, len(field["choices"]) - 1): str(word) for place, word in enumerate(field["choices"])}
    low, high = float(field["low"]), float(field["high"])
    middle = (low * high) ** 0.5 if field["log"] else (low + high) / 2
    return {0.0: f"{low:g}", 0.5: f"{middle:.2g}", 1.0: f"{high:g}"}
