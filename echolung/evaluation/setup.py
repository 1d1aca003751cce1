"""What every protocol begins with: the labelled videos, their features, the kind of probe, and how it is trained."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from echolung.cache import TokenStore
from echolung.datasets.manifest import Task
from echolung.device import probe_precision
from echolung.errors import InputError, RunError
from echolung.evaluation.data import TaskData, task_data
from echolung.evaluation.question import Question
from echolung.evaluation.splits import Units
from echolung.evaluation.starting import check_start
from echolung.probes import Features, Job, ProbeKind, Training, find_kind, load_features
from echolung.probes.jobs import Arrays, OnEpoch, Setting
from echolung.probes.objectives import CLASSIFICATION, REGRESSION

PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class Setup:
    """The videos of a task and how probes learn from them.

    Attributes:
        store: where the tokens are.
        question: what was asked.
        data: the labelled videos.
        features: their tokens, in the same order.
        kind: of probe.
        training: what all probes have in common.
        units: what folds divide.
        settings: all of it, fully resolved, for the record.
    """

    store: TokenStore
    question: Question
    data: TaskData
    features: Features
    kind: ProbeKind
    training: Training
    units: Units
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
        self.question.tell(f"{what}: about {time} on {self.training.device}, {self.training.precision}.")


def set_up(store: TokenStore, question: Question, settings: Sequence[Setting]) -> Setup:
    """Return the setup for a question; `settings` are all that will be trained.

    Raises:
        InputError: no such task, probe or group; a probe that cannot do the task; too little memory.
    """
    kind, probe = find_kind(question.probe), question.probe
    _check(kind, question)
    memory, batch = question.memory, question.batch
    features = load_features(store, pooled=kind.pooled, fusion=question.fusion, memory=memory / 2, batch=batch)
    data = task_data(store, features.video_ids, question.task, question.manifest, question.group)
    if data.task.kind == "regression" and not kind.regression:
        raise InputError(
            f"The probe {probe} cannot learn numbers, and the task {data.name} is a regression; use linear."
        )
    _check_losses(data.task, settings)
    if question.start is not None:
        data = replace(data, notes=(*data.notes, *check_start(question.start, store, question, data, features.dim)))
    if question.device == "cpu" and any(setting.get("depth", 1) > 1 for setting in settings):
        question.tell(
            "Self-attention over all tokens is not shared between probes: with --depth above 1 a GPU is advised."
        )
    precision = question.precision
    if precision == "auto":
        precision = "float32" if kind.pooled else probe_precision(question.device)
    room = memory - (features.held.nbytes if features.in_memory else memory / 2)
    length = (question.epochs or kind.epochs) if kind.epochs > 1 else 1
    start = None if question.start is None else question.start.probe.arrays
    training = Training(length, batch, question.seed, question.device, room, precision, start=start)
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
        "seed": question.seed,
        "fusion": question.fusion,
        "precision": precision,
        "views": features.views,
        "device": question.device,
        "threads": torch.get_num_threads(),
        "hyper": dict(question.hyper),
    }
    if question.start is not None:
        resolved["start"] = question.start.to_json()
    return Setup(store, question, data, features, kind, training, units, resolved)


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


def _check(kind: ProbeKind, question: Question) -> None:
    if not 0 <= question.seed < 2**31:
        raise InputError(f"--seed {question.seed} must be from 0 to {2**31 - 1}.")
    if question.fusion not in ("early", "late"):
        raise InputError(f"--fusion {question.fusion!r} must be early or late.")
    if question.fusion == "late" and kind.epochs == 1:
        raise InputError(f"--fusion late is for probes that learn by gradient descent, and {question.probe} does not.")
    if question.precision not in PRECISIONS:
        raise InputError(f"--precision {question.precision!r} must be one of {', '.join(PRECISIONS)}.")
