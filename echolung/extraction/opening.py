"""The store that an extraction writes into: a new one, the one begun, or a larger one with the clips of the old."""

import platform
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version

import numpy as np
import torch
from jaxtyping import Bool

from echolung import __version__
from echolung.cache import TokenStore
from echolung.cache.growing import copy_clips
from echolung.encoders import Encoder
from echolung.errors import InputError
from echolung.extraction.plan import ExtractionPlan
from echolung.extraction.sources import Changes, Sources, find_changes, newer_snapshot, worth_retrying
from echolung.text import listed

CPU_BATCH = 4
"""Clips a batch on a CPU: more does not make a core faster, and loses more when the run is killed."""

GPU_BATCHES = (64, 32, 16, 8, 4, 2, 1)


def open_or_create(
    plan: ExtractionPlan,
    encoder: Encoder,
    sources: Sources,
    *,
    batch: int | None,
    preview: bool,
    rehash: bool,
    retry: bool,
    log: Callable[[str], None],
) -> TokenStore:
    """Return the plan's store, opened for writing, with every clip that has to be encoded (again) marked so.

    Raises:
        InputError: the store is of another key, of other weights, or of other videos under the same names.
    """
    replaced = plan.path.with_name(plan.path.name + ".replaced")
    if replaced.exists() and not plan.path.exists():  # killed while a larger store took the place of a smaller one
        replaced.rename(plan.path)
    if not plan.path.exists():
        return _create(plan, encoder, batch, preview)
    store = TokenStore.open(plan.path, plan.key, writing=True)
    _check_weights(store, encoder)
    changes = find_changes(store, plan.manifest, sources, rehash)
    _check_videos(store, plan, changes)
    grew = bool(set(plan.manifest.videos["video_id"]) - set(store.rows["video_id"]))
    if grew:
        _check_growth(store, plan)
    if changes.gone.any():
        log(f"No longer on disk, their tokens stay in the store: {listed(_videos(store, changes.gone), 5)}.")
    if changes.content.any():
        log(f"Changed on disk, so encoded again: {listed(_videos(store, changes.content), 5)}.")
        store.reopen(np.flatnonzero(changes.content))
    if grew:
        return _grow(store, plan, encoder, log)
    again = store.failed if retry else worth_retrying(store)
    if again.any():
        store.reopen(np.flatnonzero(again))
    if changes.touched.any():
        store.record_mtimes(np.where(changes.touched, changes.mtimes, store.array("source_mtime")[:]))
    if newer := newer_snapshot(store, plan):
        store.replace_snapshot(newer)
    return store


def _create(plan: ExtractionPlan, encoder: Encoder, batch: int | None, preview: bool) -> TokenStore:
    size, frames, rows = plan.clips.size, plan.clips.frames, plan.rows()
    grid = encoder.spec.grid(frames, size, size)
    return TokenStore.create(
        plan.path,
        plan.key,
        rows,
        plan.snapshot(),
        tokens=int(np.prod(grid)),
        dim=encoder.spec.dim,
        grid=grid,
        frames=frames,
        block=min(batch or _fitting_batch(encoder, plan), len(rows)),
        preview=preview,
        created_by={
            "echolung": __version__,
            "torch": str(torch.__version__),
            "device": _device_name(encoder),
            "python": platform.python_version(),
            "zarr": version("zarr"),
        },
        attributes={"encoder": plan.identity.name, "weights_tensors": encoder.tensors_digest()},
    )


def _check_weights(store: TokenStore, encoder: Encoder) -> None:
    held, now = str(store.group.attrs["weights_tensors"]), encoder.tensors_digest()
    if held != now:
        raise InputError(
            f"{store.path.name} was begun with other weights under the same name (digest {held[:12]}, now {now[:12]}): a "
            "random initialisation or your own class may have changed between versions. Go on with the versions in the "
            f"store's attribute created_by ({store.group.attrs['created_by']}), or remove the store and extract again."
        )


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


def _grow(store: TokenStore, plan: ExtractionPlan, encoder: Encoder, log: Callable[[str], None]) -> TokenStore:
    """Put a store for the dataset as it now is in the place of `store`, with the clips that it had."""
    new = plan.path.with_name(plan.path.name + ".grown")
    shutil.rmtree(new, ignore_errors=True)
    larger = _create(replace(plan, path=new), encoder, store.block, "preview" in store.group)
    kept = copy_clips(store, larger)
    replaced = plan.path.with_name(plan.path.name + ".replaced")
    plan.path.rename(replaced)
    new.rename(plan.path)
    shutil.rmtree(replaced)
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
