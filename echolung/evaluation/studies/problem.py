"""What a study is about: the videos, the folds of each part, the space that is searched."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution

from echolung.cache import TokenStore
from echolung.evaluation.data import manifest_of
from echolung.evaluation.question import Question
from echolung.evaluation.setup import Setup, set_up
from echolung.evaluation.splits import Folds, nested_folds
from echolung.evaluation.studies.search import Space, describe, search_space
from echolung.probes import Job, find_kind
from echolung.probes.hyper import read_setting

OF_CLASSES = ("label_smoothing", "class_weights")
"""Hyper-parameters that mean nothing where numbers are predicted."""


@dataclass(frozen=True)
class Part:
    """Some of the videos, and the folds of them that a trial is judged on.

    Attributes:
        name: "fold-0", … (the training part of that outer fold), or "all".
        folds: -1: not in this part.
    """

    name: str
    folds: Folds


@dataclass(frozen=True)
class Problem:
    """What the trials of a study are trained on and judged by.

    Attributes:
        setup: videos, features, kind of probe and training.
        outer: the folds that are reported.
        parts: of each a study.
        fixed: hyper-parameters held fixed.
        space: what is searched.
        settings: how all of it came about, for the record.
    """

    setup: Setup
    outer: Folds
    parts: tuple[Part, ...]
    fixed: Mapping[str, Any]
    space: Space
    settings: dict[str, Any]

    def jobs(self, part: Part, parameters: Mapping[str, Any], group: int) -> list[Job]:
        """Return a trial's jobs: one a fold."""
        setting = {**self.fixed, **parameters}
        folds = part.folds
        return [Job(setting, folds.train(i), watch=folds.test(i), group=group) for i in range(folds.count)]

    def describe(self) -> dict[str, Any]:
        """Return what a study that goes on must have in common with the one before."""
        names = (
            "dataset",
            "task",
            "probe",
            "protocol",
            "group",
            "folds",
            "epochs",
            "batch",
            "seed",
            "precision",
            "fusion",
        )
        digest = hashlib.sha256("\n".join(self.setup.data.videos["video_id"]).encode())
        for array in (self.setup.data.targets, self.outer.of, *(part.folds.of for part in self.parts)):
            digest.update(np.ascontiguousarray(array).tobytes())
        return {
            **{name: self.settings[name] for name in names},
            "store": self.settings["store"],
            "fixed": dict(self.fixed),
            "space": describe(self.space),
            "labels and folds": digest.hexdigest()[:16],
        }


def pose(store: TokenStore, question: Question, ranges: Mapping[str, tuple[float, float]], *, flat: bool) -> Problem:
    """Return the problem that a question poses; `ranges` and `flat` are those of `run_study`.

    Raises:
        InputError: no such task, probe, hyper-parameter or group; more folds than patients.
    """
    probe, kind = question.probe, find_kind(question.probe)
    several = {name: values for name, values in question.hyper.items() if isinstance(values, list | tuple)}
    choices = {
        name: [kind.hyper[name].read(name, v) for v in values] for name, values in several.items() if name in kind.hyper
    }
    one_each = {name: choices.get(name, [value])[0] for name, value in question.hyper.items()}
    fixed = read_setting(probe, kind.hyper, one_each)
    fixed = {name: value for name, value in fixed.items() if name not in several}
    _, asked = (question.manifest or manifest_of(store.snapshot)).task(question.task)
    numbers = asked.kind == "regression"
    coral = fixed.get("loss") == "coral"  # which has no labels to smooth
    hyper = {
        name: what
        for name, what in kind.hyper.items()
        if not (numbers and name in OF_CLASSES) and not (coral and name == "label_smoothing")
    }
    space = search_space(probe, hyper, fixed, ranges, choices)
    longest = _longest(space, fixed)
    costliest = {**fixed, **({"depth": 2} if "depth" in space else {}), **({"epochs": longest} if longest else {})}
    setup = set_up(store, question, [costliest])
    setup = replace(setup, training=replace(setup.training, videos=np.ones(len(setup.features), bool)))
    outer, inner = nested_folds(setup.units, question.cv, question.seed)
    names = [*(f"fold-{i}" for i in range(question.cv)), "all"]
    parts = [Part("all", outer)] if flat else [Part(n, f) for n, f in zip(names, inner, strict=True)]
    settings = {
        **setup.settings,
        "store": store.group.attrs["key_digest"],
        "hyper": dict(fixed),
        "protocol": "flat" if flat else "nested",
        "folds": question.cv,
        "inner_folds": sorted({part.folds.count for part in parts}),
    }
    return Problem(setup, outer, tuple(parts), fixed, space, settings)


def _longest(space: Space, fixed: Mapping[str, Any]) -> int | None:
    """Return the longest schedule where its length is searched or fixed."""
    lengths: Any = space.get("epochs")
    if isinstance(lengths, CategoricalDistribution):
        return max(int(str(length)) for length in lengths.choices)
    return lengths.high if lengths else fixed.get("epochs")
