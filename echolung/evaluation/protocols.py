"""The protocols: who may choose a setting on what. docs/protocol.md states them in words and says why.

`nested` is the default: a setting is chosen inside each training part, and a test video is looked at once. `seed` does what
the published study did, best of everything on the fold it reports, and is called optimistic wherever its number shows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from echolung.cache import TokenStore
from echolung.datasets.manifest import Manifest, Task
from echolung.errors import InputError
from echolung.evaluation.data import TaskData, task_data
from echolung.evaluation.selection import Choice, Collector, choose
from echolung.evaluation.splits import Folds, Units, grouped_folds, holdout, inner_folds
from echolung.probes import PROBES, Features, Job, Probe, ProbeKind, Training, load_features
from echolung.probes.saved import softmax
from echolung.text import suggest

PROTOCOLS = ("nested", "seed", "split")

SEED_BATCH = 2
"""Videos a step in the published study."""

LONG = 15.0
"""Seconds from which a run says beforehand how long it will take."""


@dataclass(frozen=True)
class Result:
    """What an evaluation found.

    Attributes:
        predictions: one row a scored video: video_id, patient, source, fold, truth, then p_<class> or prediction.
        folds: one row a fold: patients and videos in train and test.
        chosen: for each fold the setting and epoch it predicts with.
        probe: fitted on everything by the same selection; None for the seed protocol, whose selection has no meaning there.
        task: what was asked.
        settings: how, fully resolved.
        notes: what the reader should know.
    """

    predictions: pd.DataFrame
    folds: pd.DataFrame
    chosen: list[dict[str, Any]]
    probe: Probe | None
    task: Task
    settings: dict[str, Any]
    notes: tuple[str, ...] = field(default=())

    @property
    def scores(self) -> np.ndarray:
        """Class probabilities [v, classes], or predicted numbers [v, 1]."""
        columns = [f"p_{name}" for name in self.task.classes] or ["prediction"]
        return self.predictions[columns].to_numpy(np.float64)


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
    features = load_features(store, pooled=kind.pooled)
    data = task_data(store, features.video_ids, task, manifest, group)
    if data.task.kind == "regression" and not kind.regression:
        raise InputError(
            f"The probe {probe} cannot learn numbers, and the task {data.name} is a regression; use linear."
        )
    if protocol not in PROTOCOLS:
        raise InputError(
            f"There is no protocol {protocol!r}; there are nested and seed.{suggest(protocol, list(PROTOCOLS))}"
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


# ---- nested ------------------------------------------------------------------------------------------------------------


def _nested(run: _Run, cv: int, settings: dict[str, Any]) -> Result:
    outer = grouped_folds(run.units, cv, run.training.seed)
    # The last part is everything: it chooses the setting of the probe that is saved.
    parts = [outer.train(fold) for fold in range(cv)] + [np.ones(len(run.data.targets), bool)]
    inner = [_inner_within(run, part, fold) for fold, part in enumerate(parts)]
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
    return _result(
        run, outer, range(cv), scores, choices[:cv], {**settings, "inner_folds": counts}, notes, (choices[-1], arrays)
    )


def _inner_within(run: _Run, part: np.ndarray, fold: int) -> Folds:
    """Return the inner folds of a part, over all videos; those outside the part are in none (-1)."""
    folds = inner_folds(run.units.part(part), run.training.seed + 1 + fold)
    of = np.full(len(part), -1)
    of[part] = folds.of
    return Folds(of, folds.count)


# ---- seed --------------------------------------------------------------------------------------------------------------


def _seed(run: _Run, cv: int, settings: dict[str, Any]) -> Result:
    if run.data.task.kind == "regression":
        raise InputError("The seed protocol chooses by accuracy and so needs classes; use --protocol nested.")
    folds, source = _published_folds(run, cv)
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
    return _result(run, folds, range(cv), scores, choices, settings, notes, None)


def _published_folds(run: _Run, cv: int) -> tuple[Folds, str]:
    videos = run.data.videos
    if cv == 5 and "published_fold" in videos and videos["published_fold"].notna().any():
        published = videos["published_fold"].to_numpy(np.float64)
        outside = int(np.isnan(published).sum())
        left_out = f" {outside} videos that the study did not have are left out." if outside else ""
        return Folds(np.nan_to_num(published, nan=-1).astype(np.int64), 5), f"Folds are the published ones.{left_out}"
    from sklearn.model_selection import StratifiedKFold

    of = np.empty(len(videos), np.int64)
    order = np.argsort(videos["video_id"].to_numpy(str), kind="stable")
    targets = run.units.strata[order]
    if np.bincount(targets)[np.unique(targets)].min() < cv:
        raise InputError(f"--cv {cv}: a class has fewer than {cv} videos. Use a smaller --cv.")
    for fold, (_, test) in enumerate(StratifiedKFold(cv, shuffle=True, random_state=42).split(targets, targets)):
        of[order[test]] = fold
    how = "Folds are by video, not by patient, as published for POCUS: StratifiedKFold with random_state 42."
    return Folds(of, cv), how


# ---- one split -----------------------------------------------------------------------------------------------------------


def _split(run: _Run, split: str, settings: dict[str, Any]) -> Result:
    if split == "official":
        folds = _official(run.data)
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
    return _result(run, only, [0], scores, [choice], {**settings, "split": split}, notes, (choice, arrays))


def _official(data: TaskData) -> Folds:
    if "split" not in data.videos:
        raise InputError("--split official needs a column `split` (train, val, test), and the dataset has none.")
    names = {"train": 0, "val": 1, "valid": 1, "validation": 1, "test": 2}
    words = data.videos["split"].astype(str).str.strip().str.lower()
    if unknown := sorted(set(words) - set(names)):
        raise InputError(
            f"The column `split` holds {', '.join(map(repr, unknown[:5]))}; it must say train, val or test."
        )
    of = words.map(names).to_numpy(np.int64)
    if absent := [name for name, part in (("train", 0), ("val", 1), ("test", 2)) if not (of == part).any()]:
        raise InputError(f"The column `split` names no video for {' and '.join(absent)}.")
    return Folds(of, 3)


# ---- common ------------------------------------------------------------------------------------------------------------


def _say_how_long(run: _Run, jobs: Sequence[Job], what: str, training: Training | None = None, times: int = 1) -> None:
    training = training or run.training
    seconds = times * run.kind.estimate(run.features, run.data.targets, run.data.outputs, jobs, training)
    if seconds > LONG:
        run.tell(f"{what}: about {seconds / 60:.1f} minutes on {training.device}.")


def _result(
    run: _Run,
    folds: Folds,
    order: Sequence[int],
    outputs: np.ndarray,
    choices: Sequence[Choice],
    settings: dict[str, Any],
    notes: Sequence[str],
    final: tuple[Choice, dict[str, np.ndarray]] | None,
) -> Result:
    data = run.data
    classes = data.task.classes
    scored = ~np.isnan(outputs[:, 0])
    scores = softmax(outputs[scored]) if classes else outputs[scored]
    truth = np.array(classes)[data.targets[scored]] if classes else data.targets[scored]
    predictions = data.videos.loc[scored, ["video_id", "patient", "source"]].reset_index(drop=True)
    columns = [f"p_{name}" for name in classes] or ["prediction"]
    predictions = predictions.assign(fold=folds.of[scored], truth=truth, **dict(zip(columns, scores.T, strict=True)))
    table = []
    for fold in order:
        test, train = folds.test(fold), folds.train(fold)
        shared = set(data.groups[test]) & set(data.groups[train])
        sizes = {
            f"{unit}s_{part}": len(set(data.videos[column][chosen]))
            for part, chosen in (("train", train), ("test", test))
            for unit, column in (("patient", "patient"), ("video", "video_id"))
        }
        table.append(
            {"fold": fold, **sizes, "groups_shared": len(shared), "patients_shared": _shared(data, train, test)}
        )
    chosen = [{**choice.setting, "epoch": choice.epoch} for choice in choices]
    probe = None
    if final is not None:
        about = {
            **settings,
            "setting": dict(final[0].setting),
            "epoch": final[0].epoch,
            "videos": len(data.targets),
        }
        probe = Probe(run.name, classes, final[1], about)
    return Result(predictions, pd.DataFrame(table), chosen, probe, data.task, settings, tuple(notes))


def _shared(data: TaskData, train: np.ndarray, test: np.ndarray) -> int:
    patients = data.videos["patient"].fillna("").astype(str).to_numpy()
    return len((set(patients[train]) & set(patients[test])) - {""})
