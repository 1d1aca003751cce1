"""The core of an honest evaluation: inside a part a setting is chosen, and its probe predicts what the part has not seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from echolung.evaluation.result import score_columns
from echolung.evaluation.selection import Choice, Collector, choose
from echolung.evaluation.setup import Setup
from echolung.evaluation.splits import Folds
from echolung.probes import Job
from echolung.probes.jobs import Arrays, Setting
from echolung.probes.saved import softmax


@dataclass(frozen=True)
class Part:
    """Videos inside which a setting is chosen, and videos that its probe then predicts.

    Attributes:
        inner: folds of the part; -1: outside of it.
        test: [v] what is predicted; none of it is in the part.
        targets: [v] what is learnt in the place of the task's targets, such as permuted ones; None: those.
        keep: the probe is wanted, beside its predictions.
    """

    inner: Folds
    test: Bool[np.ndarray, " v"]
    targets: np.ndarray | None = None
    keep: bool = False

    @property
    def train(self) -> Bool[np.ndarray, " v"]:
        """Which videos the part consists of."""
        return self.inner.of >= 0


def choose_inside(
    setup: Setup, grid: Sequence[Setting], parts: Sequence[Part], patience: int | None
) -> tuple[list[Choice], pd.DataFrame]:
    """Return what each part chooses by its inner folds, and the curves: part (its place), setting, epoch, loss, accuracy."""
    jobs, owners = _inner_jobs(parts, grid, grouped=patience is not None)
    collector = Collector(setup.data.targets, jobs, owners, setup.training.epochs, patience)
    setup.fit(jobs, collector.on_epoch)
    return [choose(losses, grid) for losses in collector.losses], collector.curves()


def refit(
    setup: Setup, parts: Sequence[Part], choices: Sequence[Choice], *, fit: bool = False
) -> tuple[Float[np.ndarray, "parts v c"], list[Arrays | None]]:
    """Train each part's choice on the whole part; return what it predicts (NaN outside `test`), and the probes to keep.

    With `fit` it also predicts the part itself: the videos that it has learnt from.
    """
    jobs = [
        Job(
            choice.setting,
            part.train,
            choice.epoch if part.keep else None,
            part.test | part.train if fit else part.test,
            targets=part.targets,
        )
        for part, choice in zip(parts, choices, strict=True)
    ]
    outputs, arrays = _outputs_at(setup, jobs, [choice.epoch for choice in choices])
    return outputs, arrays


def predict_inside(setup: Setup, parts: Sequence[Part], choices: Sequence[Choice]) -> Float[np.ndarray, "parts v c"]:
    """Return what each part's choice predicts of the part's own videos, each by the inner probe that has not seen it.

    What chose a setting is kept as losses alone; this trains the inner folds of the chosen one again.
    """
    owners = [(p, fold) for p, part in enumerate(parts) for fold in range(part.inner.count)]
    jobs = [
        Job(choices[p].setting, parts[p].inner.train(fold), watch=parts[p].inner.test(fold), targets=parts[p].targets)
        for p, fold in owners
    ]
    outputs, _ = _outputs_at(setup, jobs, [choices[p].epoch for p, _ in owners])
    joined = np.full((len(parts), *outputs.shape[1:]), np.nan)
    for (p, fold), output in zip(owners, outputs, strict=True):
        held = parts[p].inner.test(fold)
        joined[p, held] = output[held]
    return joined


def best_looks(setup: Setup, grid: Sequence[Setting], parts: Sequence[Part], honest: np.ndarray) -> pd.DataFrame:
    """Return what each part would have reported had it chosen setting and epoch on the videos that it is scored on.

    Args:
        setup: the videos.
        grid: the settings.
        parts: of which `test` is looked at after every epoch.
        honest: [v, c] the outputs that are reported, for comparison.

    Returns:
        One row a part: fold (its place), metric, honest, best, setting (its place), epoch, looks (how many were taken).
    """
    targets = setup.data.targets
    numbers = targets.dtype.kind == "f"
    owners = [(p, place) for p in range(len(parts)) for place in range(len(grid))]
    best: list[tuple[float, int, int]] = [(-np.inf, 0, 0)] * len(parts)
    taken = np.zeros(len(parts), int)

    def worth(output: np.ndarray, test: np.ndarray) -> float:
        if numbers:
            return -float(np.abs(output[test, 0] - targets[test]).mean())
        return float((output[test].argmax(-1) == targets[test]).mean())

    def look(epoch: int, indices: Sequence[int], outputs: np.ndarray) -> None:
        for i, output in zip(indices, outputs, strict=True):
            p, place = owners[i]
            taken[p] += 1
            # At a tie the earlier epoch, then the earlier setting: never what memory happens to train first.
            if (rank := (worth(output, parts[p].test), -epoch, -place)) > best[p]:
                best[p] = rank

    setup.fit([Job(grid[place], parts[p].train, watch=parts[p].test) for p, place in owners], look)
    sign = -1 if numbers else 1
    rows = [
        {
            "fold": p,
            "metric": "mae" if numbers else "accuracy",
            "honest": sign * worth(honest, part.test),
            "best": sign * value,
            "setting": -place,
            "epoch": -epoch,
            "looks": int(looks),
        }
        for p, (part, (value, epoch, place), looks) in enumerate(zip(parts, best, taken, strict=True))
    ]
    return pd.DataFrame(rows)


def inner_table(setup: Setup, outputs: Float[np.ndarray, "parts v c"], names: Sequence[int]) -> pd.DataFrame:
    """Return `Result.inner` (or `train`): outputs that are known as a table, a part after the other under the given numbers."""
    data, classes = setup.data, setup.data.task.classes
    truth = np.array(classes)[data.targets] if classes else data.targets
    tables = []
    for name, output in zip(names, outputs, strict=True):
        held = np.isfinite(output).all(-1)
        scores = softmax(output[held]) if classes else output[held].astype(np.float32)
        columns: dict[str, Any] = dict(zip(score_columns(data.task), scores.T, strict=True))
        about = {"part": name, "video_id": data.videos["video_id"].to_numpy()[held], "truth": truth[held]}
        tables.append(pd.DataFrame({**about, **columns}))
    return pd.concat(tables, ignore_index=True)


def fewer_inner_folds(counts: Sequence[int]) -> list[str]:
    """Return a note where the parts could not all be divided into 4 inner folds."""
    if list(counts) == [4]:
        return []
    *most, last = map(str, counts)
    numbers = f"{', '.join(most)} or {last}" if most else last
    return [f"Settings are chosen on {numbers} inner folds: 4 cannot be made everywhere."]


def say_how_long(setup: Setup, grid: Sequence[Setting], parts: Sequence[Part], also: str = "to score") -> None:
    """Tell how long choosing and refitting will take."""
    jobs, _ = _inner_jobs(parts, grid, grouped=False)
    likely = [Job(grid[0], part.train, watch=part.test) for part in parts]
    setup.say_how_long([jobs, likely], f"{len(jobs)} probes to choose from, {len(likely)} {also}")


def _inner_jobs(
    parts: Sequence[Part], grid: Sequence[Setting], *, grouped: bool
) -> tuple[list[Job], list[tuple[int, int]]]:
    """Return a job for every part, inner fold and setting, in that order, and the (part, place in the grid) of each.

    With `grouped` the folds of one setting of a part are one group, so that their outputs can be judged together after every
    epoch; without it fewer passes may do.
    """
    jobs, owners = [], []
    for p, part in enumerate(parts):
        for fold in range(part.inner.count):
            train, held = part.inner.train(fold), part.inner.test(fold)
            for place, setting in enumerate(grid):
                group = p * len(grid) + place if grouped else None
                jobs.append(Job(setting, train, watch=held, group=group, targets=part.targets))
                owners.append((p, place))
    return jobs, owners


def _outputs_at(
    setup: Setup, jobs: Sequence[Job], epochs: Sequence[int]
) -> tuple[Float[np.ndarray, "jobs v c"], list[Arrays | None]]:
    """Train each job to its epoch; return its outputs for the videos that it watches, and the arrays of those to keep."""
    outputs = np.full((len(jobs), len(setup.data.targets), setup.data.outputs), np.nan)

    def look(epoch: int, indices: Sequence[int], values: np.ndarray) -> list[int]:
        ready = [(i, value) for i, value in zip(indices, values, strict=True) if epoch == epochs[i]]
        for i, value in ready:
            held = jobs[i].watch
            outputs[i, held] = value[held]
        return [i for i, _ in ready]  # they leave the bank: parameters of large probes would add up

    return outputs, setup.fit(jobs, look)
