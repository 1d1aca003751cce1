"""The store that an extraction writes into: a new one, the one begun, or a larger one with the clips of the old."""

import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool

from echolung import __version__
from echolung.cache import StoreWriter, TokenStore
from echolung.cache.growing import copy_clips
from echolung.cache.moving import exchange, is_there, recover
from echolung.encoders import Encoder
from echolung.errors import InputError
from echolung.extraction.parts import Part
from echolung.extraction.plan import ExtractionPlan
from echolung.extraction.pooling import pooled_grid
from echolung.extraction.room import check_rest
from echolung.extraction.sources import Changes, Sources, find_changes, newer_snapshot, worth_retrying
from echolung.provenance import command_line, machine
from echolung.text import listed

CPU_BATCH = 4
"""Clips a batch on a CPU: more does not make a core faster, and loses more when the run is killed."""

GPU_BATCHES = (64, 32, 16, 8, 4, 2, 1)

GROWING = (".grown", ".replaced")
"""Suffixes of a larger store, and of the smaller one whose place it takes."""


@dataclass(frozen=True)
class How:
    """How a store is begun or gone on with; the fields are those of `extract`."""

    batch: int | None
    shard: int | None
    preview: bool
    rehash: bool
    retry: bool
    part: Part
    log: Callable[[str], None]


def open_or_create(plan: ExtractionPlan, encoder: Encoder, sources: Sources, how: How) -> StoreWriter:
    """Return the plan's store, opened for writing, with every clip that has to be encoded (again) marked so.

    For a process that is alone with the store.

    Raises:
        InputError: the store is of another key, of other weights, or of other videos under the same names.
    """
    recover(plan.path, *GROWING)
    if not is_there(plan.path):
        return create_store(plan, encoder, how.batch, how.shard, how.preview, video=True)
    store = TokenStore.open(plan.path, plan.key, writing=True)
    _check_weights(store, encoder)
    changes = find_changes(store, plan.manifest, sources, how.rehash)
    _check_videos(store, plan, changes)
    grew = bool(set(plan.manifest.videos["video_id"]) - set(store.rows["video_id"]))
    if grew:
        _check_growth(store, plan)
    if changes.gone.any():
        how.log(f"No longer on disk, their tokens stay in the store: {listed(_videos(store, changes.gone), 5)}.")
    if changes.content.any():
        how.log(f"Changed on disk, so encoded again: {listed(_videos(store, changes.content), 5)}.")
        store.reopen(np.flatnonzero(changes.content))
    if grew:
        return _grow(store, plan, encoder, how.log)
    _note_storage(store, how)
    _try_again(store, how)
    if changes.touched.any():
        store.record_mtimes(np.where(changes.touched, changes.mtimes, store.array("source_mtime")[:]))
    if newer := newer_snapshot(store, plan):
        store.replace_snapshot(newer)
    check_rest(store)
    return store


def join(plan: ExtractionPlan, encoder: Encoder, how: How) -> StoreWriter:
    """Return the plan's store, which other parts are writing, opened for writing; what changed on disk is theirs to see.

    Raises:
        InputError: the store is of another key, of other weights, or lacks videos of the dataset.
    """
    store = TokenStore.open(plan.path, plan.key, writing=True, shared=True)
    _check_weights(store, encoder)
    if new := sorted(set(plan.manifest.videos["video_id"]) - set(store.rows["video_id"])):
        raise InputError(
            f"The dataset has videos that {store.path.name} has no rows for ({listed(new, 5)}), and other parts are writing "
            "it. Wait until they have ended, then run them all again: the store grows."
        )
    _note_storage(store, how)
    _try_again(store, how)
    return store


def _try_again(store: StoreWriter, how: How) -> None:
    """Mark the unreadable clips that are worth another try, of this part: another's would be left for nobody."""
    again = (store.failed if how.retry else worth_retrying(store)) & how.part.clips(store.clips, store.block)
    if again.any():
        store.reopen(np.flatnonzero(again))
    # Whoever has something to write has passed here, so that a store not split by now is written by nobody.
    if how.part.count > 1 and store.missing.any():
        store.split()


def _note_storage(store: StoreWriter, how: How) -> None:
    if how.shard is not None and (
        not store.sharded or _whole_batches(how.shard, store.batch, store.clips) != store.block
    ):
        is_now = f"shards of {store.block} clips" if store.sharded else "one file a clip"
        how.log(f"{store.path.name} was begun with {is_now} and keeps to it; --shard {how.shard} is for a new store.")


