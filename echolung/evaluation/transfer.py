"""Across datasets: learn from all of one store, predict all of another by the same encoder."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from echolung.cache import TokenStore
from echolung.datasets.manifest import Manifest, Task
from echolung.errors import InputError
from echolung.evaluation.data import TaskData, manifest_of, task_data
from echolung.evaluation.nested import calibrated
from echolung.evaluation.parts import Part, choose_inside, inner_table, predict_inside, refit, say_how_long
from echolung.evaluation.question import Question
from echolung.evaluation.result import Result, guesses, prediction_table, saved_probe
from echolung.evaluation.setup import Setup, set_up
from echolung.evaluation.splits import inner_folds
from echolung.evaluation.starting import seen_before
from echolung.probes import find_kind, load_features, settings_with
from echolung.probes.kinds import PROBES
from echolung.probes.saved import with_provenance

IDENTIFIES = ("encoder", "precision", "clips", "resampling", "normalisation", "layer", "token_pool")
"""Fields of a store's key that must agree: tokens made in another way mean something else."""


def transfer(
    store: TokenStore,
    test: TokenStore,
    *,
    classes: Mapping[str, str] | None = None,
    test_task: str | None = None,
    patience: int | None = None,
    **asked: Any,
) -> Result:
    """Return predictions of every labelled video of `test` by a probe chosen and trained on all of `store`.

    Args:
        store: what is learnt from; the setting is chosen by inner folds of all its videos.
        test: what is predicted, once.
        classes: class of the training task -> class of the test task; videos of other classes, on either side, are left out.
            None: the classes that both have (numbers need none).
        test_task: the task of `test`; None: the one of the same name, else its first.
        patience: epochs without a lesser held-out loss after which a setting is trained no further.
        asked: the other fields of `Question`.

    Raises:
        InputError: tokens made in different ways, tasks of different kinds, or classes that do not fit.
    """
    _check_keys(store, test)
    both = sorted(set(store.rows["video_id"]) & set(test.rows["video_id"]))
    if both and store.snapshot.dataset == test.snapshot.dataset:
        raise InputError(
            f"{store.path.name} and {test.path.name} share {len(both)} videos ({both[0]}, …): what was learnt would be tested. "
            "Name a store of another dataset with --test."
        )
    question = Question(**asked)
    learnt, asked_of_test = _tasks(store, test, question, test_task)
    mapping = _mapping(classes, learnt[1], asked_of_test[1])
    # In the order of the test task: of two classes the last is the one that sensitivity is of.
    names = tuple(name for name in asked_of_test[1].classes if name in mapping.values())
    manifest, left = _relabelled(question.manifest or manifest_of(store.snapshot), learnt, mapping, names)
    kind = find_kind(question.probe)
    grid = settings_with(question.probe, kind.settings, question.hyper)
    setup = set_up(store, replace(question, task=learnt[0], manifest=manifest), grid)
    target, notes = _target(test, asked_of_test, setup)
    notes = [*_told(setup.data.notes, left, "--map does not name them"), *notes]
    if question.start is not None:
        notes += seen_before(question.start, test.snapshot.dataset)
    inner = inner_folds(setup.units, question.seed)
    if inner is None:
        raise InputError(f"{store.path.name} has too few {setup.data.level}s of a class to choose a setting on.")
    part = Part(inner, np.zeros(len(setup.data.targets), bool), keep=True)
    say_how_long(setup, grid, [part], "to keep")
    choices, curves = choose_inside(setup, grid, [part], patience)
    arrays = refit(setup, [part], choices)[1][0] or {}
    settings = {
        **setup.settings, "protocol": "transfer", "grid": [dict(s) for s in grid], "patience": patience,
        "inner_folds": [inner.count],
        "store": {"name": store.path.name, "key_digest": store.group.attrs["key_digest"]},
        "test": {"dataset": test.snapshot.dataset, "store": test.path.name, "key_digest": test.group.attrs["key_digest"],
                 "task": asked_of_test[0], "classes": mapping},
    }  # fmt: skip
    probe = saved_probe(setup.data, choices[0], arrays, settings, len(setup.data.targets))
    probe = with_provenance(probe, store, setup.data.videos)
    features = load_features(
        test, pooled=kind.pooled, fusion=question.fusion, memory=question.memory, batch=question.batch
    )
    outputs = PROBES[probe.kind].predict(arrays, features.select(target.rows), probe.about["setting"])
    count = len(target.targets)
    predictions = prediction_table(target, np.ones(count, bool), np.zeros(count, np.int64), outputs)
    shared = (
        _shared(setup.data, target) if store.snapshot.dataset == test.snapshot.dataset else {"patients": 0, "groups": 0}
    )
    result = Result(
        predictions, _folds(setup.data, target), [{**choices[0].setting, "epoch": choices[0].epoch}], probe, target.task,
        settings, tuple(notes), shared, curves=curves,
        inner=inner_table(setup, predict_inside(setup, [part], choices), [0]),
    )  # fmt: skip
    return calibrated(result)


def read_mapping(text: str) -> dict[str, str]:
    """Return the classes that a text such as "covid=positive,regular=negative" maps; InputError where it maps none."""
    pairs = [item.partition("=") for item in text.split(",") if item.strip()]
    if not pairs or any(not (a.strip() and equals and b.strip()) for a, equals, b in pairs):
        raise InputError(
            f"--map {text!r} must be CLASS=CLASS, apart by commas, such as covid=positive,regular=negative."
        )
    names = [a.strip() for a, _, _ in pairs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"--map {text!r} maps {twice[0]} twice.")
    return {a.strip(): b.strip() for a, _, b in pairs}


