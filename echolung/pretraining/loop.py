"""The training loop: batches in, checkpoints out; killed at any moment, it goes on as if it had not been.

Everything that is drawn follows from the seed, the step and the number of a sample in the endless stream of all of them, so
a checkpoint needs no state of any generator, and processes that share a batch see what one alone would.
"""

import json
import math
import signal
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import numpy as np
import torch

from echolung.errors import InputError, RunError
from echolung.pretraining.distributed import Group, join
from echolung.pretraining.folder import BEST, BROKEN, LAST, begin_folder, check_folder
from echolung.pretraining.labelled.labels import Labels
from echolung.pretraining.learning import Judge, Learner, begin, no_memory
from echolung.pretraining.loader import Batch, Loader
from echolung.pretraining.log import Log, StepRecord
from echolung.pretraining.pace import Pace
from echolung.pretraining.pool import Pool
from echolung.pretraining.recipe import AnyRecipe
from echolung.pretraining.state import State, load_state, newest_state, save_state
from echolung.pretraining.update import Update
from echolung.text import listed

TWICE = 5.0
"""Seconds within which a second signal is the same wish: torchrun passes on what a cluster also sends to every process."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        checkpoint: the encoder (of JEPA the target): of the best score where there is a judge, else of the last step.
        finished: False where it was asked to stop before its last step.
        step: updates done.
        steps: of the whole run.
        broken: videos that could not be read, and why.
    """

    checkpoint: Path
    finished: bool
    step: int
    steps: int
    broken: dict[str, str]


