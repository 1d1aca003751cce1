"""Runs side by side, video for video: who may be compared with whom, and what was left out so that they can be."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from echolung.errors import InputError
from echolung.evaluation.result import Result, is_optimistic, score_columns
from echolung.text import listed


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: a run, or several that differ in nothing but the seed of their encoder.

    Attributes:
        name: for tables, such as "random:vit_small@0,1,2".
        results: what was found, one a run.
        facts: what may differ from another arm's (encoder, window, probe, …), as text.
        runs: the folders' names, for messages.
        seeded: whether the encoder's weights are random, so that another seed would give other numbers.
    """

    name: str
    results: tuple[Result, ...]
    facts: dict[str, str]
    runs: tuple[str, ...]
    seeded: bool = False


ROUNDING = 1e-6
"""What two scores of one probe may differ by: float32, trained in another bank, such as with the folds of other repeats."""

Scored = tuple[Float[np.ndarray, "v c"], Int[np.ndarray, " v"]]
"""Scores of a run (probabilities, or numbers [v, 1]), and which fold's probe gave each."""


@dataclass(frozen=True)
class Paired:
    """The same videos in the same order for every run of every arm.

    Attributes:
        truth: class indices (int64) or numbers (float64).
        patients: of each video (its own id where the patient is not known).
        runs: of each arm and run: scores, and which fold's probe gave them.
        videos: how many; with repeats each has several rows.
        same_folds: whether folds are the same for all, and no prediction is left out.
        test_share: share of a fold's videos that are in its test part.
        notes: what was left out, and what the reader must know.
    """

    truth: np.ndarray
    patients: np.ndarray
    runs: tuple[tuple[Scored, ...], ...]
    videos: int
    same_folds: bool
    test_share: float
    notes: tuple[str, ...]


def pair(arms: Sequence[Arm], anyway: bool = False) -> Paired:
    """Return the runs side by side.

    Args:
        arms: two or more.
        anyway: also where videos, folds, the name of the task or the honesty of the protocol differ: what all have in common
            is compared then, and the notes say so.

    Raises:
        InputError: runs that answer different questions; one run given twice, or predictions that are the same; several
            predictions of one video.
    """
    runs = [(name, result) for arm in arms for name, result in zip(arm.runs, arm.results, strict=True)]
    tables = [_table(*run) for run in runs]
    _check_answers(runs, tables)
    reasons = _differences(runs, tables)
    if reasons and not anyway:
        raise InputError(
            f"These runs cannot be compared fold by fold: {'; '.join(reasons)}. Repeat one of them the way of the other, or "
            "compare what they have in common with --anyway."
        )
    common = tables[0].index
    for table in tables[1:]:
        common = common.intersection(table.index)
    common = common.sort_values()
    whole = all(len(table) == len(common) for table in tables)
    tables = [table.loc[common] for table in tables]
    same_folds = whole and all((table["fold"] == tables[0]["fold"]).all() for table in tables)
    task, truth, patient = runs[0][1].task, tables[0]["truth"], tables[0]["patient"].astype(str)
    videos = common.get_level_values("video_id").astype(str)
    notes = [f"Compared anyway: {reason}." for reason in reasons]
    if not same_folds:
        notes.append(
            f"Only the {videos.nunique()} videos in common are compared, pooled over folds: there are no differences fold by "
            "fold, and no tests made of them. AUROC is averaged over each run's own folds."
        )
    scored = iter([(t[score_columns(task)].to_numpy(np.float64), t["fold"].to_numpy(np.int64)) for t in tables])
    folds = runs[0][1].folds
    return Paired(
        truth=_indices(truth, task.classes) if task.classes else truth.to_numpy(np.float64),
        patients=np.where(patient != "", patient, videos).astype(str),
        runs=tuple(tuple(next(scored) for _ in arm.results) for arm in arms),
        videos=videos.nunique(),
        same_folds=same_folds,
        test_share=float((folds["videos_test"] / (folds["videos_test"] + folds["videos_train"])).mean()),
        notes=tuple(notes),
    )


def _indices(truth: "pd.Series[Any]", classes: Sequence[str]) -> np.ndarray:
    return truth.map({name: i for i, name in enumerate(classes)}).to_numpy(np.int64)


