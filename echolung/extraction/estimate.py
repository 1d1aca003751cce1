"""What an extraction would come to: clips, tokens, bytes, time; nothing is written to the disk."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from echolung.cache import TokenStore
from echolung.cache.moving import is_there
from echolung.cache.place import RemotePath, remove
from echolung.device import pick_device
from echolung.encoders import Encoder, load_encoder
from echolung.extraction.opening import create_store
from echolung.extraction.pace import measure
from echolung.extraction.parts import WHOLE, Part
from echolung.extraction.plan import ExtractionPlan
from echolung.extraction.pooling import Grid
from echolung.extraction.room import check_memory
from echolung.extraction.sources import find_changes, read_sources, worth_retrying
from echolung.machine import free_disk

CHECKSUM = 4
"""Bytes of the CRC-32C after every chunk, and after the index of a shard."""

INDEX = 16
"""Bytes of the place of one clip in the index of a shard."""

DIGEST = 64
"""Letters of a source's SHA-256."""


@dataclass(frozen=True)
class Estimate:
    """What an extraction would come to.

    Attributes:
        videos: in the dataset.
        clips: in the store once it is finished.
        remaining: clips that are still to be encoded (of the part asked for).
        grid: the tokens of a clip (t, h, w); (0, 0, 0) where only pooled rows are kept.
        dim: width of a token.
        bytes: of the finished store.
        to_write: bytes that the disk must still take.
        free: bytes free where the store is or will be; None at a URL.
        place: where that is.
        device: what the encoder was timed on, such as "cpu"; "" where nothing was timed.
        seconds: that the rest will take; None where nothing was timed, or no video could be read.
        how: what that rests on, a phrase.
    """

    videos: int
    clips: int
    remaining: int
    grid: Grid
    dim: int
    bytes: int
    to_write: int
    free: int | None
    place: str
    device: str = ""
    seconds: float | None = None
    how: str = ""

    @property
    def tokens(self) -> int:
        """Tokens a clip that are kept."""
        return int(np.prod(self.grid))

    @property
    def fits(self) -> bool:
        """Whether the disk has room for what is to be written."""
        return self.free is None or self.to_write * 1.02 <= self.free


def estimate(
    plan: ExtractionPlan,
    *,
    device: str = "auto",
    batch: int | None = None,
    shard: int | None = None,
    part: Part = WHOLE,
    workers: int | None = None,
    preview: bool = True,
    retry: bool = False,
    timed: bool = True,
) -> Estimate:
    """Return what `extract` would come to with these arguments, which are its own.

    Bytes are those of the same layout made in memory, with what the clips will add. The time is measured: a few random
    clips through the encoder, and up to three of the videos decoded.

    Raises:
        InputError: as `extract` does before it begins; the weights do not fit into memory.
    """
    check_memory(plan.identity)
    encoder = load_encoder(plan.identity, device=pick_device(device))
    store = TokenStore.open(plan.path, plan.key, unfinished=True) if is_there(plan.path) else None
    if store is not None:  # what it was begun with holds
        batch, shard, preview = store.batch, store.block if store.sharded else None, "preview" in store.group
    todo, grows = _todo(plan, store, retry)
    with _laid_out(plan, encoder, batch, shard, preview) as layout:
        size = layout.size + sum(_data(layout, name, len(todo)) for name, _ in layout.group.arrays())
        block, batch, grid = layout.block, layout.batch, layout.grid
    remaining = int((todo & part.clips(len(todo), block)).sum())
    held = store.size if store is not None and not grows else 0  # a store that grows is copied into a larger one
    found = Estimate(
        videos=len(plan.manifest.videos),
        clips=len(todo),
        remaining=remaining,
        grid=grid,
        dim=encoder.spec.dim,
        bytes=size,
        to_write=max(0, size - held) if todo.any() else 0,
        free=free_disk(plan.path) if isinstance(plan.path, Path) else None,  # at a URL nobody knows
        place=str(plan.path),
    )
    if not (timed and remaining):
        return found
    pace = measure(plan, encoder, batch, workers)
    return replace(found, device=pace.device, seconds=pace.seconds(remaining, plan.clips.clips), how=pace.how)


def _todo(plan: ExtractionPlan, store: TokenStore | None, retry: bool) -> tuple[Bool[np.ndarray, " clips"], bool]:
    """Return which of the finished store's clips are to be encoded, and whether the store there is has to grow."""
    if store is None:
        return np.ones(len(plan.manifest.videos) * plan.clips.clips, bool), False
    changed = find_changes(store, plan.manifest, read_sources(plan.manifest)).content
    todo = store.missing | changed | (store.failed if retry else worth_retrying(store))
    new = set(plan.manifest.videos["video_id"]) - set(store.rows["video_id"])
    return np.concatenate([todo, np.ones(len(new) * plan.clips.clips, bool)]), bool(new)


@contextmanager
def _laid_out(
    plan: ExtractionPlan, encoder: Encoder, batch: int | None, shard: int | None, preview: bool
) -> Iterator[TokenStore]:
    """Yield the plan's store as it is before its first clip, in memory."""
    place = RemotePath(f"memory://{uuid.uuid4().hex}/{plan.path.name}")
    try:
        yield create_store(replace(plan, path=place), encoder, batch, shard, preview, video=True)
    finally:
        remove(place.parent)


def _data(layout: TokenStore, name: str, clips: int) -> int:
    """Return the bytes that the clips add to an array, once the store is finished and every video could be read."""
    array = layout.array(name)
    if name == "error":  # nothing but empty strings, which need no file
        return 0
    if name == "source_digest":
        return 2 * CHECKSUM + clips * (4 + DIGEST)  # each string, and their number, after four bytes of length
    each = int(np.prod(array.shape[1:])) * array.dtype.itemsize
    if name not in ("tokens", "preview"):
        return clips * each + CHECKSUM
    files = -(-clips // layout.block)
    if array.shards is not None:
        return clips * (each + CHECKSUM) + files * (layout.block * INDEX + CHECKSUM) if each else 0
    if name == "preview":
        return files * (layout.block * each + CHECKSUM)  # a chunk is a block, the last one, too
    return clips * (each + CHECKSUM) if each else 0
