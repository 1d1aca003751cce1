"""The protocols: who may choose a setting on what. docs/protocol.md states them in words and says why.

`nested` is the default: a setting is chosen inside each training part, and a test video is looked at once. `seed` does what
the published study did, best of everything on the fold it reports, and is called optimistic wherever its number shows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from echolung.cache import TokenStore
from echolung.datasets.manifest import Manifest
from echolung.errors import InputError
from echolung.evaluation.data import TaskData
from echolung.evaluation.given import official_split, published_folds
from echolung.evaluation.question import Question
from echolung.evaluation.result import Result, build_result, kept_together
from echolung.evaluation.selection import Choice, Collector, choose
from echolung.evaluation.setup import Setup, set_up
from echolung.evaluation.splits import Folds, holdout, nested_folds
from echolung.probes import Job, find_kind, settings_with
from echolung.probes.jobs import Setting
from echolung.text import suggest

PROTOCOLS = ("nested", "seed")

SEED_BATCH = 2
"""Videos a step in the published study."""


@dataclass(frozen=True)
class _Run:
    """What is chosen from, and how.

    Attributes:
        setup: videos, features and training.
        grid: the settings.
        patience: epochs without a lesser loss after which a setting is given up; None: never.
    """

    setup: Setup
    grid: tuple[Setting, ...]
    patience: int | None

    @property
    def data(self) -> TaskData:
        """The labelled videos."""
        return self.setup.data

    @property
    def epochs(self) -> int:
        """The longest schedule of any setting."""
        return self.setup.training.epochs


def cross_validate(
    store: TokenStore,
    task: str | None = None,
    manifest: Manifest | None = None,
    *,
    protocol: str = "nested",
    split: str | None = None,
    patience: int | None = None,
    **asked: Any,
) -> Result:
    """Return out-of-fold predictions of a task by probes trained on a store.

    Args:
        store: the tokens.
        task: as in `Question`.
        manifest: as in `Question`.
        protocol: "nested" or "seed", which has its own batch, 2 videos.
        split: instead of folds one division: "60/20/20" (train/validation/test, per cent) or "official" (the dataset's own).
        patience: epochs without a lesser held-out loss after which a setting is trained no further; None: all epochs.
        asked: the other fields of `Question`, such as probe="attentive".

    Raises:
        InputError: no such task, probe, protocol or group; more folds than patients; a probe that cannot do the task.
    """
    question = Question(task, manifest, **asked)
    kind = find_kind(question.probe)
    _check(protocol, split, question.group, patience)
    grid = settings_with(question.probe, kind.seed_settings if protocol == "seed" else kind.settings, question.hyper)
    if protocol == "seed":
        question = replace(question, batch=SEED_BATCH)
    if protocol == "seed" or split == "official":
        question = replace(question, group="video")
    setup = set_up(store, question, grid)
    settings = {
        **setup.settings,
        "protocol": "split" if split else protocol,
        "grid": [dict(setting) for setting in grid],
        "patience": patience,
    }
    run = _Run(setup, grid, patience)
    if split:
        return _split(run, split, settings)
    return (_seed if protocol == "seed" else _nested)(run, {**settings, "folds": question.cv})


def _check(protocol: str, split: str | None, group: str | None, patience: int | None) -> None:
    if protocol not in PROTOCOLS:
        raise InputError(
            f"There is no protocol {protocol!r}; there are nested and seed.{suggest(protocol, list(PROTOCOLS))}"
        )
    if patience is not None and protocol == "seed":
        raise InputError("--patience does not go with --protocol seed, which looks at every epoch, as published.")
    if split and protocol == "seed":
        raise InputError("--split does not go with --protocol seed, which has the published folds.")
    if group and (protocol == "seed" or split == "official"):
        raise InputError(f"--group {group} does not go with folds that are given: leave out --group.")


# ---- nested ------------------------------------------------------------------------------------------------------------


def _nested(run: _Run, settings: dict[str, Any]) -> Result:
    # The last inner folds are of everything: they choose the setting of the probe that is saved.
    cv = run.setup.question.cv
    outer, inner = nested_folds(run.setup.units, cv, run.setup.question.seed)
    parts = [folds.of >= 0 for folds in inner]
    jobs, owners = inner_jobs(inner, run.grid, grouped=run.patience is not None)
    likely = [Job(run.grid[0], part) for part in parts]
    run.setup.say_how_long([jobs, likely], f"{len(jobs)} probes to choose from, {cv + 1} to keep")
    collector = Collector(run.data.targets, jobs, owners, run.epochs, run.patience)
    run.setup.fit(jobs, collector.on_epoch)
    choices = [choose(losses, run.grid) for losses in collector.losses]
    tests = [*(outer.test(fold) for fold in range(cv)), np.zeros(len(parts[0]), bool)]
    finals = [Job(c.setting, p, c.epoch, watch) for c, p, watch in zip(choices, parts, tests, strict=True)]
    scores = np.full((len(run.data.targets), run.data.outputs), np.nan)

    def keep(epoch: int, indices: Sequence[int], outputs: np.ndarray) -> None:
        for i, output in zip(indices, outputs, strict=True):
            if i < cv and epoch == choices[i].epoch:
                scores[outer.test(i)] = output[outer.test(i)]

    arrays = run.setup.fit(finals, keep)[-1]
    counts = sorted({folds.count for folds in inner})
    notes = [*run.data.notes, *fewer_inner_folds(counts)]
    settings = {**settings, "inner_folds": counts}
    final = (choices[-1], arrays)
    return build_result(run.data, outer, range(cv), scores, choices[:cv], settings, notes, final)


def inner_jobs(
    inner: Sequence[Folds], grid: Sequence[Setting], *, grouped: bool
) -> tuple[list[Job], list[tuple[int, int]]]:
    """Return a job for every part, inner fold and setting, in that order, and the (part, place in the grid) of each.

    With `grouped` the folds of one setting of a part are one group, so that their outputs can be judged together after every
    epoch; without it fewer passes may do.
    """
    jobs, owners = [], []
    for part, folds in enumerate(inner):
        for fold in range(folds.count):
            for place, setting in enumerate(grid):
                group = part * len(grid) + place if grouped else None
                jobs.append(Job(setting, folds.train(fold), watch=folds.test(fold), group=group))
                owners.append((part, place))
    return jobs, owners


def fewer_inner_folds(counts: Sequence[int]) -> list[str]:
    """Return a note where the parts could not all be divided into 4 inner folds."""
    if list(counts) == [4]:
        return []
    return [f"Settings are chosen on {' or '.join(map(str, counts))} inner folds: 4 cannot be made everywhere."]


# ---- seed --------------------------------------------------------------------------------------------------------------


def _seed(run: _Run, settings: dict[str, Any]) -> Result:
    if run.data.task.kind == "regression":
        raise InputError("The seed protocol chooses by accuracy and so needs classes; use --protocol nested.")
    cv = run.setup.question.cv
    folds, source = published_folds(run.setup.units, run.data.videos, cv)
    scores = np.full((len(run.data.targets), run.data.outputs), np.nan)
    choices = []
    run.setup.say_how_long(
        [[Job(s, folds.train(i), watch=folds.test(i)) for s in run.grid] for i in range(cv)], f"{cv} folds"
    )
    for fold in range(cv):
        test = folds.test(fold)
        best: dict[str, Any] = {"rank": (-1.0, 0, 0)}

        def look(
            epoch: int,
            indices: Sequence[int],
            outputs: np.ndarray,
            best: dict[str, Any] = best,
            test: np.ndarray = test,
        ) -> None:
            for i, output in zip(indices, outputs, strict=True):
                accuracy = float((output[test].argmax(-1) == run.data.targets[test]).mean())
                # At a tie the earlier epoch, then the earlier setting: never what memory happens to train first.
                if (rank := (accuracy, -epoch, -i)) > best["rank"]:
                    best.update(rank=rank, choice=Choice(run.grid[i], epoch), output=output[test])

        run.setup.fit([Job(setting, folds.train(fold), watch=test) for setting in run.grid], look)
        scores[test] = best["output"]
        choices.append(best["choice"])
    looks = len(run.grid) * run.epochs
    notes = [
        *run.data.notes,
        f"Optimistic: each fold reports the best of {looks} looks ({len(run.grid)} settings × "
        f"{run.epochs} epochs) at the very videos it is scored on, as the published study did.",
        source,
        "The published training augmentation cannot be cached; random --views at extraction come near it.",
    ]
    settings = {**settings, "group": kept_together(run.data, folds, range(cv))}
    return build_result(run.data, folds, range(cv), scores, choices, settings, notes, None)


# ---- one split -----------------------------------------------------------------------------------------------------------


def _split(run: _Run, split: str, settings: dict[str, Any]) -> Result:
    if split == "official":
        folds = official_split(run.setup.units, run.data.videos)
    else:
        try:
            shares = tuple(int(part) for part in split.split("/"))
        except ValueError as error:
            raise InputError(f"--split {split!r} is neither 'official' nor shares such as 60/20/20.") from error
        folds = holdout(run.setup.units, shares, run.setup.question.seed)
    train, validation, test = (folds.of == part for part in range(3))
    jobs = [Job(setting, train, watch=validation) for setting in run.grid]
    run.setup.say_how_long([jobs, [Job(run.grid[0], train, watch=test)]], f"{len(jobs)} probes")
    collector = Collector(run.data.targets, jobs, [(0, i) for i in range(len(jobs))], run.epochs, run.patience)
    run.setup.fit(jobs, collector.on_epoch)
    choice = choose(collector.losses[0], run.grid)
    scores = np.full((len(run.data.targets), run.data.outputs), np.nan)

    def keep(epoch: int, indices: Sequence[int], outputs: np.ndarray) -> None:
        if epoch == choice.epoch:
            scores[test] = outputs[0][test]

    arrays = run.setup.fit([Job(choice.setting, train, choice.epoch, test)], keep)[0]
    notes = [*run.data.notes, f"Setting and epoch chosen on {validation.sum()} validation videos; test scored once."]
    only = Folds(np.where(test, 0, np.where(train, 1, -1)), 1)
    settings = {**settings, "split": split}
    if split == "official":
        settings["group"] = kept_together(run.data, folds, range(3))
    final = (choice, arrays)
    return build_result(run.data, only, [0], scores, [choice], settings, notes, final, chosen_on=validation)
