"""Fine-tuning on the folds of a probe: an epoch is chosen inside each training part, and a test video is looked at once.

As in echolung.evaluation.nested, but one inner fold chooses in the place of all: a fine-tuning costs a thousand probes.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float

from echolung.errors import InputError
from echolung.evaluation.given import official_split
from echolung.evaluation.nested import calibrated, divide
from echolung.evaluation.result import Result, build_result, kept_together, prediction_table, score_columns
from echolung.evaluation.selection import choose, losses
from echolung.evaluation.splits import Folds, Units, holdout
from echolung.finetuning.kept import Folder, Tuned
from echolung.finetuning.tuner import Problem, Tuner


@dataclass(frozen=True)
class Part:
    """What one fine-tuning learns from, chooses on and predicts.

    Attributes:
        number: the outer fold whose training part it is; -1: all videos.
        learn: [v] what is learnt from while an epoch is chosen.
        choose: [v] what it is chosen on.
        test: [v] what is then predicted, once.
        refit: whether what was chosen learns again from `learn` and `choose` together.
    """

    number: int
    learn: Bool[np.ndarray, " v"]
    choose: Bool[np.ndarray, " v"]
    test: Bool[np.ndarray, " v"]
    refit: bool = True


@dataclass(frozen=True)
class Division:
    """The parts of an evaluation.

    Attributes:
        folds: which fold scores each video.
        parts: one a fold, in its order.
        everything: what the encoder that is kept learns from.
        about: for the record.
        notes: for the reader.
    """

    folds: Folds
    parts: tuple[Part, ...]
    everything: Part
    about: dict[str, Any]
    notes: tuple[str, ...]


@dataclass
class Watch:
    """How a run tells whoever watches.

    Attributes:
        start: called once with the epochs done before, and in all.
        advance: called with a number of epochs just done.
        tell: called with a sentence.
        decoded: called with (videos decoded, videos in all) after each.
    """

    start: Callable[[int, int], None] = lambda done, total: None
    advance: Callable[[int], None] = lambda epochs: None
    tell: Callable[[str], None] = lambda text: None
    decoded: Callable[[int, int], None] = lambda done, total: None


def divide_folds(units: Units, cv: int, seed: int) -> Division:
    """Return the folds of the nested protocol, those of a probe of the same seed; the first inner fold of each chooses.

    Raises:
        InputError: such folds cannot be made.
    """
    outer, inner = divide(units, cv, seed)
    parts = [
        Part(number, part.inner.train(0), part.inner.test(0), part.test)
        for number, part in zip([*range(cv), -1], inner, strict=True)
    ]
    counts = sorted({part.inner.count for part in inner})
    inside = " or ".join(map(str, counts))
    note = (
        f"Setting and epoch are chosen on one of {inside} inner folds of each training part, then all of the part is learnt "
        "from; a probe is chosen on all inner folds."
    )
    about = {"protocol": "nested", "folds": cv, "inner_folds": [1], "repeats": 1}
    return Division(outer, tuple(parts[:-1]), parts[-1], about, (note,))


def divide_once(units: Units, videos: pd.DataFrame, split: str, seed: int) -> Division:
    """Return one division into train, validation and test, that of a probe with the same `split` and seed.

    Raises:
        InputError: no such division.
    """
    if split == "official":
        folds = official_split(units, videos)
    else:
        try:
            folds = holdout(units, tuple(int(part) for part in split.split("/")), seed)
        except ValueError as error:
            raise InputError(f"--split {split!r} is neither 'official' nor shares such as 60/20/20.") from error
    train, validation, test = (folds.of == part for part in range(3))
    part = Part(0, train, validation, test, refit=False)
    only = Folds(np.where(test, 0, np.where(train, 1, -1)), 1)
    note = f"Setting and epoch chosen on {validation.sum()} validation videos; test scored once."
    return Division(only, (part,), replace(part, number=-1), {"protocol": "split", "split": split}, (note,))


def evaluate(problem: Problem, division: Division, folder: Folder, watch: Watch) -> list[Tuned]:
    """Fine-tune for every part; return what each found. Parts that `folder` holds are not learnt again."""
    parts, epochs, grid = division.parts, problem.tuning.epochs, problem.tuning.grid()
    done = {part.number: folder.load(part.number) for part in parts}
    each = epochs * (len(grid) + parts[0].refit)
    todo = [part for part in parts if done[part.number] is None]
    if len(todo) < len(parts):
        watch.tell(f"{len(parts) - len(todo)} of {len(parts)} folds were done before.")
    if todo:
        say_how_long(problem, todo, watch.tell)
    watch.start(each * (len(parts) - len(todo)), each * len(parts))
    found = []
    for part in parts:
        tuned = done[part.number]
        if tuned is None:
            tuned, _ = tune(problem, part, watch.advance)
            folder.save(part.number, tuned)
        found.append(tuned)
    return found


def tune(problem: Problem, part: Part, advance: Callable[[int], None] = lambda epochs: None) -> tuple[Tuned, Tuner]:
    """Choose a setting and an epoch, learn with them, predict the part's test videos; return that, and what has learnt."""
    grid, epochs, targets = problem.tuning.grid(), problem.tuning.epochs, problem.data.targets
    mean, right = np.full((2, len(grid), epochs), np.nan)
    seen = np.full((len(grid), epochs, int(part.choose.sum()), problem.data.outputs), np.nan, np.float32)
    best, kept = np.inf, None
    for place, setting in enumerate(grid):
        tuner = Tuner(problem, setting, part.learn)
        for epoch in range(1, epochs + 1):
            tuner.train(epoch)
            output = tuner.predict(part.choose)[part.choose]
            seen[place, epoch - 1] = output
            mean[place, epoch - 1] = losses(output, targets[part.choose]).mean()
            if problem.data.task.classes:
                right[place, epoch - 1] = (output.argmax(1) == targets[part.choose]).mean()
            if not part.refit and mean[place, epoch - 1] < best:
                best, kept = mean[place, epoch - 1], tuner.state()
            advance(1)
    choice = choose(mean, grid)
    if part.refit:
        tuner = Tuner(problem, choice.setting, part.learn | part.choose)
        for epoch in range(1, choice.epoch + 1):
            tuner.train(epoch)
            advance(1)
        if choice.epoch < epochs:
            advance(epochs - choice.epoch)
    elif kept is not None:
        tuner.load(kept)
    inner = np.full((len(targets), problem.data.outputs), np.nan, np.float32)
    inner[part.choose] = seen[grid.index(dict(choice.setting)), choice.epoch - 1]
    learnt = part.learn | part.choose if part.refit else part.learn
    return Tuned(choice, tuner.predict(part.test), tuner.predict(learnt), inner, mean, right), tuner


