"""Decode ahead, encode, write: the loop that fills a token store, and goes on where a killed one stopped.

A clip's numbers depend, in the last bits, on the batch it was encoded in. So batches are fixed: batch k holds the same
rows always, a batch is encoded whole or not at all, and the places of clips that cannot be read, or that the store holds
already, are filled with black frames. That makes a store that was killed and resumed, or written by several processes,
equal, bit for bit, to one that one process wrote at one go.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, UInt8
from torch import nn

from echolung.cache import StoreWriter, TokenStore
from echolung.cache.locking import WriterLock, gate
from echolung.cache.place import Place, remove
from echolung.clips.screen import Screen
from echolung.clips.workers import TIME_LIMIT, prepare_video, run_in_workers
from echolung.device import pick_device
from echolung.encoders import load_encoder, normalise
from echolung.errors import DecodeError, InputError, RunError
from echolung.extraction.batches import Batch
from echolung.extraction.opening import How, join, open_or_create
from echolung.extraction.parts import WHOLE, Part
from echolung.extraction.plan import ExtractionPlan
from echolung.extraction.pooling import GridPool
from echolung.extraction.room import check_memory
from echolung.extraction.sources import Sources, cut_from, read_sources
from echolung.settings import make_folder


@dataclass
class Progress:
    """How a run tells whoever watches.

    Attributes:
        start: called once with (clips done before, clips in all).
        advance: called with the number of clips just encoded.
        log: called with a sentence.
        seconds: waiting for decoded frames, in the encoder, and in all; filled by the run.
        screens: videos that show something of the scanner's screen; filled by the run.
    """

    start: Callable[[int, int], None] = lambda done, total: None
    advance: Callable[[int], None] = lambda clips: None
    log: Callable[[str], None] = lambda text: None
    seconds: dict[str, float] = field(default_factory=lambda: {"decode": 0.0, "encode": 0.0, "all": 0.0})
    screens: dict[str, Screen] = field(default_factory=dict)


def extract(
    plan: ExtractionPlan,
    *,
    device: str = "auto",
    batch: int | None = None,
    shard: int | None = None,
    part: Part = WHOLE,
    workers: int | None = None,
    preview: bool = True,
    strict: bool = False,
    rehash: bool = False,
    retry: bool = False,
    time_limit: float = TIME_LIMIT,
    progress: Progress | None = None,
) -> TokenStore:
    """Encode every clip of this part that the plan's store does not hold yet, and return the store.

    The store is finished, unless clips of other parts are missing.

    Args:
        plan: what to write where.
        device: "auto", "cpu", "cuda", "cuda:1", …
        batch: clips encoded together; default what fits. A store keeps the batch it was begun with.
        shard: clips a file, rounded up to whole batches; default one clip a file. A store keeps what it was begun with.
        part: the share of this process, where several write one store.
        workers: decoding processes; default one a core.
        preview: keep small grey frames (decided when a store is begun).
        strict: an unreadable video ends the run.
        rehash: compare sources by content, not by size and time stamp.
        retry: try all unreadable videos again, not just those whose decoder crashed or took too long.
        time_limit: seconds that decoding one video may take.
        progress: is told what happens.

    Raises:
        InputError: another process is writing this part; the store has another key, or other weights; a part is to go to a URL.
        RunError: no video could be read, or (strict) one could not; the disk is full.
    """
    progress = progress or Progress()
    _check_place(plan.path, part, progress.log)
    began = time.perf_counter()
    check_memory(plan.identity)
    encoder = load_encoder(plan.identity, device=pick_device(device))
    progress.log(encoder.loaded)
    how = How(batch, shard, preview, rehash, retry, part, progress.log)
    with WriterLock(plan.path, part.index, part.count) as lock:
        with gate(plan.path, wait=part.count > 1, log=progress.log):
            sources = read_sources(plan.manifest)
            store = open_or_create(plan, encoder, sources, how) if lock.enter() else join(plan, encoder, how)
        size, frames = plan.clips.size, plan.clips.frames
        grid, pool = encoder.spec.grid(frames, size, size), plan.pool
        pooled = encoder if pool == 1 else GridPool(encoder, grid, pool)
        _fill(store, plan, pooled, sources, part, workers, time_limit, strict, progress)
        with gate(plan.path, wait=True):
            store = _end(plan, part, strict, alone=lock.leave(), log=progress.log)
    progress.seconds["all"] = time.perf_counter() - began
    return TokenStore.open(plan.path, plan.key) if store.finished else store


def _check_place(path: Place, part: Part, log: Callable[[str], None]) -> None:
    """Make the store's folder; at a URL, where nothing can be locked, refuse parts."""
    if isinstance(path, Path):
        make_folder(path.parent)
    elif part.count > 1:
        raise InputError(
            f"Part {part} cannot be written to {path}: several writers need a folder, where one can lock out another. "
            "Extract into a folder that all of them see, and copy the finished store to its URL."
        )
    else:
        log(f"Nothing at a URL can be locked: see to it that nobody else writes {path}.")


