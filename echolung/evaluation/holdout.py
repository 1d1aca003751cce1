"""One division into train, validation and test: choose on validation, score test once."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from echolung.errors import InputError
from echolung.evaluation.given import official_split
from echolung.evaluation.nested import calibrated
from echolung.evaluation.parts import inner_table
from echolung.evaluation.result import Result, build_result, kept_together
from echolung.evaluation.selection import Choice, Collector, choose
from echolung.evaluation.setup import Setup
from echolung.evaluation.splits import Folds, holdout
from echolung.probes import Job
from echolung.probes.jobs import Arrays, Setting
from echolung.probes.saved import with_provenance


def one_split(
    setup: Setup, grid: Sequence[Setting], settings: dict[str, Any], split: str, *, patience: int | None = None
) -> Result:
    """Return the result of one division.

    Args:
        setup: videos, features and training.
        grid: what is chosen from.
        settings: for the record.
        split: "official" (the dataset's own), or shares of train, validation and test such as "60/20/20".
        patience: epochs without a lesser validation loss after which a setting is given up; None: never.

    Raises:
        InputError: no such division.
    """
    folds = division(setup, split)
    train, validation, test = (folds.of == part for part in range(3))
    jobs = [Job(setting, train, watch=validation) for setting in grid]
    setup.say_how_long(
        [jobs, [Job(grid[0], train, watch=test)]], f"{len(jobs)} {'probe' if len(jobs) == 1 else 'probes'}"
    )
    owners = [(0, i) for i in range(len(jobs))]
    collector = Collector(setup.data.targets, jobs, owners, setup.training.epochs, patience)
    setup.fit(jobs, collector.on_epoch)
    choice = choose(collector.losses[0], grid)
    outputs, arrays = _learn(setup, choice, train, test | validation | train)
    notes = [*setup.data.notes, f"Setting and epoch chosen on {validation.sum()} validation videos; test scored once."]
    only = Folds(np.where(test, 0, np.where(train, 1, -1)), 1)
    settings = {**settings, "split": split}
    if split == "official":
        settings["group"] = kept_together(setup.data, folds, range(3))
    result = build_result(
        setup.data, only, [0], outputs, [choice], settings, notes, (choice, arrays), chosen_on=validation
    )
    if result.probe is not None:
        result = replace(result, probe=with_provenance(result.probe, setup.store, setup.data.videos[train]))
    inner, learnt = (
        inner_table(setup, np.where(chosen[:, None], outputs, np.nan)[None], [0]) for chosen in (validation, train)
    )
    return calibrated(replace(result, curves=collector.curves(), inner=inner, train=learnt))


def division(setup: Setup, split: str) -> Folds:
    """Return train, validation and test as folds 0, 1, 2; InputError where there is no such division."""
    if split == "official":
        return official_split(setup.units, setup.data.videos)
    try:
        shares = tuple(int(part) for part in split.split("/"))
    except ValueError as error:
        raise InputError(f"--split {split!r} is neither 'official' nor shares such as 60/20/20.") from error
    return holdout(setup.units, shares, setup.question.seed)


def _learn(setup: Setup, choice: Choice, train: np.ndarray, watch: np.ndarray) -> tuple[np.ndarray, Arrays | None]:
    """Return outputs for the videos watched (NaN elsewhere), and the probe."""
    scores = np.full((len(setup.data.targets), setup.data.outputs), np.nan)

    def keep(epoch: int, indices: Sequence[int], outputs: np.ndarray) -> None:
        if epoch == choice.epoch:
            scores[watch] = outputs[0][watch]

    return scores, setup.fit([Job(choice.setting, train, choice.epoch, watch)], keep)[0]
