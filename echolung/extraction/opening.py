"""The store that an extraction writes into: a new one, the one begun, or a larger one with the clips of the old."""

import platform
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version

import numpy as np
import torch

from echolung import __version__
from echolung.cache import TokenStore
from echolung.cache.growing import copy_clips
from echolung.encoders import Encoder
from echolung.errors import InputError
from echolung.extraction.plan import ExtractionPlan
from echolung.extraction.sources import Sources, find_changes, newer_snapshot

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
    """Return the plan's store, opened for writing, with every clip that has to be encoded (again) marked so."""
    replaced = plan.path.with_name(plan.path.name + ".replaced")
    if replaced.exists() and not plan.path.exists():  # killed while a larger store took the place of a smaller one
        replaced.rename(plan.path)
    if not plan.path.exists():
        return _create(plan, encoder, batch, preview)
    store = TokenStore.open(plan.path, plan.key, writing=True)
    _check_weights(store, encoder)
    if set(plan.manifest.videos["video_id"]) - set(store.rows["video_id"]):
        return _grow(store, plan, encoder, log)
    changes = find_changes(store, plan.manifest, sources, rehash)
    if changes.gone.any():
        log(f"{changes.gone.sum() // plan.clips.clips} videos are no longer on disk; their tokens stay in the store.")
    if changes.content.any():
        log(f"{changes.content.sum() // plan.clips.clips} videos changed on disk; they are encoded again.")
        store.reopen(np.flatnonzero(changes.content))
    if retry and store.failures:
        store.reopen(np.flatnonzero(store.array("error")[:] != ""))
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


def _grow(store: TokenStore, plan: ExtractionPlan, encoder: Encoder, log: Callable[[str], None]) -> TokenStore:
    """Put a store for the dataset as it now is in the place of `store`, with the clips that it had."""
    held, wanted = set(store.rows["video_id"]), set(plan.manifest.videos["video_id"])
    if held - wanted:
        raise InputError(
            f"{store.path.name} holds {len(held - wanted)} videos that the dataset no longer has (first: "
            f"{min(held - wanted)}) and lacks {len(wanted - held)} that it has now. Name a new store with --store, or "
            "remove this one."
        )
    new = plan.path.with_name(plan.path.name + ".grown")
    shutil.rmtree(new, ignore_errors=True)
    larger = _create(replace(plan, path=new), encoder, store.block, "preview" in store.group)
    kept = copy_clips(store, larger)
    replaced = plan.path.with_name(plan.path.name + ".replaced")
    plan.path.rename(replaced)
    new.rename(plan.path)
    shutil.rmtree(replaced)
    log(f"The dataset grew from {len(held)} to {len(wanted)} videos; {kept} clips are kept.")
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