def pretrain(
    recipe: AnyRecipe,
    pool: Pool,
    folder: Path,
    *,
    labels: Labels | None = None,
    pack: Path | None = None,
    device: str | torch.device = "cpu",
    workers: int | None = None,
    decoder: str = "auto",
    time_limit: int | float = 120.0,
    resume: bool = False,
    judge: Judge | None = None,
    on_step: Callable[[StepRecord], None] = lambda record: None,
    tell: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """Pretrain an encoder on a pool of videos; started by torchrun, as one of several processes.

    Args:
        recipe: what to do.
        pool: the videos.
        labels: what is learnt of each video, where the recipe learns from labels.
        folder: the run's own. It gets recipe.toml, pool.json, log.jsonl, states/, last.safetensors, best.safetensors (with
            a judge) and broken.json (where a video cannot be read).
        pack: the packed videos of `echolung data pack`; None: straight from the files.
        device: where to compute.
        workers: decoding processes; None: one a core.
        decoder: as `echolung.clips.decode` has it.
        time_limit: seconds that decoding one video may take.
        resume: go on from the folder's newest checkpoint.
        judge: looks at the target encoder every `run.judge_every` steps and at the end.
        on_step: called after each step, one step late, in the first process.
        tell: is told, in the first process, what a person should know.

    Raises:
        InputError: a run in the folder already, or none to go on with; another recipe or pool than it began with; a
            checkpoint that does not fit; a batch that the processes cannot share.
        RunError: the loss is not finite, no memory, no room on the disk, no readable video, or another process failed.
    """
    with join(torch.device(device)) as group:
        if recipe.optimiser.batch % group.ranks:
            raise InputError(f"optimiser.batch = {recipe.optimiser.batch} cannot be shared by {group.ranks} processes.")
        check_folder(folder, recipe, pool, pack, resume)
        pace = recipe.pace(len(pool.videos))
        loader = Loader(
            pool,
            recipe.clips,
            recipe.run.seed,
            pace.videos * pace.views,
            group.rank,
            group.ranks,
            views=pace.views,
            pack=pack,
            workers=workers,
            decoder=decoder,
            time_limit=time_limit,
            pin=group.device.type == "cuda",
        )
        run = _Run(recipe, pace, pool, folder, group, loader, judge, on_step, tell)
        try:
            first = run.build(resume, labels)
            group.wait()  # all have looked before the first one writes
            if group.first and not resume:
                begin_folder(folder, recipe, pool, pack)
            with _stop_politely(run):
                return run.train(first)
        except torch.OutOfMemoryError as error:
            raise RunError(no_memory(recipe, group)) from error
        finally:
            if run.log:
                run.log.close()


@contextmanager
def _stop_politely(run: "_Run") -> Iterator[None]:
    """Take the first SIGTERM (a cluster's time limit) or Ctrl-C as the wish to save and stop; a later one acts at once."""

    def note(number: int, frame: FrameType | None) -> None:
        if run.asked_to_stop is None:
            run.asked_to_stop = time.monotonic()
        elif time.monotonic() - run.asked_to_stop > TWICE:
            signal.signal(number, before[signal.Signals(number)])
            signal.raise_signal(number)

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not the main thread, which alone may handle signals
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Run:
    """One run in one process."""

    def __init__(
        self,
        recipe: AnyRecipe,
        pace: Pace,
        pool: Pool,
        folder: Path,
        group: Group,
        loader: Loader,
        judge: Judge | None,
        on_step: Callable[[StepRecord], None],
        tell: Callable[[str], None],
    ) -> None:
        self.recipe, self.pace, self.pool, self.folder = recipe, pace, pool, folder
        self.group, self.loader = group, loader
        self.judge, self.on_step, self.say = judge, on_step, tell
        self.asked_to_stop: float | None = None
        self.stopping = False
        self.best: float | None = None
        self.broken: dict[str, str] = {}
        self.log: Log | None = None

    def tell(self, text: str) -> None:
        """Say something once, not once a process."""
        if self.group.first:
            self.say(text)

    def train(self, first: int) -> Outcome:
        """Train from a step on to the last, or to where it is asked to stop."""
        pace = self.pace
        if self.group.first:
            self.log = Log(self.folder, first, self.recipe.flat())
        pending: tuple[Update, float] | None = None
        step = first
        if first == 0 and (scores := self._look(0)):
            shown = [f"{name} {value:.3f}" for name, value in scores.items() if name != "score" or len(scores) == 1]
            self.tell(f"Before training: {', '.join(shown)}.")
        self.clock = time.perf_counter()
        with closing(self._batches(first)) as batches:
            for batch, waited in batches:
                launched, step = self.learner.update(batch, self.asked_to_stop is not None), batch.step + 1
                if pending is not None:
                    self._settle(pending)
                pending, last = (launched, waited), step == pace.steps
                judging = self.judge is not None and (last or step % pace.judge_every == 0)
                due = last or judging or self.stopping or step % pace.save_every == 0
                if due or self.group.device.type == "cpu":  # a GPU computes while the next step is prepared
                    self._settle(pending, judging)
                    pending = None
                if due or self.stopping:
                    self._save(step)
                if self.stopping:
                    break
        kept = self.folder / (BEST if self.judge and (self.folder / BEST).exists() else LAST)
        return Outcome(kept, step == pace.steps, step, pace.steps, self.broken)

    def build(self, resume: bool, labels: Labels | None) -> int:
        """Make the networks; return the updates that they have had."""
        path = newest_state(self.folder) if resume else None
        self.learner: Learner = begin(self.recipe, labels, self.group, goes_on=path is not None)
        if path:
            state = load_state(path, self.learner.load)
            self.best, self.broken = state.best, state.broken
            self.tell(f"Goes on after step {state.step}.")
            return state.step
        if resume:
            self.tell("There is no checkpoint yet: begins anew.")
        for note in self.learner.notes:
            self.tell(note)
        return 0

    def _batches(self, first: int) -> Generator[tuple[Batch, float], None, None]:
        """Yield the batches from a step on, and the seconds waited for each."""
        with closing(self.loader.iterate(first, self.pace.steps)) as batches:
            began = time.perf_counter()
            for batch in batches:
                if new := {name: why for name, why in self.loader.broken.items() if name not in self.broken}:
                    self._list_broken(new)
                yield batch, time.perf_counter() - began
                began = time.perf_counter()

    def _settle(self, pending: tuple[Update, float], judging: bool = False) -> None:
        """Look at what an update came to, and write it down with the seconds waited for its batch."""
        update, waited = pending
        loss, stop, clips = update.sums.tolist()
        gradient, step = float(update.gradient), update.step + 1
        if not (math.isfinite(loss) and math.isfinite(gradient)):
            raise RunError(self._not_finite(step, loss, gradient))
        self.stopping = self.stopping or stop > 0
        now = time.perf_counter()
        seconds, self.clock = now - self.clock, now
        if self.group.first and self.log:
            memory = torch.cuda.max_memory_allocated() if self.group.device.type == "cuda" else None
            scores = self._look(step) if judging else None
            record = StepRecord(
                step, self.pace.steps, loss, round(clips), gradient, *update.rates, seconds, waited, memory,
                update.gauges, scores,
            )  # fmt: skip
            self.log.write(record)
            self.on_step(record)

    def _not_finite(self, step: int, loss: float, gradient: float) -> str:
        batch = self.pace.videos
        rows = self.pool.order(self.recipe.run.seed, np.arange((step - 1) * batch, step * batch))
        kept = newest_state(self.folder)
        good = f"The last good checkpoint is {kept}" if kept else "There is no checkpoint yet"
        return (
            f"Step {step} came to a loss of {loss:g} and a gradient of norm {gradient:g}. Its batch: "
            f"{listed((self.pool.names[row] for row in rows), 32)}. {good}. Try a smaller optimiser.lr, optimiser.clip=1 or "
            "run.precision=float32 in a new run, or look at these videos."
        )

    def _look(self, step: int) -> dict[str, float] | None:
        """Let the judge score what was learnt; keep it where it is the best."""
        if self.judge is None or not self.group.first:
            return None
        scores = self.learner.look(self.judge)
        if (score := scores.get("score", math.nan)) == score and (self.best is None or score > self.best):
            self.best = score
            self.learner.save(self.folder / BEST)
            (self.folder / "best.json").write_text(json.dumps({"step": step, **scores}), "utf-8")
        return scores

    def _save(self, step: int) -> None:
        if self.group.first:
            state = State(step, self.pool.digest, self.best, self.broken)
            # First: a run killed in between does its last steps again, rather than hand over what was there before them.
            self.learner.save(self.folder / LAST)
            save_state(self.folder, state, self.learner.state(), self.recipe.run.keep)
        self.group.wait()
        self.clock = time.perf_counter()

    def _list_broken(self, new: dict[str, str]) -> None:
        self.broken |= new
        # Each process sees its own share of the videos; the names say whose.
        file = self.folder / (BROKEN if self.group.first else f"broken-{self.group.rank}.json")
        before = json.loads(file.read_text("utf-8")) if file.exists() else {}
        file.write_text(json.dumps({**before, **self.broken}, indent=1), "utf-8")
        for video, why in new.items():
            self.tell(f"Left out: {video}: {why}")