def _check_keys(store: TokenStore, test: TokenStore) -> None:
    if differ := [name for name in IDENTIFIES if store.key.get(name) != test.key.get(name)]:
        raise InputError(
            f"{store.path.name} and {test.path.name} differ in {', '.join(differ)}, so a probe of the one means nothing on the "
            "other. Extract both with the same encoder and the same clips."
        )


def _tasks(
    store: TokenStore, test: TokenStore, question: Question, test_task: str | None
) -> tuple[tuple[str, Task], tuple[str, Task]]:
    learnt = (question.manifest or manifest_of(store.snapshot)).task(question.task)
    there = manifest_of(test.snapshot)
    asked = there.task(test_task or (learnt[0] if learnt[0] in there.tasks else None))
    if learnt[1].kind != asked[1].kind:
        raise InputError(
            f"{learnt[0]} is a {learnt[1].kind} and {asked[0]} a {asked[1].kind}; name another with --test-task."
        )
    return learnt, asked


def _mapping(classes: Mapping[str, str] | None, learnt: Task, asked: Task) -> dict[str, str]:
    if learnt.kind == "regression":
        if classes:
            raise InputError("--map is for classes, and these tasks are numbers.")
        return {}
    mapping = dict(classes) if classes else {name: name for name in learnt.classes if name in asked.classes}
    if unknown := [name for name in mapping if name not in learnt.classes]:
        raise InputError(f"--map: there is no class {unknown[0]!r} to learn; there are {', '.join(learnt.classes)}.")
    if unknown := [name for name in mapping.values() if name not in asked.classes]:
        raise InputError(f"--map: there is no class {unknown[0]!r} to predict; there are {', '.join(asked.classes)}.")
    if len(set(mapping.values())) < 2:
        raise InputError(
            f"At least two classes must be mapped onto two. Learnt are {', '.join(learnt.classes)}, predicted "
            f"{', '.join(asked.classes)}: say which is which, such as --map {learnt.classes[0]}={asked.classes[-1]},…"
        )
    return mapping


def _relabelled(
    manifest: Manifest, learnt: tuple[str, Task], mapping: dict[str, str], classes: tuple[str, ...]
) -> tuple[Manifest, list[str]]:
    """Return the training table with the labels of the test task, and the classes of the videos that it leaves out."""
    if not mapping:
        return manifest, []
    name, task = learnt
    labels = manifest.videos[task.column].astype(str)
    left = labels[labels.isin(task.classes) & ~labels.isin(list(mapping))]
    videos = manifest.videos.assign(**{task.column: labels.map(mapping).fillna("")}).drop(index=left.index)
    tasks = {**manifest.tasks, name: replace(task, classes=classes)}
    return replace(manifest, videos=videos, tasks=tasks), left.tolist()


def _target(test: TokenStore, asked: tuple[str, Task], setup: Setup) -> tuple[TaskData, list[str]]:
    """Return the videos to be predicted, their classes numbered as they were learnt, and notes on what is left out."""
    name, task = asked
    manifest = manifest_of(test.snapshot)
    features = load_features(test, pooled=True)
    left: list[str] = []
    if task.classes:
        labels = manifest.videos[task.column].astype(str)
        classes = setup.data.task.classes
        other = labels[labels.isin(task.classes) & ~labels.isin(classes)]
        left = other.tolist()
        videos = manifest.videos.assign(**{task.column: labels}).drop(index=other.index)
        manifest = replace(manifest, videos=videos, tasks={**manifest.tasks, name: replace(task, classes=classes)})
    data = task_data(test, features.video_ids, name, manifest, None)
    if data.task.classes != setup.data.task.classes:
        absent = [name for name in setup.data.task.classes if name not in data.task.classes]
        raise InputError(f"No video of {test.path.name} is {' or '.join(absent)}: nothing to tell apart.")
    return data, _told(data.notes, left, "none was learnt from")


def _told(notes: Sequence[str], left: list[str], why: str) -> list[str]:
    """Return the notes, with one on videos of other classes in the place of one that calls them unlabelled."""
    if not left:
        return list(notes)
    kept = [note for note in notes if not note.startswith(f"{len(left)} of ")]
    return [*kept, f"{len(left)} videos of {', '.join(sorted(set(left)))} are left out: {why}."]


def _folds(learnt: TaskData, target: TaskData) -> pd.DataFrame:
    sizes = {
        f"{unit}s_{part}": len(set(data.videos[column].astype(str)) - {""})
        for part, data in (("train", learnt), ("test", target))
        for unit, column in (("patient", "patient"), ("video", "video_id"))
    }
    told = guesses(learnt, np.ones(len(learnt.targets), bool))
    return pd.DataFrame([{"fold": 0, **sizes, "patients_shared": 0, "groups_shared": 0, **told}])


def _shared(learnt: TaskData, target: TaskData) -> dict[str, int]:
    both = set(learnt.videos["patient"].astype(str)) & set(target.videos["patient"].astype(str)) - {""}
    groups = set(map(str, learnt.groups)) & set(map(str, target.groups))
    return {"patients": len(both), "groups": len(groups)}