def result_of(problem: Problem, division: Division, found: Sequence[Tuned], settings: dict[str, Any]) -> Result:
    """Return the result of all parts, as a probe's is."""
    data, split = problem.data, "split" in division.about
    outputs = np.full((len(data.targets), data.outputs), np.nan)
    for part, tuned in zip(division.parts, found, strict=True):
        outputs[part.test] = tuned.outputs[part.test]
    settings = {**settings, **division.about}
    if division.about.get("split") == "official":
        part = division.parts[0]
        of = np.where(part.learn, 0, np.where(part.choose, 1, np.where(part.test, 2, -1)))
        settings["group"] = kept_together(data, Folds(of, 3), range(3))
    choices = [tuned.choice for tuned in found]
    order, chosen_on = range(len(found)), division.parts[0].choose if split else None
    notes = [*data.notes, *division.notes]
    result = build_result(data, division.folds, order, outputs, choices, settings, notes, None, chosen_on)
    numbered = list(zip((part.number for part in division.parts), found, strict=True))
    inner, train, curves = (
        pd.concat(tables, ignore_index=True)
        for tables in (
            [_by_part(problem, number, tuned.inner) for number, tuned in numbered],
            [_by_part(problem, number, tuned.train) for number, tuned in numbered],
            [_curves(number, tuned) for number, tuned in numbered],
        )
    )
    return calibrated(replace(result, inner=inner, train=train, curves=curves))


def _by_part(problem: Problem, number: int, outputs: Float[np.ndarray, "v c"]) -> pd.DataFrame:
    """Return `Result.inner` (or `train`) of one part."""
    held = np.isfinite(outputs).all(1)
    table = prediction_table(problem.data, held, np.full(len(held), number), outputs).rename(columns={"fold": "part"})
    return table[["part", "video_id", "truth", *score_columns(problem.data.task)]]


def _curves(number: int, tuned: Tuned) -> pd.DataFrame:
    settings, epochs = tuned.losses.shape
    place, epoch = np.divmod(np.arange(settings * epochs), epochs)
    columns = {"part": number, "setting": place, "epoch": epoch + 1}
    table = pd.DataFrame({**columns, "loss": tuned.losses.ravel(), "accuracy": tuned.accuracies.ravel()})
    return table[table["loss"].notna()]


def say_how_long(problem: Problem, parts: Sequence[Part], tell: Callable[[str], None]) -> None:
    """Tell how long fine-tuning will take, after a step and a look have been timed."""
    tuning, grid = problem.tuning, problem.tuning.grid()
    some = np.zeros(len(problem.data.targets), bool)
    some[np.flatnonzero(parts[0].learn)[: tuning.batch]] = True
    tuner = Tuner(problem, grid[0], some)
    tuner.train(1)  # what is slow only once is not counted
    learning, looking = (
        _seconds(problem, work) / some.sum() for work in (lambda: tuner.train(1), lambda: tuner.predict(some))
    )
    seconds = 0.0
    for part in parts:
        inside = part.learn.sum() * learning + part.choose.sum() * looking
        again = (part.learn | part.choose).sum() * learning if part.refit else 0.0
        seconds += tuning.epochs * (len(grid) * inside + again) + part.test.sum() * looking
    time_text = f"{seconds / 60:.1f} minutes" if seconds > 90 else f"{max(1, round(seconds))} s"
    trained = len(parts) * (len(grid) + parts[0].refit)
    tell(f"{trained} trainings of up to {tuning.epochs} epochs: at most about {time_text} on {problem.cut.device}.")


def _seconds(problem: Problem, work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    if problem.cut.device.type == "cuda":
        torch.cuda.synchronize(problem.cut.device)
    return time.perf_counter() - began
