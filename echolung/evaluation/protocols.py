"""The protocols: who may choose a setting on what. docs/protocol.md states them in words and says why.

`nested` is the default: a setting is chosen inside each training part, and a test video is looked at once. `seed` does what
the published study did, best of everything on the fold it reports, and is called optimistic wherever its number shows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from echolung.cache import TokenStore
from echolung.datasets.manifest import Manifest
from echolung.errors import InputError
from echolung.evaluation.data import TaskData, task_data
from echolung.evaluation.given import official_split, published_folds
from echolung.evaluation.result import Result, build_result, kept_together
from echolung.evaluation.selection import Choice, Collector, choose
from echolung.evaluation.splits import Folds, Units, holdout, nested_folds
from echolung.probes import PROBES, Features, Job, ProbeKind, Training, load_features
from echolung.text import suggest

PROTOCOLS = ("nested", "seed")

SEED_BATCH = 2
"""Videos a step in the published study."""

LONG = 15.0
"""Seconds from which a run says beforehand how long it will take."""


@dataclass(frozen=True)
class _Run:
    """What every protocol needs: the videos, their features, the kind of probe, how it is trained."""

    data: TaskData
    features: Features
    kind: ProbeKind
    name: str
    training: Training
    units: Units
    tell: Callable[[str], None]

    def fit(self, jobs: Sequence[Job], training: Training, collector: Callable[..., None]) -> list[Any]:
        return self.kind.fit(self.features, self.data.targets, self.data.outputs, jobs, training, collector)


def cross_validate(
    store: TokenStore,
    task: str | None = None,
    manifest: Manifest | None = None,
    *,
    probe: str = "linear",
    cv: int = 5,
    protocol: str = "nested",
    split: str | None = None,
    group: str | None = None,
    epochs: int | None = None,
    batch: int = 16,
    seed: int = 0,
    device: str = "cpu",
    memory: float = 4e9,
    tell: Callable[[str], None] = lambda text: None,
) -> Result:
    """Return out-of-fold predictions of a task by probes trained on a store.

    Args:
        store: the tokens.
        task: name of the task; None: the dataset's first.
        manifest: another table for the same videos, such as one with new labels; None: the store's own.
        probe: a name in `PROBES`.
        cv: number of outer folds.
        protocol: "nested" or "seed".
        split: instead of folds one division: "60/20/20" (train/validation/test, per cent) or "official" (the dataset's own).
        group: "patient", "source" or "video": what folds keep together; None: patients where known.
        epochs: length of training; None: the kind's.
        batch: videos a step (the seed protocol has its own, 2).
        seed: of folds, initial parameters and batches.
        device: where probes are trained.
        memory: bytes that one bank of probes may take.
        tell: is told what a long run is about to do.

    Raises:
        InputError: no such task, probe, protocol or group; more folds than patients; a probe that cannot do the task.
    """
    kind = _kind(probe)
    _check(protocol, split, group, seed)
    given = protocol == "seed" or split == "official"
    features = load_features(store, pooled=kind.pooled)
    data = task_data(store, features.video_ids, task, manifest, "video" if given else group)
    if data.task.kind == "regression" and not kind.regression:
        raise InputError(
            f"The probe {probe} cannot learn numbers, and the task {data.name} is a regression; use linear."
        )
    features = features.select(data.rows)
    training = Training((epochs or kind.epochs) if kind.epochs > 1 else 1, batch, seed, device, memory)
    units = Units.of(data.targets, data.groups, data.level, data.task.classes)
    run = _Run(data, features, kind, probe, training, units, tell)
    settings = {
        "dataset": store.snapshot.dataset,
        "task": data.name,
        "probe": probe,
        "protocol": "split" if split else protocol,
        "group": data.level,
        "grid": [dict(setting) for setting in kind.settings],
        "epochs": training.epochs,
        "batch": training.batch,
        "seed": seed,
        "views": features.views,
        "device": device,
        "threads": torch.get_num_threads(),
    }
    if split:
        return _split(run, split, settings)
    if protocol == "seed":
        return _seed(
            run, cv, {**settings, "folds": cv, "batch": SEED_BATCH, "grid": [dict(s) for s in kind.seed_settings]}
        )
    return _nested(run, cv, {**settings, "folds": cv})


def _kind(probe: str) -> ProbeKind:
    if probe not in PROBES:
        raise InputError(f"There is no probe {probe!r}; there are {', '.join(PROBES)}.{suggest(probe, list(PROBES))}")
    return PROBES[probe]


def _check(protocol: str, split: str | None, group: str | None, seed: int) -> None:
    if protocol not in PROTOCOLS:
        raise InputError(
            f"There is no protocol {protocol!r}; there are nested and seed.{suggest(protocol, list(PROTOCOLS))}"
        )
    if split and protocol == "seed":
        raise InputError("--split does not go with --protocol seed, which has the published folds.")
    if group and (protocol == "seed" or split == "official"):
        raise InputError(f"--group {group} does not go with folds that are given: leave out --group.")
    if seed < 0:
        raise InputError(f"--seed {seed} must not be negative.")


# ---- nested ------------------------------------------------------------------------------------------------------------


def _nested(run: _Run, cv: int, settings: dict[str, Any]) -> Result:
    # The last inner folds are of everything: they choose the setting of the probe that is saved.
    outer, inner = nested_folds(run.units, cv, run.training.seed)
    parts = [folds.of >= 0 for folds in inner]
    jobs, owners = [], []
    for part, folds in enumerate(inner):
        for fold in range(folds.count):
            for setting in run.kind.settings:
                jobs.append(Job(setting, folds.train(fold)))
                owners.append((part, folds.test(fold)))
    _say_how_long(run, jobs, f"{len(jobs)} probes to choose from, {cv + 1} to keep")
    collector = Collector(run.data, owners, len(run.kind.settings), run.training.epochs, len(parts))
    run.fit(jobs, run.training, collector.on_epoch)
    choices = [choose(losses, run.kind.settings) for losses in collector.losses]
    finals = [Job(c.setting, part, keep=c.epoch) for c, part in zip(choices, parts, strict=True)]
    scores = np.full((len(run.data.targets), run.data.outputs), np.nan)

    def keep(epoch: int, indices: Sequence[int], outputs: np.ndarray) -> None:
        for i, output in zip(indices, outputs, strict=True):
            if i < cv and epoch == choices[i].epoch:
                scores[outer.test(i)] = output[outer.test(i)]

    arrays = run.fit(finals, run.training, keep)[-1]
    counts = sorted({folds.count for folds in inner})
    notes = list(run.data.notes)
    if counts != [4]:
        notes.append(
            f"Settings are chosen on {' or '.join(map(str, counts))} inner folds: 4 cannot be made everywhere."
        )
    return build_result(
        run.data,
        run.name,
        outer,
        range(cv),
        scores,
        choices[:cv],
        {**settings, "inner_folds": counts},
        notes,
        (choices[-1], arrays),
    )


# ---- seed --------------------------------------------------------------------------------------------------------------


def _seed(run: _Run, cv: int, settings: dict[str, Any]) -> Result:
    if run.data.task.kind == "regression":
        raise InputError("The seed protocol chooses by accuracy and so needs classes; use --protocol nested.")
    folds, source = published_folds(run.units, run.data.videos, cv)
    training = Training(run.training.epochs, SEED_BATCH, run.training.seed, run.training.device, run.training.memory)
    scores = np.full((len(run.data.targets), run.data.outputs), np.nan)
    choices = []
    _say_how_long(run, [Job(s, folds.train(0)) for s in run.kind.seed_settings], f"{cv} folds", training, cv)
    for fold in range(cv):
        test = folds.test(fold)
        best: dict[str, Any] = {"accuracy": -1.0}

        def look(
            epoch: int,
            indices: Sequence[int],
            outputs: np.ndarray,
            best: dict[str, Any] = best,
            test: np.ndarray = test,
        ) -> None:
            for i, output in zip(indices, outputs, strict=True):
                accuracy = float((output[test].argmax(-1) == run.data.targets[test]).mean())
                if accuracy > best["accuracy"]:
                    best.update(accuracy=accuracy, choice=Choice(run.kind.seed_settings[i], epoch), output=output[test])

        run.fit([Job(setting, folds.train(fold)) for setting in run.kind.seed_settings], training, look)
        scores[test] = best["output"]
        choices.append(best["choice"])
    looks = len(run.kind.seed_settings) * training.epochs
    notes = [
        *run.data.notes,
        f"Optimistic: each fold reports the best of {looks} looks ({len(run.kind.seed_settings)} settings × "
        f"{training.epochs} epochs) at the very videos it is scored on, as the published study did.",
        source,
        "The published training augmentation cannot be cached; random --views at extraction come near it.",
    ]
    settings = {**settings, "group": kept_together(run.data, folds, range(cv))}
    return build_result(run.data, run.name, folds, range(cv), scores, choices, settings, notes, None)


# ---- one split -----------------------------------------------------------------------------------------------------------


def _split(run: _Run, split: str, settings: dict[str, Any]) -> Result:
    if split == "official":
        folds = official_split(run.units, run.data.videos)
    else:
        try:
            shares = tuple(int(part) for part in split.split("/"))
        except ValueError as error:
            raise InputError(f"--split {split!r} is neither 'official' nor shares such as 60/20/20.") from error
        folds = holdout(run.units, shares, run.training.seed)
    train, validation, test = (folds.of == part for part in range(3))
    jobs = [Job(setting, train) for setting in run.kind.settings]
    _say_how_long(run, jobs, f"{len(jobs)} probes")
    collector = Collector(run.data, [(0, validation)] * len(jobs), len(jobs), run.training.epochs, 1)
    run.fit(jobs, run.training, collector.on_epoch)
    choice = choose(collector.losses[0], run.kind.settings)
    scores = np.full((len(run.data.targets), run.data.outputs), np.nan)

    def keep(epoch: int, indices: Sequence[int], outputs: np.ndarray) -> None:
        if epoch == choice.epoch:
            scores[test] = outputs[0][test]

    arrays = run.fit([Job(choice.setting, train, keep=choice.epoch)], run.training, keep)[0]
    notes = [*run.data.notes, f"Setting and epoch chosen on {validation.sum()} validation videos; test scored once."]
    only = Folds(np.where(test, 0, np.where(train, 1, -1)), 1)
    settings = {**settings, "split": split}
    if split == "official":
        settings["group"] = kept_together(run.data, folds, range(3))
    final = (choice, arrays)
    return build_result(run.data, run.name, only, [0], scores, [choice], settings, notes, final, chosen_on=validation)


def _say_how_long(run: _Run, jobs: Sequence[Job], what: str, training: Training | None = None, times: int = 1) -> None:
    training = training or run.training
    seconds = times * run.kind.estimate(run.features, run.data.targets, run.data.outputs, jobs, training)
    if seconds > LONG:
        run.tell(f"{what}: about {seconds / 60:.1f} minutes on {training.device}.")
