"""The tokens of a store by video: segments joined along the token axis, random views beside the fixed one."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from echolung.cache import TokenStore
from echolung.errors import InputError


@dataclass(frozen=True)
class Features:
    """What probes are trained on.

    Attributes:
        video_ids: the videos, in the order of the store's table.
        values: tokens [videos, views, n, dim]; n = segments × tokens, or 1 where they are pooled. View 0 is the fixed one.
    """

    video_ids: tuple[str, ...]
    values: Float[np.ndarray, "v views n d"]

    def __len__(self) -> int:
        return len(self.video_ids)

    @property
    def dim(self) -> int:
        """Width of a token."""
        return self.values.shape[3]

    @property
    def views(self) -> int:
        """Views a video: 1 where there are no random ones."""
        return self.values.shape[1]

    def batch(
        self,
        videos: Int[np.ndarray, " b"],
        views: Int[np.ndarray, " b"] | None = None,
        device: torch.device | str = "cpu",
    ) -> Float[Tensor, "b n d"]:
        """Return the tokens of some videos as float32: of the fixed view, or of one view each."""
        taken = self.values[videos, 0 if views is None else views]
        return torch.from_numpy(taken).to(device).float()

    def select(self, videos: Int[np.ndarray, " k"]) -> "Features":
        """Return the features of some videos."""
        return Features(tuple(self.video_ids[i] for i in videos), self.values[videos])


def load_features(store: TokenStore, *, pooled: bool) -> Features:
    """Read a store into memory: float32 means over tokens, or all tokens as float16.

    Unreadable videos are left out.

    Raises:
        InputError: no video could be read.
    """
    rows = store.rows.assign(row=np.arange(store.clips))
    whole = pd.Series(store.complete).groupby(rows["video_id"].to_numpy()).transform("all")
    if not whole.any():
        raise InputError(
            f"No video of {store.path.name} could be read at extraction, so there is nothing to learn from."
        )
    rows = rows[whole.to_numpy()].sort_values(["video_id", "view", "segment"], kind="stable")
    views, segments = int(rows["view"].max()) + 1, int(rows["segment"].max()) + 1
    order = rows.groupby("video_id")["row"].min().sort_values(kind="stable").index  # as the store has them
    table = dict(iter(rows.groupby("video_id")["row"]))
    clips = np.stack([table[name].to_numpy() for name in order])  # [videos, views · segments]
    flat = clips.reshape(-1)
    if pooled:
        # Every clip has as many tokens, so the mean over a video's tokens is the mean of its clips' means.
        means = store.pooled(flat).reshape(len(clips), views, segments, -1)
        return Features(tuple(order), means.mean(axis=2, keepdims=True, dtype=np.float64).astype(np.float32))
    tokens, dim = store.token_shape
    return Features(tuple(order), store.tokens(flat).reshape(len(clips), views, segments * tokens, dim))
