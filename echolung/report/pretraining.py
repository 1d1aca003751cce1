"""What a pretraining run left in its log: the numbers in short, and the curves as a picture."""

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from echolung.errors import InputError

BLUE, GREY, RED, GREEN = "#1f5fa8", "#9aa3ad", "#d1495b", "#3a8f6b"
GENERATORS = (BLUE, RED, GREEN, GREY)

NAMES = {"r2": "R²", "balanced_accuracy": "balanced accuracy", "mae": "MAE", "rmse": "RMSE", "auroc": "AUROC"}

MOST_PANELS = 3
"""Gauges that are drawn, at most."""

SMOOTH = 50
"""Most smoothed points that a loss curve is drawn with; each is the mean of a stretch of steps."""


def read_log(path: Path) -> pd.DataFrame:
    """Return the log of a run, one row a step, ascending; of a step taken twice the later, as after a kill.

    A last line cut short, by a kill in the middle of writing, is left out.

    Raises:
        InputError: there is no log, or no step in it.
    """
    if not path.is_file():
        raise InputError(f"There is no log {path}: either this is no pretraining run, or it has not begun.")
    rows: dict[int, dict[str, Any]] = {}
    for line in path.read_text("utf-8").splitlines():
        try:
            row = json.loads(line)
            rows[int(row["step"])] = row
        except (ValueError, KeyError, TypeError):
            continue
    if not rows:
        raise InputError(f"The log {path} holds no step yet.")
    return pd.DataFrame([rows[step] for step in sorted(rows)])


