"""Clips for training, in step order: read by worker processes from the videos or from a pack, ahead of the model."""

import os
from collections.abc import Callable, Generator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from queue import Full, Queue
from threading import Event, Thread
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from echolung.clips.grey import Draw, collate, read_square
from echolung.clips.packed import Pack, read_squares
from echolung.clips.shared import SharedClips, has_room
from echolung.clips.workers import TIME_LIMIT, run_in_workers
from echolung.datasets.manifest import spans
from echolung.errors import DecodeError, InputError, RunError
from echolung.machine import cores
from echolung.pretraining.pool import Pool

WINDOW_TAG = 403
"""First counter after the seed of what is drawn here: where a clip's window starts."""

AHEAD = 3
"""Batches that are read before their turn."""

ENOUGH_BROKEN = 64
"""Videos tried without a readable one that end a run."""

CLIPS_A_JOB = 64
"""Clips that a process reads from a pack at once, at most."""

Read = tuple[UInt8[np.ndarray, "b t s s"], Int[np.ndarray, " b"], Bool[np.ndarray, " b"]]


@dataclass(frozen=True, eq=False)
class Batch:
    """One process's clips of one step.

    Attributes:
        step: from 0.
        frames: grey squares, zeros right and below where a clip is smaller than the largest of the batch.
        sides: height and width of each clip, pixels (1 where it could not be read).
        valid: whether it could be read; its frames are zero otherwise.
        videos: "dataset/video_id" of each clip.
        samples: number of each clip in the whole run.
    """

    step: int
    frames: UInt8[Tensor, "b t s s"]
    sides: Int[Tensor, " b"]
    valid: Bool[Tensor, " b"]
    videos: tuple[str, ...]
    samples: Int[np.ndarray, " b"]


@runtime_checkable
class Windows(Protocol):
    """How clips are cut: the section `clips` of a recipe.

    Attributes:
        frames: of a clip.
        limit: largest side of its square, pixels.
    """

    @property
    def frames(self) -> int: ...  # noqa: D102

    @property
    def limit(self) -> int: ...  # noqa: D102

    def draw(self, entropy: tuple[int, ...]) -> Draw:
        """Return the clip that is read, its window drawn from `entropy`."""
        ...