def _table(name: str, result: Result) -> pd.DataFrame:
    """Return the predictions by (repeat, video_id); InputError where a video has two."""
    table = result.predictions
    repeats = result.settings.get("repeats", 1)
    repeat = table["fold"] // result.settings["folds"] if repeats > 1 else 0
    table = table.assign(repeat=repeat).set_index(["repeat", "video_id"])
    if not table.index.is_unique:
        twice = table.index[table.index.duplicated()][0][1]
        raise InputError(
            f"{name} has several predictions of {twice} where one is expected: they are damaged. Repeat the run."
        )
    return table


def _check_answers(runs: Sequence[tuple[str, Result]], tables: Sequence[pd.DataFrame]) -> None:
    """Refuse what no option can compare: other classes, other truths, no video in common, the same predictions twice."""
    (first, result), table = runs[0], tables[0]
    for (name, other), theirs in zip(runs[1:], tables[1:], strict=True):
        if (result.task.kind, result.task.classes) != (other.task.kind, other.task.classes):
            what = [", ".join(task.classes) or "numbers" for task in (result.task, other.task)]
            raise InputError(f"{first} predicts {what[0]}, and {name} predicts {what[1]}: there is nothing to compare.")
        common = table.index.intersection(theirs.index)
        if common.empty:
            raise InputError(f"{first} and {name} have no video in common: there is nothing to compare.")
        if result.task.classes:
            wrong = table.loc[common, "truth"] != theirs.loc[common, "truth"]
        else:
            wrong = ~np.isclose(table.loc[common, "truth"], theirs.loc[common, "truth"], rtol=1e-5, atol=0)
        if wrong.any():
            video = common[np.asarray(wrong)][0][1]
            raise InputError(
                f"{first} and {name} were not told the same truth: {int(wrong.sum())} of {len(common)} videos have another label "
                f"(first: {video}). Repeat one of them with the labels of the other."
            )
    columns = score_columns(result.task)
    for i, ((name, _), table) in enumerate(zip(runs, tables, strict=True)):
        for (before, _), theirs in zip(runs[:i], tables[:i], strict=True):
            common = table.index.intersection(theirs.index)
            if np.allclose(table.loc[common, columns], theirs.loc[common, columns], rtol=ROUNDING, atol=ROUNDING):
                how = f"{name} is given twice" if name == before else f"{before} and {name} hold the same predictions"
                raise InputError(f"{how}: a run cannot be compared with itself. Name two different runs.")


def _differences(runs: Sequence[tuple[str, Result]], tables: Sequence[pd.DataFrame]) -> list[str]:
    """Return why runs are not comparable fold by fold, a clause for each reason."""
    (first, result), table, reasons = runs[0], tables[0], []
    for (name, other), theirs in zip(runs[1:], tables[1:], strict=True):
        asked = [f"{dataset_of(r.settings)} · {r.settings['task']}" for r in (result, other)]
        if asked[0] != asked[1]:
            reasons.append(f"{first} answers {asked[0]}, {name} {asked[1]}")
        mine, yours = (set(t.index.get_level_values("video_id")) for t in (table, theirs))
        if mine != yours:
            only = [f"{len(a - b)} only in {n}" for n, a, b in ((first, mine, yours), (name, yours, mine)) if a - b]
            example = listed(sorted(mine ^ yours), 2)
            reasons.append(f"their videos differ ({', '.join(only)}: {example})")
        common = table.index.intersection(theirs.index)
        moved = int((table.loc[common, "fold"] != theirs.loc[common, "fold"]).sum())
        if moved or (len(table) != len(theirs) and mine == yours):
            how = ", ".join(f"{n}: {_folds(r.settings)}" for n, r in ((first, result), (name, other)))
            what = f"{moved} of {len(common)} predictions are in another fold; " if moved else ""
            reasons.append(f"their folds differ ({what}{how})")
        if is_optimistic(result.settings) != is_optimistic(other.settings):
            bold = first if is_optimistic(result.settings) else name
            reasons.append(f"{bold} is optimistic (it chose on the videos that it scores) and the other is not")
    return reasons


def dataset_of(settings: dict[str, Any]) -> str:
    """Return the dataset of a run; "a → b" where it learnt from one and was scored on another."""
    return settings["dataset"] + (f" → {settings['test']['dataset']}" if "test" in settings else "")


def _folds(settings: dict[str, Any]) -> str:
    if "folds" not in settings and "split" not in settings:
        return str(settings["protocol"])
    if "split" in settings:
        return f"split {settings['split']} by {settings['group']}"
    repeats = f", {settings['repeats']} times" if settings.get("repeats", 1) > 1 else ""
    return f"{settings['folds']} folds by {settings['group']}{repeats}, seed {settings['seed']}"