def summarise_log(log: pd.DataFrame) -> dict[str, Any]:
    """Return plain values: steps, loss at the start and at the end (means of a fiftieth), gauges, scores, time."""
    loss = log["loss"].to_numpy(float)
    stretch = max(1, len(loss) // 50)
    gauges, scores = _last(log, "gauges"), _last(log, "scores")
    seconds = float(log["seconds"].sum()) if "seconds" in log else math.nan
    waited = float(log["waited"].sum()) if "waited" in log else math.nan
    return {
        "steps": int(log["step"].iloc[-1]),
        "loss_first": float(loss[:stretch].mean()),
        "loss_last": float(loss[-stretch:].mean()),
        "seconds": round(seconds, 1),
        "waited_share": round(waited / seconds, 4) if seconds else None,
        "clips_per_second": round(float(log["clips_per_second"].median()), 2) if "clips_per_second" in log else None,
        "gauges": gauges,
        "scores": scores,
    }


def draw_log(log: pd.DataFrame, title: str, path: Path) -> None:
    """Draw loss and learning rate over the steps, and below them the gauges of the representation, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    gauges, scores = _rows(log, "gauges"), _rows(log, "scores")
    panels = _gauge_panels(gauges) + [_draw_scores] * bool(len(scores))
    figure = Figure(figsize=(9.0, 6.4 if panels else 4.2), layout="constrained", dpi=150)
    parts = figure.subfigures(2 if panels else 1, 1, height_ratios=[1.75, 1] if panels else [1], squeeze=False)[:, 0]
    upper, lower = parts[0].subplots(2, 1, sharex=True, height_ratios=[4, 1])
    _draw_loss(upper, log)
    _draw_rate(lower, log)
    upper.set_title(title, fontsize=10, loc="left")
    if panels:
        for axes, draw in zip(np.atleast_1d(parts[1].subplots(1, len(panels))), panels, strict=True):
            draw(axes, scores if draw is _draw_scores else gauges)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    figure.savefig(path, metadata={"Software": None})


def _gauge_panels(gauges: pd.DataFrame) -> list[Callable[[Any, pd.DataFrame], None]]:
    """Return what to draw of the gauges: of JEPA its own three panels, of an objective with labels a panel each."""
    if not len(gauges):
        return []
    names = list(gauges["value"].iloc[-1])
    if "std_wanted" in names:
        return [_draw_ranks, _draw_spread, _draw_context]
    return [partial(_draw_gauge, name) for name in names[:MOST_PANELS]]


def _draw_gauge(name: str, axes: Any, gauges: pd.DataFrame) -> None:
    values = [row.get(name, math.nan) for row in gauges["value"]]
    axes.plot(gauges["step"], values, color=BLUE, lw=1.4)
    axes.set_title(name.replace("_", " "), fontsize=9, loc="left")
    axes.set_xlabel("step", fontsize=8)


def _draw_loss(axes: Any, log: pd.DataFrame) -> None:
    steps, loss = log["step"].to_numpy(), log["loss"].to_numpy(float)
    at, mean = smooth(steps, loss)
    axes.plot(steps, loss, color=BLUE, lw=0.6, alpha=0.3, label="a step")
    axes.plot(at, mean, color=BLUE, lw=1.8, label="smoothed")
    finite = loss[np.isfinite(loss)]
    if len(finite):
        low, high = np.quantile(finite, [0.002, 0.998])
        room = 0.08 * (high - low) or 0.05
        axes.set_ylim(low - room, high + room)  # one wild step must not flatten the rest
    axes.set_ylabel("loss", fontsize=9)
    axes.legend(frameon=False, fontsize=8, loc="upper right")


def _draw_rate(axes: Any, log: pd.DataFrame) -> None:
    axes.plot(log["step"], log["lr"], color=GREY, lw=1.5)
    axes.set_ylim(0, None)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    axes.yaxis.get_offset_text().set_fontsize(7)
    axes.set_ylabel("learning\nrate", fontsize=9)
    axes.set_xlabel("step", fontsize=9)


def _draw_ranks(axes: Any, gauges: pd.DataFrame) -> None:
    _draw_pair(axes, gauges, "effective_rank", "effective rank")


def _draw_spread(axes: Any, gauges: pd.DataFrame) -> None:
    _draw_pair(axes, gauges, "std", "std of a channel")


def _draw_pair(axes: Any, gauges: pd.DataFrame, key: str, title: str) -> None:
    """Draw a gauge of what is wanted (targets) and of what is predicted."""
    for what, colour in (("wanted", BLUE), ("predicted", RED)):
        values = [row.get(f"{key}_{what}", math.nan) for row in gauges["value"]]
        axes.plot(gauges["step"], values, color=colour, lw=1.4, marker="o", ms=2, label=what)
    axes.set_ylim(0, None)
    axes.set_title(title, fontsize=9, loc="left")
    axes.set_xlabel("step", fontsize=8)
    axes.legend(frameon=False, fontsize=7)


def _draw_context(axes: Any, gauges: pd.DataFrame) -> None:
    """Draw the mean visible tokens of each time slot, a line a generator, over the whole run."""
    for place, (name, slots) in enumerate(context_slots(gauges).items()):
        colour = GENERATORS[place % len(GENERATORS)]
        axes.plot(np.arange(1, len(slots) + 1), slots, color=colour, lw=1.4, marker="o", ms=3, label=name)
    axes.set_ylim(0, 1.35 * max((max(line.get_ydata()) for line in axes.lines), default=1))  # room for the legend
    axes.set_title("visible tokens a time slot", fontsize=9, loc="left")
    axes.set_xlabel("time slot", fontsize=8)
    axes.xaxis.get_major_locator().set_params(integer=True)
    if axes.lines:
        axes.legend(frameon=False, fontsize=7, loc="upper right")


def _draw_scores(axes: Any, scores: pd.DataFrame) -> None:
    name = next((key for key in scores["value"].iloc[-1] if key != "score"), "score")
    values = [row.get(name, math.nan) for row in scores["value"]]
    axes.plot(scores["step"], values, color=GREEN, lw=1.4, marker="o", ms=4)
    axes.margins(y=0.2)
    axes.set_title(f"held out: {NAMES.get(name, name)}", fontsize=9, loc="left")
    axes.set_xlabel("step", fontsize=8)


def context_slots(gauges: pd.DataFrame) -> dict[str, Float[np.ndarray, " t"]]:
    """Return generator -> mean visible tokens a time slot, over all looks of a run."""
    found: dict[str, list[list[float]]] = {}
    for row in gauges["value"]:
        for key, value in row.items():
            if key.startswith("context") and isinstance(value, list):
                found.setdefault(key, []).append(value)
    return {f"generator {place + 1}": np.array(looks, float).mean(0) for place, (_, looks) in enumerate(found.items())}


def smooth(
    steps: np.ndarray, values: Float[np.ndarray, " n"], most: int = SMOOTH
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Return the means of steps and of values over at most `most` stretches of equal length."""
    parts = np.array_split(np.arange(len(values)), min(most, len(values)))
    pairs = [(steps[part].mean(), values[part].mean()) for part in parts]
    at, mean = np.array(pairs, float).T
    return at, mean


def _rows(log: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return step and value of the rows in which a column holds a dict."""
    held = log[log[column].map(lambda value: isinstance(value, dict))] if column in log else log.iloc[:0]
    return pd.DataFrame({"step": held["step"].to_numpy(), "value": held[column].tolist() if len(held) else []})


def _last(log: pd.DataFrame, column: str) -> dict[str, Any] | None:
    rows = _rows(log, column)
    return rows["value"].iloc[-1] if len(rows) else None
