"""Decode ahead, encode, write: the loop that fills a token store, and goes on where a killed one stopped.

A clip's numbers depend, in the last bits, on the batch it was encoded in. So batches are fixed: block k holds the same
rows always, a block is encoded whole or not at all, and the places of clips that cannot be read, or that the store holds
already, are filled with black frames. That makes a store that was killed and resumed equal, bit for bit, to one that
never was.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from jaxtyping import Float32, UInt8

from echolung.cache import TokenStore
from echolung.cache.layout import PREVIEW_SHAPE
from echolung.cache.store import Block
from echolung.clips.plan import ClipPlan
from echolung.clips.workers import TIME_LIMIT, PreparedVideo, prepare_video, run_in_workers
from echolung.device import pick_device
from echolung.encoders import Encoder, load_encoder, normalise
from echolung.errors import DecodeError, InputError, RunError
from echolung.extraction.opening import open_or_create
from echolung.extraction.plan import ExtractionPlan
from echolung.extraction.sources import Sources, read_sources
from echolung.settings import make_folder


@dataclass
class Progress:
    """How a run tells whoever watches.

    Attributes:
        start: called once with (clips done before, clips in all).
        advance: called with the number of clips just encoded.
        log: called with a sentence.
        seconds: waiting for decoded frames, in the encoder, and in all; filled by the run.
    """

    start: Callable[[int, int], None] = lambda done, total: None
    advance: Callable[[int], None] = lambda clips: None
    log: Callable[[str], None] = lambda text: None
    seconds: dict[str, float] = field(default_factory=lambda: {"decode": 0.0, "encode": 0.0, "all": 0.0})


def extract(
    plan: ExtractionPlan,
    *,
    device: str = "auto",
    batch: int | None = None,
    workers: int | None = None,
    preview: bool = True,
    strict: bool = False,
    rehash: bool = False,
    retry: bool = False,
    time_limit: float = TIME_LIMIT,
    progress: Progress | None = None,
) -> TokenStore:
    """Encode every clip that the plan's store does not hold yet, and return the finished store.

    Args:
        plan: what to write where.
        device: "auto", "cpu", "cuda", "cuda:1", …
        batch: clips encoded together; default what fits. A store keeps the batch it was begun with.
        workers: decoding processes; default one a core.
        preview: keep small grey frames (decided when a store is begun).
        strict: an unreadable video ends the run.
        rehash: compare sources by content, not by size and time stamp.
        retry: try all unreadable videos again, not just those whose decoder crashed or took too long.
        time_limit: seconds that decoding one video may take.
        progress: is told what happens.

    Raises:
        InputError: another process is writing this store, its key is another, or its weights are.
        RunError: no video could be read, or (strict) one could not; the disk is full.
    """
    progress = progress or Progress()
    began = time.perf_counter()
    encoder = load_encoder(plan.identity, device=pick_device(device))
    progress.log(encoder.loaded)
    make_folder(plan.path.parent)
    # Its file stays: removing one that another process has open would let two hold the lock.
    lock = FileLock(plan.path.with_name(plan.path.name + ".lock"))
    try:
        held = lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(f"Another process is writing {plan.path.name}. Wait for it, or end it first.") from error
    with held:
        sources = read_sources(plan.manifest)
        store = open_or_create(
            plan, encoder, sources, batch=batch, preview=preview, rehash=rehash, retry=retry, log=progress.log
        )
        _fill(store, plan, encoder, sources, workers, time_limit, strict, progress)
        failures = store.failures
        if strict and failures:  # those of an earlier run, too
            raise RunError(_fatal(*next(iter(failures.items()))))
        if not store.complete.any():
            reason = next(iter(failures.values()), "")
            shutil.rmtree(store.path)  # it holds nothing, and unfinished it would stand in the way of `probe`
            raise RunError(f"None of the {len(plan.manifest.videos)} videos could be read (the first: {reason}).")
        store.finish()
    progress.seconds["all"] = time.perf_counter() - began
    return TokenStore.open(plan.path, plan.key)


def _fatal(video: str, reason: object) -> str:
    return f"The video {video} cannot be read, and --strict was asked for: {reason}"


@dataclass
class _Batch:
    """The clips of one block while its videos come in."""

    clips: UInt8[np.ndarray, "b t s s 3"]
    frames: np.ndarray
    previews: np.ndarray
    digests: list[str]
    sizes: list[int]
    mtimes: list[int]
    errors: list[str]

    @classmethod
    def empty(cls, size: int, plan: ExtractionPlan) -> "_Batch":
        t, s = plan.clips.frames, plan.clips.size
        return cls(
            np.zeros((size, t, s, s, 3), np.uint8),
            np.full((size, t), -1),
            np.zeros((size, *PREVIEW_SHAPE), np.uint8),
            *([""] * size, [-1] * size, [-1] * size, [""] * size),
        )


def _fill(
    store: TokenStore,
    plan: ExtractionPlan,
    encoder: Encoder,
    sources: Sources,
    workers: int | None,
    time_limit: float,
    strict: bool,
    progress: Progress,
) -> None:
    """Encode and write the unfinished blocks, writing one while the next is encoded."""
    blocks = store.unfinished_blocks()
    todo = sum(min(store.block, store.clips - start) for start in blocks)
    progress.start(store.clips - todo, store.clips)
    if not blocks:
        return
    batches = _decoded(store, plan, sources, blocks, workers, time_limit, strict, progress)
    writing: Future[None] | None = None
    with ThreadPoolExecutor(1) as writer:
        while True:
            waited = time.perf_counter()
            if (item := next(batches, None)) is None:
                break
            start, batch = item
            encoding = time.perf_counter()
            tokens = encode(encoder, batch.clips, plan.precision)
            done = time.perf_counter()
            progress.seconds["decode"] += encoding - waited
            progress.seconds["encode"] += done - encoding
            if writing:
                writing.result()
            block = Block(
                start, tokens, batch.frames, batch.previews, batch.digests, batch.sizes, batch.mtimes, batch.errors
            )
            writing = writer.submit(store.write, block)
            progress.advance(len(tokens))
        if writing:
            writing.result()


def encode(encoder: Encoder, clips: UInt8[np.ndarray, "b t s s 3"], precision: str) -> Float32[np.ndarray, "b n d"]:
    """Return the tokens of prepared clips in float32."""
    device = next(encoder.parameters()).device
    frames = normalise(torch.from_numpy(clips).to(device))
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        return encoder(frames).float().cpu().numpy()


def _decoded(
    store: TokenStore,
    plan: ExtractionPlan,
    sources: Sources,
    blocks: list[int],
    workers: int | None,
    time_limit: float,
    strict: bool,
    progress: Progress,
) -> Iterator[tuple[int, _Batch]]:
    """Yield (start row, clips) of each unfinished block in order, decoding ahead in worker processes."""
    at = {video: row for row, video in enumerate(plan.manifest.videos["video_id"])}
    paths = store.snapshot.videos.set_index("video_id")["path"]
    rows_of = store.rows.groupby("video_id", sort=False).indices
    missing = store.missing
    last = {start: int(np.flatnonzero(missing[: start + store.block])[-1]) for start in blocks}
    videos = [str(video) for video, rows in rows_of.items() if missing[rows].any()]
    filling: dict[int, _Batch] = {}

    def arguments(video: str) -> tuple[Path, str, ClipPlan, str]:
        # The store's own table, which also knows what the dataset has lost since the store was begun.
        return plan.manifest.root / paths[video], video, plan.clips, plan.decoder

    for video, result in run_in_workers(prepare_video, videos, arguments, workers, time_limit):
        if isinstance(result, DecodeError):
            if strict:
                raise RunError(_fatal(video, result))
            progress.log(f"Left out {video}: {result}")
        for slot, row in enumerate(rows_of[video]):
            if not missing[row]:
                continue
            start = int(row) // store.block * store.block
            if start not in filling:
                filling[start] = _Batch.empty(min(store.block, store.clips - start), plan)
            _put(filling[start], int(row) - start, slot, result, *sources.of(at.get(video)))
            if row == last[start]:  # videos come in row order
                yield start, filling.pop(start)


def _put(batch: _Batch, place: int, slot: int, result: PreparedVideo | DecodeError, size: int, mtime: int) -> None:
    batch.sizes[place], batch.mtimes[place] = size, mtime
    if isinstance(result, DecodeError):
        batch.errors[place] = str(result)
        return
    batch.clips[place] = result.clips[slot]
    batch.frames[place] = result.frames[slot]
    batch.previews[place] = result.previews[slot]
    batch.digests[place] = result.digest
