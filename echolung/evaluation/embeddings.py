"""The scored videos of a result as points: the pooled rows of its store."""

import numpy as np
import pandas as pd
from jaxtyping import Float

from echolung.cache import TokenStore
from echolung.evaluation.result import Result
from echolung.evaluation.statistics.continuity import Continuity, continuity
from echolung.probes import load_features

MOST = 2000
"""Videos that are looked at; of more so many are drawn by chance."""


def embeddings(result: Result, store: TokenStore) -> tuple[pd.DataFrame, Float[np.ndarray, "v d"]]:
    """Return the scored videos (2,000 drawn by chance, where there are more) and their standardised mean tokens.

    Of an official split these are the videos of its test part, and no others.
    """
    features = load_features(store, pooled=True)
    videos = result.predictions.drop_duplicates("video_id")
    videos = videos[videos["video_id"].isin(features.video_ids)].sort_values("video_id")
    if len(videos) > MOST:
        videos = videos.sample(MOST, random_state=0)
    place = {name: i for i, name in enumerate(features.video_ids)}
    values = features.held[[place[name] for name in videos["video_id"]], 0, 0].astype(np.float64)
    spread = values.std(0)
    values = (values - values.mean(0)) / np.where(spread > 0, spread, 1)
    return videos.reset_index(drop=True), values


def continuity_of(result: Result, store: TokenStore, seed: int = 0) -> Continuity | None:
    """Return how smoothly the true number changes over the store's embeddings; None of classes, or of too few patients.

    It is a property of encoder and clips: the probe has no part in it. Of a fine-tuned encoder the store knows nothing: None.
    """
    if result.task.classes or "tuning" in result.settings:
        return None
    videos, values = embeddings(result, store)
    names = videos["patient"].astype(str)
    patients = names.where(names != "", videos["video_id"]).to_numpy(str)
    if len(values) == 0:
        return None
    return continuity(values, videos["truth"].to_numpy(np.float64), patients, seed)