def _end(plan: ExtractionPlan, part: Part, strict: bool, alone: bool, log: Callable[[str], None]) -> StoreWriter:
    """Finish the store if nothing is missing and nobody else is at work; return it as it is now."""
    store = TokenStore.open(plan.path, plan.key, writing=True, shared=not alone)  # as the others have left it
    failures = store.failures
    if strict and failures:  # those of an earlier run, too
        raise RunError(_fatal(*next(iter(failures.items()))))
    missing = int(store.missing.sum())
    if missing or not alone:
        rest = f"{missing} clips are " if missing != 1 else "1 clip is "
        whose = (
            "still being written by other parts." if not alone else "of parts that nobody is writing: run those, too."
        )
        log(
            f"Part {part} is done; {rest}{whose}"
            if missing
            else f"Part {part} is done; the last part finishes the store."
        )
    elif not store.complete.any():
        reason = next(iter(failures.values()), "")
        remove(store.path)  # it holds nothing, and unfinished it would stand in the way of `probe`
        raise RunError(
            f"None of the {len(plan.manifest.videos)} videos could be read (the first: {reason}). "
            "Each was named with its reason when it was left out."
        )
    else:
        store.finish()
    return store


def _fatal(video: str, reason: object) -> str:
    return f"The video {video} cannot be read, and --strict was asked for: {reason}"


def _fill(
    store: StoreWriter,
    plan: ExtractionPlan,
    encoder: nn.Module,
    sources: Sources,
    part: Part,
    workers: int | None,
    time_limit: float,
    strict: bool,
    progress: Progress,
) -> None:
    """Encode and write this part's missing clips, writing one block while the next is encoded."""
    mine = part.clips(store.clips, store.block)
    missing = store.missing & mine
    todo = int(sum(min(store.batch, store.clips - start) for start in _starts(missing, store.batch)))
    progress.start(int(mine.sum()) - todo, int(mine.sum()))
    if not todo:
        return
    batches = _timed(_decoded(store, plan, sources, missing, workers, time_limit, strict, progress), progress)
    writing: Future[None] | None = None
    with ThreadPoolExecutor(1) as writer:
        for _, of_block in groupby(batches, key=lambda batch: batch.start // store.block):
            encoded = []
            for batch in of_block:
                encoding = time.perf_counter()
                encoded.append(batch.encoded(encode(encoder, batch.clips, plan.precision)))
                progress.seconds["encode"] += time.perf_counter() - encoding
                progress.advance(len(batch.clips))
            if writing:
                writing.result()
            writing = writer.submit(store.write, *encoded)
        if writing:
            writing.result()


def _starts(clips: Bool[np.ndarray, " clips"], batch: int) -> list[int]:
    """Return the start rows of the batches in which a clip is marked."""
    return (np.unique(np.flatnonzero(clips) // batch) * batch).tolist()


def _timed(batches: Iterator[Batch], progress: Progress) -> Iterator[Batch]:
    while True:
        waited = time.perf_counter()
        batch = next(batches, None)
        progress.seconds["decode"] += time.perf_counter() - waited
        if batch is None:
            return
        yield batch


def encode(encoder: nn.Module, clips: UInt8[np.ndarray, "b t s s 3"], precision: str) -> Float32[np.ndarray, "b n d"]:
    """Return the tokens of prepared clips in float32."""
    device = next(encoder.parameters()).device
    frames = normalise(torch.from_numpy(clips).to(device))
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        return encoder(frames).float().cpu().numpy()


def _decoded(
    store: TokenStore,
    plan: ExtractionPlan,
    sources: Sources,
    missing: Bool[np.ndarray, " clips"],
    workers: int | None,
    time_limit: float,
    strict: bool,
    progress: Progress,
) -> Iterator[Batch]:
    """Yield the batches in which a clip is missing, in order, decoding ahead in worker processes."""
    at = {video: row for row, video in enumerate(plan.manifest.videos["video_id"])}
    # The store's own table, which also knows what the dataset has lost since the store was begun.
    videos_of_store = store.snapshot.videos
    sources_of = dict(zip(videos_of_store["video_id"], cut_from(videos_of_store), strict=True))
    rows_of = store.rows.groupby("video_id", sort=False).indices
    last = {int(row) // store.batch: int(row) for row in np.flatnonzero(missing)}
    videos = [str(video) for video, rows in rows_of.items() if missing[rows].any()]
    filling: dict[int, Batch] = {}

    def arguments(video: str) -> tuple[Any, ...]:
        path, span, starts = sources_of[video]
        return plan.manifest.root / path, video, plan.clips, plan.decoder, span, starts

    for video, result in run_in_workers(prepare_video, videos, arguments, workers, time_limit):
        if isinstance(result, DecodeError):
            if strict:
                raise RunError(_fatal(video, result))
            progress.log(f"Left out {video}: {result}")
        elif result.note:
            progress.log(f"{video}: {result.note}")
        if not isinstance(result, DecodeError) and result.screen:
            progress.screens[video] = result.screen
        for slot, row in enumerate(np.asarray(rows_of[video]).tolist()):
            if not missing[row]:
                continue
            number = row // store.batch
            if number not in filling:
                start = number * store.batch
                filling[number] = Batch.empty(start, min(store.batch, store.clips - start), plan.clips)
            filling[number].put(row, slot, result, *sources.of(at.get(video)))
            if row == last[number]:  # videos come in row order
                yield filling.pop(number)
