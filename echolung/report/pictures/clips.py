"""What is shown of a video: its small grey frames, and how a run judged it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int, UInt8

from echolung.cache import TokenStore
from echolung.evaluation import Result
from echolung.evaluation.result import score_columns

FRAMES = 8
"""Frames of a strip: as many as the store keeps of a clip."""


def has_previews(store: TokenStore) -> bool:
    """Whether the store keeps small grey frames."""
    return "preview" in store.group


def clip_rows(store: TokenStore, video_ids: Sequence[str]) -> dict[str, Int[np.ndarray, " segments"]]:
    """Return the rows of each video's segments, in order, in the fixed view; a video that was not read whole is left out."""
    rows = store.rows.assign(row=np.arange(store.clips), there=store.complete)
    rows = rows[(rows["view"] == 0) & rows["video_id"].isin(video_ids)].sort_values(["segment"], kind="stable")
    found = {name: part["row"].to_numpy() for name, part in rows.groupby("video_id") if part["there"].all()}
    return {name: found[name] for name in video_ids if name in found}


def strip_frames(store: TokenStore, rows: Int[np.ndarray, " segments"]) -> UInt8[np.ndarray, "8 112 112"]:
    """Return eight frames of a video, evenly over all its segments."""
    previews = store.previews(rows)
    return previews.reshape(-1, *previews.shape[2:])[spread(len(rows) * previews.shape[1])]


def spread(count: int, wanted: int = FRAMES) -> Int[np.ndarray, " wanted"]:
    """Return the places of `wanted` things, evenly over `count`."""
    return np.linspace(0, count - 1, wanted).round().astype(int)


def judged(result: Result) -> pd.DataFrame:
    """Return how the videos were judged out of fold, one row a video, of repeated runs by the mean prediction.

    Columns: video_id, patient, source, fold (a text: "0", of repeats "0, 7"), truth, predicted, right and sure (probability
    of the true class and of the predicted one; NaN of numbers), loss (−log of `right`, or the absolute error) and wrong.
    """
    columns = score_columns(result.task)
    how: dict[str, Any] = {
        "patient": "first",
        "source": "first",
        "fold": lambda folds: ", ".join(map(str, folds)),
        "truth": "first",
    }
    table = (
        result.predictions.groupby("video_id", sort=False).agg({**how, **dict.fromkeys(columns, "mean")}).reset_index()
    )
    scores = table.pop(columns[0]).to_numpy(float)[:, None] if len(columns) == 1 else table[columns].to_numpy(float)
    table = table.drop(columns=columns, errors="ignore")
    if not result.task.classes:
        error = np.abs(scores[:, 0] - table["truth"].to_numpy(float))
        return table.assign(predicted=scores[:, 0], right=np.nan, sure=np.nan, loss=error, wrong=error > 0)
    classes = np.array(result.task.classes)
    truth = table["truth"].map({name: i for i, name in enumerate(classes)}).to_numpy(int)
    right, best = scores[np.arange(len(table)), truth], scores.argmax(1)
    loss = -np.log(np.maximum(right, 1e-9))
    return table.assign(predicted=classes[best], right=right, sure=scores.max(1), loss=loss, wrong=best != truth)


def verdict(video: "pd.Series[Any]") -> str:
    """Return "covid 2 %, predicted pneumonia 93 %", or "61.2, predicted 48", of a row of `judged`."""
    if pd.isna(video["sure"]):
        return f"{video['truth']:.4g}, predicted {video['predicted']:.4g}"
    if not video["wrong"]:
        return f"{video['truth']}, predicted so {100 * video['sure']:.0f} %"
    return f"{video['truth']} {100 * video['right']:.0f} %, predicted {video['predicted']} {100 * video['sure']:.0f} %"


def whereabouts(video: "pd.Series[Any]", what: Sequence[str] = ("patient", "source", "fold")) -> str:
    """Return "Cov-1.mp4 · patient 12 · source Butterfly · fold 3" of a row of predictions, without what is not known."""
    known = [f"{name} {video[name]}" for name in what if str(video[name]) not in ("", "nan")]
    return " · ".join([shorten(str(video["video_id"])), *known])


def shorten(name: str, most: int = 30) -> str:
    """Return a name with its middle left out where it is long: both ends tell videos apart."""
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[:half]}…{name[-half:]}"
