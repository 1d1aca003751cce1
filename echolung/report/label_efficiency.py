"""What a label-efficiency run leaves in its folder: the curve, the numbers behind it, every prediction."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from echolung.cache import TokenStore
from echolung.evaluation.label_efficiency import LabelEfficiency
from echolung.provenance import machine, versions
from echolung.report.figures import BLUE, GREY, new_figure, save_figure
from echolung.report.record import new_folder
from echolung.report.run import RECORD_SCHEMA
from echolung.settings import home, make_folder

AXES = {"balanced_accuracy": "balanced accuracy", "mae": "mean absolute error"}


def save_label_efficiency(
    found: LabelEfficiency, store: TokenStore, seconds: float, folder: Path | None = None
) -> Path:
    """Write label_efficiency.csv, predictions.csv, curve.png and record.json; return the folder.

    Args:
        found: what was found.
        store: what it was found in.
        seconds: how long it took.
        folder: where; default a new one under `ECHOLUNG_HOME/runs`.
    """
    settings = found.settings
    if folder is None:
        names = [settings["dataset"], settings["task"], settings["probe"], "label-efficiency", settings["group"]]
        folder = new_folder(home() / "runs", f"{datetime.now():%Y%m%d-%H%M%S}-{'-'.join(names)}")
    # Written beside its place and moved there whole: a run folder is complete or not there.
    partial = make_folder(folder.with_name(folder.name + ".partial"))
    found.table.to_csv(partial / "label_efficiency.csv", index=False, float_format="%.6g", lineterminator="\n")
    predictions = found.predictions.sort_values(["fraction", "seed", "fold", "video_id"], kind="stable")
    predictions.to_csv(partial / "predictions.csv", index=False, lineterminator="\n")
    draw_curve(found, partial / "curve.png")
    (partial / "record.json").write_text(json.dumps(_record(found, store, seconds), indent=2) + "\n")
    if folder.is_dir():
        folder.rmdir()  # an empty one is welcome, anything else an error
    return partial.rename(folder)


def curve_json(found: LabelEfficiency) -> list[dict[str, Any]]:
    """Return one dict a fraction, as plain values: what was learnt from, each metric's mean and sd; NaN becomes None."""
    rows = []
    for values in found.by_fraction().reset_index().to_dict("records"):
        row = {str(name): None if np.isnan(value) else float(value) for name, value in values.items()}
        interval = list(found.intervals[values["fraction"]])
        rows.append({**row, "seeds": int(values["seeds"]), f"{found.metric}_95": interval})
    return rows


def _record(found: LabelEfficiency, store: TokenStore, seconds: float) -> dict[str, Any]:
    return {
        "record_schema": RECORD_SCHEMA,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "optimistic": False,
        "settings": found.settings,
        "task": found.task.to_json(),
        "encoder": store.group.attrs.get("encoder"),
        "store": {"name": store.path.name, "key": store.key, "key_digest": store.group.attrs["key_digest"]},
        "shared_by_train_and_test": found.shared,
        "label_efficiency": curve_json(found),
        "counted_in": found.unit,
        "guess": {name: None if np.isnan(value) else value for name, value in found.guess.items()},
        "notes": list(found.notes),
        "versions": versions(),
        "machine": machine(),
        "seconds": round(seconds, 1),
    }


def draw_curve(found: LabelEfficiency, path: Path) -> None:
    """Draw the main metric against the number of labelled patients: mean over draws, ± sd, each draw, and guessing."""
    from matplotlib.ticker import NullFormatter, NullLocator

    metric, settings = found.metric, found.settings
    table, draws = found.by_fraction(), found.by_draw().reset_index()
    scale = 100 if found.task.classes else 1
    x, y = table["patients"].to_numpy(), scale * table[metric].to_numpy()
    sd = scale * table[f"{metric}_sd"].fillna(0).to_numpy()
    guess = scale * found.guess[metric]

    figure = new_figure(6.0, 4.0)
    axes = figure.subplots()
    axes.fill_between(x, y - sd, y + sd, color=BLUE, alpha=0.15, lw=0)
    axes.plot(draws["patients"], scale * draws[metric], "o", color=BLUE, ms=3, alpha=0.35, mew=0)
    axes.plot(x, y, "-o", color=BLUE, lw=2, ms=5)
    axes.axhline(guess, color=GREY, lw=1.2, ls="--", zorder=1)
    axes.annotate(
        "majority class" if found.task.classes else "mean of the training part",
        (1, guess), (-2, 3), xycoords=("axes fraction", "data"), textcoords="offset points",
        ha="right", va="bottom", fontsize=8, color="#6b747d",
    )  # fmt: skip
    heights = np.concatenate([y - sd, y + sd, scale * draws[metric], [guess]])
    room = 0.07 * np.ptp(heights) or 0.1
    axes.set_ylim(heights.min() - room, heights.max() + room)  # the line of guessing and its name inside
    if x.max() >= 10 * x.min():
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xticks(x, [f"{value:.0f}\n{fraction:.3g} %" for value, fraction in zip(x, 100 * table.index, strict=True)])
    axes.set_xlabel(f"labelled {found.unit}s (mean over folds), and their share")
    axes.set_ylabel(AXES[metric] + (" %" if found.task.classes else ""))
    axes.spines[["top", "right"]].set_visible(False)
    several = int(table["seeds"].max())
    how = f"mean ± sd of {several} draws" if several > 1 else "one draw a share"
    axes.set_title(
        f"{settings['dataset']} · {settings['task']}\n{settings['probe']}, nested, by {settings['group']}; {how}",
        fontsize=10,
    )
    save_figure(figure, path)