def _whole_batches(shard: int, batch: int, clips: int) -> int:
    """Return a shard's size in clips: whole batches, and no more of them than there are."""
    return min(-(-shard // batch), -(-clips // batch)) * batch


def create_store(
    plan: ExtractionPlan, encoder: Encoder, batch: int | None, shard: int | None, preview: bool, video: bool
) -> StoreWriter:
    """Lay out the plan's store, empty.

    Raises:
        InputError: there is something already, the disk has no room for it, or the encoder no room on its device.
    """
    size, frames, rows = plan.clips.size, plan.clips.frames, plan.rows()
    grid = (0, 0, 0) if plan.token_pool == "none" else pooled_grid(encoder.spec.grid(frames, size, size), plan.pool)
    batch = min(batch or _fitting_batch(encoder, plan), len(rows))
    return TokenStore.create(
        plan.path,
        plan.key,
        rows,
        plan.snapshot(),
        tokens=int(np.prod(grid)),
        dim=encoder.spec.dim,
        grid=grid,
        frames=frames,
        block=_whole_batches(shard or batch, batch, len(rows)),
        batch=batch,
        sharded=shard is not None,
        preview=preview,
        video=video,
        created_by={
            "echolung": __version__,
            "torch": str(torch.__version__),
            "device": _device_name(encoder),
            "python": platform.python_version(),
            "zarr": version("zarr"),
            "command": command_line(),
            "machine": machine(),
        },
        attributes={"encoder": plan.identity.name, "weights_tensors": encoder.tensors_digest()},
    )


def _check_weights(store: TokenStore, encoder: Encoder) -> None:
    held, now = str(store.group.attrs["weights_tensors"]), encoder.tensors_digest()
    if held != now:
        raise InputError(
            f"{store.path.name} was begun with other weights under the same name (digest {held[:12]}, now {now[:12]}): a "
            "random initialisation or your own class may have changed between versions. Go on with the versions in the "
            f"store's attribute created_by ({_versions(store)}), or remove the store and extract again."
        )


def _versions(store: TokenStore) -> str:
    created_by: Any = store.group.attrs["created_by"]
    return ", ".join(f"{name} {created_by.get(name, '?')}" for name in ("echolung", "torch", "python"))


def _videos(store: TokenStore, clips: Bool[np.ndarray, " clips"]) -> list[str]:
    return store.rows["video_id"][clips].unique().tolist()


def _check_videos(store: TokenStore, plan: ExtractionPlan, changes: Changes) -> None:
    """Refuse to overwrite the tokens of another set of videos: two tables may have one name, and name their videos alike."""
    there = _videos(store, store.complete & ~changes.gone)
    changed = _videos(store, store.complete & changes.content)
    if len(changed) >= 2 and len(changed) > len(there) / 2:
        raise InputError(
            f"{plan.manifest.root} holds another set of videos under the same names as the one behind {store.path.name}: "
            f"{len(changed)} of {len(there)} have another content (first: {changed[0]}). Name another store with --store, "
            "or remove this one."
        )


def _check_growth(store: TokenStore, plan: ExtractionPlan) -> None:
    held, wanted = set(store.rows["video_id"]), set(plan.manifest.videos["video_id"])
    if held - wanted:
        raise InputError(
            f"{store.path.name} and the dataset have drifted apart: the store alone has {listed(sorted(held - wanted), 5)}, "
            f"the dataset alone {listed(sorted(wanted - held), 5)}. Name a new store with --store, or remove this one."
        )


def _grow(store: TokenStore, plan: ExtractionPlan, encoder: Encoder, log: Callable[[str], None]) -> StoreWriter:
    """Put a store for the dataset as it now is in the place of `store`, with the clips that it had."""
    new = plan.path.with_name(plan.path.name + GROWING[0])
    shard = store.block if store.sharded else None
    # A store that lacks previews or facts of its videos goes on without: the clips that it has could not be given any.
    arrays = "preview" in store.group, "video" in store.group
    larger = create_store(replace(plan, path=new), encoder, store.batch, shard, *arrays)
    kept = copy_clips(store, larger)
    exchange(plan.path, *GROWING)
    held, wanted = store.rows["video_id"].nunique(), len(plan.manifest.videos)
    log(f"The dataset grew from {held} to {wanted} videos; {kept} clips are kept.")
    return TokenStore.open(plan.path, plan.key, writing=True)


def _fitting_batch(encoder: Encoder, plan: ExtractionPlan) -> int:
    """Return how many clips to encode at once: on a GPU the most, of a few sizes, that a trial run shows to fit."""
    device = next(encoder.parameters()).device
    if device.type != "cuda":
        return CPU_BATCH
    for batch in GPU_BATCHES:
        try:
            shape = (batch, 3, plan.clips.frames, plan.clips.size, plan.clips.size)
            with torch.autocast(device.type, torch.bfloat16, enabled=plan.precision == "bfloat16"):
                encoder(torch.zeros(shape, device=device))
            return batch
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
    raise InputError(
        f"The encoder {plan.identity.name} does not fit into the memory of {_device_name(encoder)} even with one clip. "
        "Use a smaller encoder, fewer --frames, a smaller --size, or --device cpu."
    )


def _device_name(encoder: Encoder) -> str:
    device = next(encoder.parameters()).device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
