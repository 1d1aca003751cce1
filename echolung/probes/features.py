"""The tokens of a store by video: segments joined along the token axis, random views beside the fixed one.

What fits into the memory asked for is held; the rest is read from the store as batches ask for it, ahead of them.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from echolung.cache import TokenStore
from echolung.errors import InputError
from echolung.text import in_bytes

Plan = Sequence[tuple[Int[np.ndarray, " _"], Int[np.ndarray, " _"] | None]]
"""Batches to come: the videos of each, and which view of each video (None: the fixed one)."""

BATCHES_AT_ONCE = 3
"""The one that the caller computes with, the one that waits for it, the one being read."""

PIECE = 8
"""Clips that one read of streamed videos asks for: enough to keep its threads busy, few enough to cost no memory."""


@dataclass(frozen=True)
class Streamed:
    """Where the tokens that are not held come from.

    Attributes:
        store: the token store.
        clips: rows of the store [videos, views, segments] of all videos that were loaded, held or not.
        room: bytes that batches may take while they are read ahead.
    """

    store: TokenStore
    clips: Int[np.ndarray, "v views segments"]
    room: int


@dataclass(frozen=True, eq=False)
class Features:
    """What probes are trained on.

    Attributes:
        video_ids: the videos, in the order of the store's table.
        held: tokens in memory [videos, views, n, dim]; n = segments × tokens, or a row a segment where they are pooled.
            View 0 is the fixed one.
        segments: equal runs that the token axis consists of; 1 where segments count as one (early fusion).
        places: where each video is among those loaded: the first of these are held, the rest streamed. None: in order.
        streamed: where the rest comes from.
        on: a copy of `held` on another device, or in another precision.
        standardised: tokens have been through the normalisation that probes share, and need none.
    """

    video_ids: tuple[str, ...]
    held: Float[np.ndarray, "h views n d"]
    segments: int = 1
    places: Int[np.ndarray, " v"] | None = None
    streamed: Streamed | None = None
    on: Tensor | None = None
    standardised: bool = False

    def __len__(self) -> int:
        return len(self.video_ids)

    @property
    def views(self) -> int:
        """Views a video: 1 where there are no random ones."""
        return self.held.shape[1]

    @property
    def n(self) -> int:
        """Tokens a video, of all its segments."""
        return self.held.shape[2]

    @property
    def dim(self) -> int:
        """Width of a token."""
        return self.held.shape[3]

    @property
    def pooled(self) -> bool:
        """Whether there is one row a segment (or a video), its mean token."""
        return self.n == self.segments

    @property
    def in_memory(self) -> bool:
        """Whether every video is held."""
        return bool((self._places < len(self.held)).all())

    @property
    def _places(self) -> Int[np.ndarray, " v"]:
        return np.arange(len(self)) if self.places is None else self.places

    @property
    def values(self) -> Float[np.ndarray, "v views n d"]:
        """The tokens of all videos, where all are held (ValueError where not): not a copy, where none were selected."""
        if not self.in_memory:
            raise ValueError("some of these videos are streamed: go through batches")
        return self.held if self.places is None else self.held[self.places]

    def batches(self, plan: Plan, device: torch.device | str = "cpu") -> Iterator[Float[Tensor, "b n d"]]:
        """Yield the tokens of each batch of a plan, as held (float16, or float32 where pooled), on `device`.

        Streamed videos are read in a thread while the caller computes. It ends with the iterator, however that ends.

        Raises:
            InputError: a batch that is larger than what was left for reading ahead.
            RunError: the store is damaged.
        """
        if self.in_memory:
            for videos, views in plan:
                yield self._gather(videos, views, device).to(device, non_blocking=True)
            return
        self._check_room(max((len(videos) for videos, _ in plan), default=0))
        ahead: deque[Future[Tensor]] = deque()
        reader = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        try:
            for videos, views in plan:
                ahead.append(reader.submit(self._gather, videos, views, device))
                if len(ahead) == BATCHES_AT_ONCE - 1:
                    yield ahead.popleft().result().to(device, non_blocking=True)
            while ahead:
                yield ahead.popleft().result().to(device, non_blocking=True)
        finally:
            reader.shutdown(cancel_futures=True)

    def select(self, videos: Int[np.ndarray, " k"]) -> "Features":
        """Return the features of some videos. Nothing is copied or read."""
        return replace(self, video_ids=tuple(self.video_ids[i] for i in videos), places=self._places[videos])

    def to(self, device: torch.device | str) -> "Features":
        """Return the same features with a copy of the held tokens on `device`, where all are held; else themselves."""
        return replace(self, on=torch.from_numpy(self.held).to(device)) if self.in_memory else self

    def standardise(
        self, normalise: Callable[..., Tensor], dtype: torch.dtype, device: torch.device | str
    ) -> "Features":
        """Return the features normalised once for all epochs, on `device`, where all are held; else themselves."""
        if not self.in_memory:
            return self
        done = torch.empty(self.held.shape, dtype=dtype, device=device)
        for place, tokens in enumerate(self.held):
            done[place] = normalise(torch.from_numpy(tokens).to(device), dtype)
        if done.device.type == "cpu" and dtype is torch.float32:
            return replace(self, held=done.numpy(), on=None, standardised=True)
        return replace(self, on=done, standardised=True)

    def _gather(
        self, videos: Int[np.ndarray, " b"], views: Int[np.ndarray, " b"] | None, device: torch.device | str
    ) -> Float[Tensor, "b n d"]:
        places, chosen = self._places[videos], np.zeros(len(videos), int) if views is None else views
        if self.on is not None:
            return self.on[torch.from_numpy(places).to(self.on.device), torch.from_numpy(chosen).to(self.on.device)]
        # Page-locked memory is what a copy to a GPU can be overlapped from.
        pinned = torch.device(device).type == "cuda"
        here = places < len(self.held)
        if here.all():
            tokens = torch.from_numpy(self.held[places, chosen])
            return tokens.pin_memory() if pinned else tokens
        dtype = torch.from_numpy(self.held).dtype
        tokens = torch.empty((len(videos), self.n, self.dim), dtype=dtype, pin_memory=pinned)
        values = tokens.numpy()
        for i in np.flatnonzero(here):  # one by one: no copy of all of them on the way
            values[i] = self.held[places[i], chosen[i]]
        self._read(values, places, chosen)
        return tokens

    def _read(
        self, values: Float[np.ndarray, "b n d"], places: Int[np.ndarray, " b"], chosen: Int[np.ndarray, " b"]
    ) -> None:
        """Fill in the videos that are not held."""
        away = np.flatnonzero(places >= len(self.held))
        if self.streamed is None or not len(away):
            return
        step = max(1, PIECE // self.streamed.clips.shape[2])
        for start in range(0, len(away), step):
            some = away[start : start + step]
            rows = self.streamed.clips[places[some], chosen[some]].reshape(-1)
            values[some] = self.streamed.store.tokens(rows).reshape(len(some), self.n, self.dim)

    def _check_room(self, batch: int) -> None:
        size = self.n * self.dim * self.held.itemsize
        if self.streamed is not None and batch * size * BATCHES_AT_ONCE > self.streamed.room:
            most = int(self.streamed.room // (size * BATCHES_AT_ONCE))
            raise InputError(
                f"A batch of {batch} videos takes {in_bytes(batch * size)}, and --memory leaves room to read batches of "
                f"{most} ahead. Take smaller batches, or give more memory."
            )


def load_features(
    store: TokenStore, *, pooled: bool, fusion: str = "early", memory: float | int | None = None, batch: int = 16
) -> Features:
    """Return the features of a store: float32 means over tokens, or all tokens as float16. Unreadable videos are left out.

    Args:
        store: where they are.
        pooled: mean tokens: one row a video (the mean of its segments'), or a row a segment (`fusion="late"`).
        fusion: "early": segments count as one; "late": `Features.segments` tells where they meet.
        memory: bytes that tokens may take; what goes beyond is streamed from the store. None: all is held. Mean tokens
            always are.
        batch: videos that a batch will have, at most: while some are streamed, BATCHES_AT_ONCE of them count as well.

    Raises:
        InputError: no video could be read; too little memory; a store of mean tokens only, and not `pooled`.
        RunError: the store is damaged.
    """
    tokens, dim = store.token_shape
    if not pooled and tokens == 0:
        raise InputError(
            f"The store {store.path.name} has no tokens, only their means. Use a probe on mean tokens (linear, logistic, "
            "knn, mlp), or extract again without --tokens none."
        )
    names, clips = _videos(store)
    count, views, segments = clips.shape
    runs = segments if fusion == "late" else 1
    if pooled:
        means = store.pooled(clips.reshape(-1)).reshape(count, views, segments, dim)
        if fusion == "early":
            # Every clip has as many tokens, so the mean over a video's tokens is the mean of its clips' means.
            means = means.mean(axis=2, keepdims=True, dtype=np.float64).astype(np.float32)
        return Features(names, means, runs)
    size = segments * tokens * dim * 2  # of one view of a video, in float16
    fitting = count
    if memory is not None and count * views * size > memory:
        room = BATCHES_AT_ONCE * min(batch, count) * size + max(PIECE, segments) * size // segments
        if memory < room:
            raise InputError(
                f"--memory leaves {in_bytes(memory)} for tokens (half of it), which is too little: one video's take "
                f"{in_bytes(size)}, and {BATCHES_AT_ONCE} batches of {min(batch, count)} must fit, {in_bytes(room)}. Allow "
                "more, or take a smaller --batch."
            )
        fitting = int((memory - room) // (views * size))
    held = store.tokens(clips[:fitting].reshape(-1)).reshape(fitting, views, segments * tokens, dim)
    if fitting == count:
        return Features(names, held, runs)
    return Features(
        names, held, runs, np.arange(count), Streamed(store, clips, BATCHES_AT_ONCE * min(batch, count) * size)
    )


def _videos(store: TokenStore) -> tuple[tuple[str, ...], Int[np.ndarray, "v views segments"]]:
    """Return the videos of which every clip is complete, in the store's order, and the rows of their clips."""
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
    clips = np.stack([table[name].to_numpy() for name in order])
    return tuple(order), clips.reshape(len(order), views, segments)