class Loader:
    """Reads the batches of a run. What a step holds follows from the seed and the step alone.

    Attributes:
        broken: "dataset/video_id" -> why it cannot be read, of those found so far. Such a clip is not valid in its batch;
            none takes its place, and it is not tried again.
    """

    def __init__(
        self,
        pool: Pool,
        plan: Windows,
        seed: int,
        batch: int,
        rank: int = 0,
        ranks: int = 1,
        pack: Path | None = None,
        workers: int | None = None,
        decoder: str = "auto",
        time_limit: int | float = TIME_LIMIT,
        tell: Callable[[str], None] = lambda text: None,
        pin: bool = False,
        views: int = 1,
    ) -> None:
        """Prepare to read.

        Args:
            pool: the videos.
            plan: how clips are cut.
            seed: of the order and the windows.
            batch: clips a step, over all processes: a multiple of ranks and views.
            rank: which of the training processes this is.
            ranks: how many there are.
            pack: a file of `echolung data pack` that holds the pool's videos; default: the videos themselves.
            workers: reading processes; default one a core, shared between the ranks.
            decoder: as `decode` takes it, where the videos are read.
            time_limit: seconds that one video may take.
            tell: is told of each video that cannot be read, once.
            pin: leave batches in page-locked memory, from which a copy to a GPU can be overlapped; nothing without a GPU.
            views: clips of each video in a step, one after the other, each with a window of its own.

        Raises:
            InputError: the ranks cannot share the batch, or the pack does not hold the pool's videos.
        """
        if batch % (ranks * views):
            raise InputError(f"A batch of {batch} clips cannot be shared evenly by {ranks} processes.")
        self.pool, self.plan, self.seed, self.tell = pool, plan, seed, tell
        self.views = views
        self.batch, self.rows = batch, slice(rank * batch // ranks, (rank + 1) * batch // ranks)
        self.ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", ranks))  # torchrun's, on this machine
        self.workers = workers or max(1, cores() // self.ranks_here)
        self.decoder, self.time_limit = decoder, time_limit
        self.pin = pin and torch.cuda.is_available()
        self.names, self.paths = pool.names, [Path(path) for path in pool.videos["path"]]
        self.spans = spans(pool.videos)
        self.broken: dict[str, str] = {}
        self.read = False  # whether any clip ever could be
        self.pack = Pack.open(pack) if pack is not None else None
        self.rows_in_pack = self.pack.rows(self.names, self.spans) if self.pack is not None else None

    def iterate(self, start: int, stop: int) -> Generator[Batch, None, None]:
        """Yield this process's batches of the steps from `start` to `stop` - 1; the next ones are read meanwhile.

        Raises:
            RunError: none of the videos tried so far can be read, and they were all there are, or many.
        """
        return ahead(self._batches(start, stop), AHEAD)

    def _batches(self, start: int, stop: int) -> Generator[Batch, None, None]:
        with closing((self._from_pack if self.pack else self._from_videos)(start, stop)) as read:
            for step, (frames, sides, valid) in enumerate(read, start):
                samples, rows = self._plan(step)
                names = tuple(self.names[row] for row in rows)
                self.read = self.read or bool(valid.any())
                if not self.read and len(self.broken) >= min(len(self.names), ENOUGH_BROKEN):
                    raise RunError(
                        f"Not one of the first {len(self.broken)} videos can be read, so there is nothing to train on. "
                        f"{names[0]}: {self.broken[names[0]]}"
                    )
                tensors = self._tensor(frames), self._tensor(sides), self._tensor(valid)
                yield Batch(step, *tensors, names, samples)

    def _tensor(self, array: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(array)
        return tensor.pin_memory() if self.pin else tensor

    def _from_videos(self, start: int, stop: int) -> Generator[Read, None, None]:
        """Yield the clips of each step, their sides, and which could be read."""
        count = self.rows.stop - self.rows.start

        def arguments(job: tuple[int, int]) -> tuple[Any, ...]:
            sample, row = job
            return self.paths[row], self._draw(sample), self.decoder, self.broken.get(self.names[row]), self.spans[row]

        plans = ([array.tolist() for array in self._plan(step)] for step in range(start, stop))
        jobs = (job for samples, rows in plans for job in zip(samples, rows, strict=True))
        results = run_in_workers(
            read_square,
            jobs,
            arguments,
            self.workers,
            self.time_limit,
            ahead=max(2 * self.workers, count),
        )
        with closing(results):
            for _ in range(start, stop):
                clips = []
                for (_, row), clip in islice(results, count):
                    if isinstance(clip, DecodeError):
                        self._note(self.names[row], str(clip))
                    clips.append(None if isinstance(clip, DecodeError) else clip)
                yield *collate(clips, self.plan.frames), np.array([clip is not None for clip in clips])

    def _from_pack(self, start: int, stop: int) -> Generator[Read, None, None]:
        """Yield the same from the pack. A job reads many clips, and leaves them in shared memory where there is enough."""
        assert self.pack is not None and self.rows_in_pack is not None
        path, in_pack, reasons = self.pack.path, self.rows_in_pack.tolist(), self.pack.videos["reason"].tolist()
        count = self.rows.stop - self.rows.start
        parts = [slice(at, at + CLIPS_A_JOB) for at in range(0, count, CLIPS_A_JOB)]
        waiting = self.workers + 1
        places = waiting + len(parts)  # those waiting, and those of a batch that is being put together
        size = min(CLIPS_A_JOB, count) * self.plan.frames * self.plan.limit**2
        shared = SharedClips(places, size) if has_room(self.ranks_here * places * size) else None

        def arguments(job: tuple[int, int]) -> tuple[Any, ...]:
            step, part = job
            samples, rows = (array[parts[part]].tolist() for array in self._plan(step))
            place = shared.place(step * len(parts) + part) if shared else None
            return path, [in_pack[row] for row in rows], [self._draw(sample) for sample in samples], place

        jobs = ((step, part) for step in range(start, stop) for part in range(len(parts)))
        results = run_in_workers(read_squares, jobs, arguments, self.workers, self.time_limit, ahead=waiting)
        with closing(shared) if shared else nullcontext(), closing(results):
            for step in range(start, stop):
                clips: list[Any] = []
                for (_, part), read in islice(results, len(parts)):
                    if isinstance(read, DecodeError):
                        raise RunError(f"Clips cannot be read from {path}: {read}")
                    clips += shared.get(shared.place(step * len(parts) + part), read) if shared else read
                for row, clip in zip(self._plan(step)[1], clips, strict=True):
                    if clip is None:
                        self._note(self.names[row], reasons[in_pack[row]])
                yield *collate(clips, self.plan.frames), np.array([clip is not None for clip in clips])

    def _plan(self, step: int) -> tuple[Int[np.ndarray, " b"], Int[np.ndarray, " b"]]:
        """Return the numbers of this process's clips of a step, and which rows of the pool they are of."""
        samples = np.arange(step * self.batch, (step + 1) * self.batch)[self.rows]
        return samples, self.pool.order(self.seed, samples // self.views)

    def _draw(self, sample: int) -> Draw:
        return self.plan.draw((self.seed, WINDOW_TAG, sample))

    def _note(self, name: str, reason: str) -> None:
        if name not in self.broken:
            self.broken = {**self.broken, name: reason}  # anew, for whoever goes over it in another thread
            self.tell(f"{name} cannot be read, and counts for nothing: {reason}")


Item = TypeVar("Item")


def ahead(items: Generator[Item, None, None], depth: int) -> Generator[Item, None, None]:
    """Yield the items while a thread makes up to `depth` of the next; ends the thread when closed."""
    queue: Queue[tuple[bool, Any]] = Queue(depth)
    stopped = Event()

    def put(*entry: Any) -> bool:
        while not stopped.is_set():
            try:
                queue.put(entry, timeout=0.1)
            except Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for item in items:
                if not put(True, item):
                    break
            else:
                put(False, None)
        except BaseException as error:
            put(False, error)
        finally:
            items.close()

    thread = Thread(target=work, name="reading ahead", daemon=True)
    thread.start()
    try:
        while True:
            more, item = queue.get()
            if more:
                yield item
            elif item is None:
                return
            else:
                raise item
    finally:
        stopped.set()
        thread.join(5.0)  # a video that hangs is not waited for: it ends with this process
