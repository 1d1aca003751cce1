"""What every protocol begins with: the labelled videos, their features, the kind of probe, and how it is trained."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from echolung.cache import TokenStore
from echolung.datasets.manifest import Manifest, Task
from echolung.device import probe_precision
from echolung.errors import InputError, RunError
from echolung.evaluation.data import TaskData, task_data
from echolung.evaluation.splits import Units
from echolung.probes import Features, Job, ProbeKind, Training, find_kind, load_features
from echolung.probes.jobs import Arrays, OnEpoch, Setting
from echolung.probes.objectives import CLASSIFICATION, REGRESSION

PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class Setup:
    """The videos of a task and how probes learn from them.

    Attributes:
        data: the labelled videos.
        features: their tokens, in the same order.
        kind: of probe.
        probe: its name.
        training: what all probes have in common.
        units: what folds divide.
        tell: is told what a long run is about to do.
        settings: all of it, fully resolved, for the record.
    """

    data: TaskData
    features: Features
    kind: ProbeKind
    probe: str
    training: Training
    units: Units
    tell: Callable[[str], None]
    settings: dict[str, Any]

    def fit(self, jobs: Sequence[Job], on_epoch: OnEpoch) -> list[Arrays | None]:
        """Train the jobs; return the arrays of those to be kept. RunError where a GPU has too little memory."""
        try:
            return self.kind.fit(self.features, self.data.targets, self.data.outputs, jobs, self.training, on_epoch)
        except torch.OutOfMemoryError as error:
            raise RunError(
                f"{self.training.device} has too little memory for this bank of probes. Lower --memory (more passes, each of "
                "fewer probes) or --batch."
            ) from error

    def say_how_long(self, rounds: Sequence[Sequence[Job]], what: str, times: float = 1) -> None:
        """Tell how long it takes to train some jobs, and then others, so many times."""
        about = (self.features, self.data.targets, self.data.outputs)
        seconds = times * sum(self.kind.estimate(*about, jobs, self.training) for jobs in rounds)
        time = f"{seconds / 60:.1f} minutes" if seconds > 90 else f"{max(1, round(seconds))} s"
        self.tell(f"{what}: about {time} on {self.training.device}, {self.training.precision}.")


def set_up(
    store: TokenStore,
    task: str | None,
    manifest: Manifest | None,
    *,
    probe: str,
    settings: Sequence[Setting],
    group: str | None,
    epochs: int | None,
    batch: int,
    seed: int,
    device: str,
    memory: float,
    precision: str,
    fusion: str,
    tell: Callable[[str], None],
) -> Setup:
    """Return the setup; the arguments are those of `cross_validate`, and `settings` all that will be trained.

    Raises:
        InputError: no such task, probe or group; a probe that cannot do the task; too little memory.
    """
    kind = find_kind(probe)
    _check(kind, probe, seed, fusion, precision)
    features = load_features(store, pooled=kind.pooled, fusion=fusion, memory=memory / 2, batch=batch)
    data = task_data(store, features.video_ids, task, manifest, group)
    if data.task.kind == "regression" and not kind.regression:
        raise InputError(
            f"The probe {probe} cannot learn numbers, and the task {data.name} is a regression; use linear."
        )
    _check_losses(data.task, settings)
    if device == "cpu" and any(setting.get("depth", 1) > 1 for setting in settings):
        tell("Self-attention over all tokens is not shared between probes: with --depth above 1 a GPU is advised.")
    if precision == "auto":
        precision = "float32" if kind.pooled else probe_precision(device)
    room = memory - (features.held.nbytes if features.in_memory else memory / 2)
    length = (epochs or kind.epochs) if kind.epochs > 1 else 1
    training = Training(length, batch, seed, device, room, precision)
    features, training = kind.prepare(features.select(data.rows), settings, training)
    training = replace(training, epochs=max([s.get("epochs", length) for s in settings], default=length))
    units = Units.of(data.targets, data.groups, data.level, data.task.classes)
    resolved = {
        "dataset": store.snapshot.dataset,
        "task": data.name,
        "probe": probe,
        "group": data.level,
        "epochs": training.epochs,
        "batch": batch,
        "seed": seed,
        "fusion": fusion,
        "precision": precision,
        "views": features.views,
        "device": device,
        "threads": torch.get_num_threads(),
    }
    return Setup(data, features, kind, probe, training, units, tell, resolved)


def _check_losses(task: Task, settings: Sequence[Setting]) -> None:
    fitting = CLASSIFICATION if task.classes else REGRESSION
    for setting in settings:
        loss = setting.get("loss", "auto")
        if loss not in ("auto", *fitting):
            what = "classes" if task.classes else "numbers"
            raise InputError(f"loss {loss} is not for a task of {what}, which has {', '.join(fitting)}.")
        if loss == "coral" and not task.ordinal and len(task.classes) > 2:
            raise InputError(
                f"loss coral is for classes that have an order, and none is known of {', '.join(task.classes)}. Where they "
                "have one, say so with --kind COLUMN=ordinal."
            )


def _check(kind: ProbeKind, probe: str, seed: int, fusion: str, precision: str) -> None:
    if not 0 <= seed < 2**31:
        raise InputError(f"--seed {seed} must be from 0 to {2**31 - 1}.")
    if fusion not in ("early", "late"):
        raise InputError(f"--fusion {fusion!r} must be early or late.")
    if fusion == "late" and kind.epochs == 1:
        raise InputError(f"--fusion late is for probes that learn by gradient descent, and {probe} does not.")
    if precision not in PRECISIONS:
        raise InputError(f"--precision {precision!r} must be one of {', '.join(PRECISIONS)}.")
