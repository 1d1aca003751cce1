"""What is known of a store's videos beside their labels: the dataset's table, length and frame rate, who is padded."""

import numpy as np
import pandas as pd
from jaxtyping import Bool

from echolung.cache import TokenStore


def facts_of(store: TokenStore) -> pd.DataFrame:
    """Return the dataset's table with `frames`, `fps` and `padded` ("padded", "whole" or "") where the store knows them."""
    table = store.snapshot.videos
    facts = store.video_facts
    if facts is None:
        return table
    known = facts[["frames", "fps"]]
    table = table.drop(columns=[name for name in known if name in table]).join(known, on="video_id")
    if "frame_rate" in table:  # of formats that have no clock, as NIfTI
        table["fps"] = table["fps"].fillna(pd.to_numeric(table["frame_rate"], errors="coerce"))
    if {"first_frame", "last_frame"} <= set(table):
        first, last = (pd.to_numeric(table[name], errors="coerce") for name in ("first_frame", "last_frame"))
        table["frames"] = ((last - first).abs() + 1).fillna(table["frames"])
    needed = frames_needed(store, table["fps"])
    if needed is None:
        return table
    short = np.where(is_short(table["frames"], needed), "padded", "whole")
    return table.assign(padded=np.where(table["frames"].isna() | needed.isna(), "", short))


def frames_needed(store: TokenStore, fps: "pd.Series[float]") -> "pd.Series[float] | None":
    """Return how many frames of each video one clip spans; None where the store's key does not say."""
    clips = store.key.get("clips", {})
    if "frames" not in clips:
        return None
    if clips.get("fps"):
        return (clips["frames"] - 1) * fps / clips["fps"] + 1
    return pd.Series((clips["frames"] - 1) * clips.get("stride", 1) + 1.0, fps.index)


def is_short(frames: "pd.Series[float]", needed: "pd.Series[float]") -> Bool[np.ndarray, " v"]:
    """Return which videos are shorter than a clip by a frame at least: their clips are padded."""
    return (frames < needed - 0.5).to_numpy()
