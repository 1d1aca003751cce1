"""Decoding in worker processes: a video that hangs or crashes its decoder costs that video, not the run.

The workers import this module and what it needs: never torch (the parent hands over paths and gets arrays).
"""

import hashlib
import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import parent_process
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8
from pebble import ProcessExpired, ProcessPool

from echolung.clips.decode import Span, decode_chosen, frame_rate
from echolung.clips.motion_files import black_outside
from echolung.clips.plan import ClipPlan
from echolung.clips.prepare import prepare, preview
from echolung.clips.sample import Window, sample
from echolung.clips.screen import Screen, look
from echolung.errors import DecodeError, EcholungError
from echolung.machine import cores_each

TIME_LIMIT = 120.0
"""Seconds that one video may take before its worker is ended."""

TIMED_OUT, CRASHED = "decoding took longer than", "the decoder crashed"
"""How a reason begins that may be the machine's fault (too busy, out of memory), not the video's."""

Job = TypeVar("Job")


@dataclass(frozen=True)
class PreparedVideo:
    """All clips of one video, ready for an encoder but for the normalisation.

    Attributes:
        clips: cropped RGB frames.
        frames: index in the source of each frame of each clip; `BLACK` or `GREY` past the video's end.
        previews: small grey frames of each clip.
        digest: SHA-256 of the source's bytes.
        video: frames, height, width and frames a second (NaN where it has no clock) of the video.
        note: what somebody should know about the video, a phrase; "": nothing.
        screen: what of the scanner's screen its clips show.
    """

    clips: UInt8[np.ndarray, "clips t s s 3"]
    frames: Int[np.ndarray, "clips t"]
    previews: UInt8[np.ndarray, "clips 8 112 112"]
    digest: str
    video: Float32[np.ndarray, "4"]
    note: str = ""
    screen: Screen = field(default_factory=Screen)


def prepare_video(
    path: Path,
    video_id: str,
    plan: ClipPlan,
    decoder: str,
    span: Span | None = None,
    starts: Sequence[int] | None = None,
) -> PreparedVideo:
    """Return the clips of the video at `path`; DecodeError where it cannot be read.

    Args:
        path: the file.
        video_id: seeds the random views.
        plan: what is cut out.
        decoder: as in `decode`.
        span: which frames of the file are the video; None: all.
        starts: the frame of the video that the fixed window of each segment begins with; None: as the plan has it.
    """
    windows: list[Window] = []
    clock: list[float] = []

    def choose(times: Float[np.ndarray, " t"]) -> Int[np.ndarray, " k"]:
        clock[:] = [len(times), frame_rate(times)]
        windows[:] = sample(times, plan, video_id, starts)
        return np.concatenate([window.frames for window in windows])

    frames, indices = decode_chosen(path, choose, decoder, span, plan.box)
    note = black_outside(frames, indices, plan.mask, path, decoder, span, plan.box) if plan.mask else ""
    of_video, first = np.unique(indices, return_index=True)
    screen = look(path, frames[first[of_video >= 0]], plan.box)
    parts = np.split(frames, plan.clips)
    clips = np.stack([prepare(part, window, plan) for part, window in zip(parts, windows, strict=True)])
    return PreparedVideo(
        clips,
        np.stack(np.split(indices, plan.clips)),
        np.stack([preview(clip) for clip in clips]),
        source_digest(path),
        np.array([clock[0], *frames.shape[1:3], clock[1]], np.float32),
        note,
        screen,
    )


def source_files(path: Path) -> list[Path]:
    """Return the files that a manifest row stands for: the video, or the images of a folder."""
    return sorted(f for f in path.iterdir() if f.is_file()) if path.is_dir() else [path]


def source_digest(path: Path) -> str:
    """Return the SHA-256 of the source's bytes (for a folder: of its files' names and bytes)."""
    digest = hashlib.sha256()
    for file in source_files(path):
        if path.is_dir():
            digest.update(f"{file.name}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def run_in_workers(
    function: Callable[..., Any],
    jobs: Iterable[Job],
    arguments: Callable[[Job], tuple[Any, ...]],
    workers: int | None = None,
    time_limit: float = TIME_LIMIT,
    ahead: int | None = None,
) -> Generator[tuple[Job, Any], None, None]:
    """Yield (job, result) in the order of `jobs`; a result is a DecodeError where a job failed, hung or crashed.

    Args:
        function: importable by the workers, and raising EcholungError for what a person should read.
        jobs: what to do, lazily read.
        arguments: a job -> the function's arguments.
        workers: processes; default one a core.
        time_limit: seconds a job.
        ahead: jobs begun before their turn, which bounds memory; default two a worker.
    """
    workers = workers or cores_each()
    ahead = ahead or 2 * workers
    crew: _Crew[Job] = _Crew(workers, lambda job: (function, list(arguments(job))), time_limit)
    try:
        for job in jobs:
            crew.submit(job)
            if len(crew.waiting) > ahead:
                yield crew.take()
        while crew.waiting:
            yield crew.take()
    finally:
        crew.end()


class _Crew(Generic[Job]):
    """A pool of workers, begun anew where the pool gave up: pebble does when a worker dies before it has said what it does."""

    def __init__(self, workers: int, task: Callable[[Job], tuple[Callable[..., Any], list[Any]]], time_limit: float):
        self.workers, self.task, self.time_limit = workers, task, time_limit
        self.waiting: deque[tuple[Job, Any]] = deque()
        self._begin()

    def submit(self, job: Job) -> None:
        """Put a job at the end of those waiting."""
        self.waiting.append((job, self._schedule(job)))

    def take(self) -> tuple[Job, Any]:
        """Return the first of those waiting, and its result."""
        job, future = self.waiting.popleft()
        for _ in range(TRIES):
            future = future or self._schedule(job)
            try:
                return job, self._wait(future)
            except FutureTimeout:
                return job, DecodeError(f"{TIMED_OUT} {self.time_limit:g} s and was ended")
            except ProcessExpired as error:
                return job, DecodeError(f"{CRASHED} (exit code {error.exitcode})")
            except BrokenProcessPool:
                self._renew()
                future = None
            except EcholungError as error:
                return job, DecodeError(str(error))
            except Exception as error:
                return job, DecodeError(f"{type(error).__name__}: {error}")
        return job, DecodeError(f"{CRASHED} {TRIES} times")

    def _wait(self, future: Any) -> Any:
        """Return a result. A pool that has given up leaves some jobs without any word."""
        while future is not None:
            try:
                return future.result(timeout=LOOK)
            except FutureTimeout:
                if future.done():
                    return future.result()  # its own time limit, or the result that just came
                if not self.pool.active:
                    break
        raise BrokenProcessPool

    def end(self) -> None:
        """End the workers, without waiting for jobs that nobody wants any more."""
        for _, future in self.waiting:
            if future is not None:
                future.cancel()
        if self.waiting:
            self.pool.stop()
        else:
            self.pool.close()
        self.pool.join()

    def _begin(self) -> None:
        self.pool = ProcessPool(max_workers=self.workers, context=_Spawn(), initializer=_set_up_worker)

    def _renew(self) -> None:
        self.pool.stop()
        self.pool.join()
        self._begin()
        # Those without a result are tried again when their turn comes, alone, so that one which ends every pool is found.
        self.waiting = deque((job, future if _is_settled(future) else None) for job, future in self.waiting)

    def _schedule(self, job: Job) -> Any:
        """Return the job's future, or None where the pool has given up."""
        function, arguments = self.task(job)
        try:
            return self.pool.schedule(function, args=arguments, timeout=self.time_limit)
        except RuntimeError:
            return None


def _is_settled(future: Any) -> bool:
    """Whether a job has a result of its own, good or bad, rather than the end of its pool."""
    if future is None or not future.done() or future.cancelled():
        return False
    return not isinstance(future.exception(), BrokenProcessPool)


LOOK = 2.0
"""Seconds between looks at whether the pool still works."""

TRIES = 3
"""Pools that a job may go down with before it is called the reason."""

ASKING = (signal.SIGINT, signal.SIGTERM)
"""Signals that are the parent's to handle: a terminal or a cluster sends them to all of its processes at once."""


class _Worker(SpawnProcess):
    """A process that only its parent ends."""

    def start(self) -> None:
        # The mask is inherited: a signal that comes while Python starts must not end the worker either.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ASKING)
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def terminate(self) -> None:
        """End the process, which ignores SIGTERM, at once. It has nothing to put in order."""
        self.kill()


class _Spawn(SpawnContext):
    """Spawned, not forked: a child forked from a process that has used torch or decord threads can deadlock."""

    Process: ClassVar[type[SpawnProcess]] = _Worker


def _set_up_worker() -> None:
    for number in ASKING:
        signal.signal(number, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = "1"  # parallel over files, so each process keeps to itself
    # FFmpeg writes its own view of a broken file to the terminal, over the progress bar; the reason comes back as an error.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _end_with_parent() -> None:
    """End this process, whatever it is doing, once its parent is gone: nobody else would end one that hangs."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
