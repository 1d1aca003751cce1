"""A store and a question -> a fine-tuning's result, comparable with a probe's fold by fold, and the encoder it ends with."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from echolung.cache import TokenStore
from echolung.datasets import Manifest
from echolung.device import default_precision, pick_device
from echolung.encoders.checkpoints import save_encoder
from echolung.errors import InputError
from echolung.evaluation.data import TaskData, task_data
from echolung.evaluation.result import Result
from echolung.evaluation.splits import Units
from echolung.finetuning.cut import cut_encoder
from echolung.finetuning.inputs import Inputs
from echolung.finetuning.kept import Folder
from echolung.finetuning.protocol import Division, Watch, divide_folds, divide_once, evaluate, result_of, tune
from echolung.finetuning.source import Source, model_of, read_clips
from echolung.finetuning.tuner import Problem
from echolung.finetuning.tuning import HEADS, Tuning
from echolung.probes import Probe, load_features
from echolung.settings import make_folder

PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class Asked:
    """What is asked of the videos, as of a probe.

    Attributes:
        task: name of the task; None: the dataset's first.
        manifest: another table for the same videos; None: the store's own.
        cv: number of outer folds.
        group: "patient", "source" or "video"; None: patients where known.
        split: instead of folds "official" or shares such as "60/20/20".
        seed: of the folds.
    """

    task: str | None = None
    manifest: Manifest | None = None
    cv: int = 5
    group: str | None = None
    split: str | None = None
    seed: int = 0


@dataclass(frozen=True)
class Machine:
    """What it is computed on.

    Attributes:
        device: "auto", "cpu", "cuda", …
        precision: "auto" (bfloat16 where a GPU has it), "float32" or "bfloat16".
        memory: bytes that frames and outputs of frozen stages may take; beyond, frames are kept on disk, outputs computed anew.
        workers: decoding processes; None: one a core.
        watch: is told what happens.
    """

    device: str = "auto"
    precision: str = "auto"
    memory: int | float = 4e9
    workers: int | None = None
    watch: Watch = field(default_factory=Watch)


@dataclass(frozen=True, eq=False)
class Session:
    """A question made ready: everything that learning needs.

    Attributes:
        problem: what is learnt by what.
        division: the folds.
        folder: where folds that are done are kept.
        settings: all of it, for the record.
        watch: is told what happens.
    """

    problem: Problem
    division: Division
    folder: Folder
    settings: dict[str, Any]
    watch: Watch

    def evaluate(self) -> Result:
        """Fine-tune for every fold and return the result."""
        return result_of(
            self.problem, self.division, evaluate(self.problem, self.division, self.folder, self.watch), self.settings
        )

    def keep(self, path: Path) -> None:
        """Fine-tune once on everything (of one split: on its training part), and save encoder and head.

        Args:
            path: of the encoder, .safetensors; its head goes into the folder NAME.head beside it.
        """
        part, tuning = self.division.everything, self.problem.tuning
        self.watch.start(0, tuning.epochs * (len(tuning.grid()) + part.refit))
        tuned, tuner = tune(self.problem, part, self.watch.advance)
        learnt = int((part.learn | part.choose).sum() if part.refit else part.learn.sum())
        about = {
            **self.settings,
            "setting": {**HEADS[tuning.head][1], "lr": tuning.head_lr, "loss": tuning.loss},
            "encoder_lr": tuned.choice.setting["lr"],
            "epoch": tuned.choice.epoch,
            "videos": learnt,
        }
        make_folder(path.parent)
        save_encoder(path, self.problem.cut.model)
        probe = Probe(tuning.head, self.problem.data.task.classes, tuner.arrays(), about)
        probe.save(make_folder(path.with_suffix(".head")))


def prepare(source: Source, asked: Asked, tuning: Tuning, machine: Machine) -> Session:
    """Return everything that learning needs: folds are made, the encoder loaded, videos decoded, frozen stages computed.

    Raises:
        InputError: no such task, folds, stages or device; videos or weights that are not those of the store.
    """
    if machine.precision not in PRECISIONS:
        raise InputError(f"--precision {machine.precision!r} must be one of {', '.join(PRECISIONS)}.")
    tuning, tell = tuning.resolved(), machine.watch.tell
    data = _task_data(source.store, asked)
    units = Units.of(data.targets, data.groups, data.level, data.task.classes)
    if asked.split:
        division = divide_once(units, data.videos, asked.split, asked.seed)
    else:
        division = divide_folds(units, asked.cv, asked.seed)
    device = pick_device(machine.device)
    model, loaded = model_of(source, tuning.seed if tuning.from_scratch else None)
    tell(loaded)
    if tuning.dropout is not None:
        from echolung.encoders.dropout import set_dropout

        set_dropout(model, tuning.dropout)
    precision = default_precision(str(device)) if machine.precision == "auto" else machine.precision
    cut = cut_encoder(model.to(device), tuning.unfreeze, precision)
    settings = _settings(source, data, asked, tuning, precision, str(device))
    folder = Folder(
        {**settings, "store_key": source.store.key, "targets": data.targets.tolist(), "about": division.about}
    )
    clips = _clips(source, data, tuning, machine, folder)
    inputs = Inputs(cut, clips)
    tell(_about(inputs, inputs.keep(machine.memory - _held(clips))))
    return Session(Problem(data, inputs, tuning), division, folder, settings, machine.watch)


def _task_data(store: TokenStore, asked: Asked) -> TaskData:
    """Return the labelled videos, in the order in which a probe has them: its folds depend on it."""
    names = load_features(store, pooled=True).video_ids
    group = "video" if asked.split == "official" else asked.group
    return task_data(store, names, asked.task, asked.manifest, group)


def _settings(
    source: Source, data: TaskData, asked: Asked, tuning: Tuning, precision: str, device: str
) -> dict[str, Any]:
    """Return what the record says of how it was done."""
    told = ("unfreeze", "from_scratch", "lr", "views", "epochs", "batch", "seed")  # under names that probes have, too
    own = {name: value for name, value in asdict(tuning).items() if name not in told}
    return {
        "dataset": source.store.snapshot.dataset,
        "task": data.name,
        "probe": tuning.name,
        "group": data.level,
        "seed": asked.seed,
        "fusion": "early",
        "precision": precision,
        "views": 1 + (source.store.key["clips"].get("views", 0) if tuning.views else 0),
        "device": device,
        "threads": torch.get_num_threads(),
        "epochs": tuning.epochs,
        "batch": tuning.batch,
        "hyper": {"unfreeze": tuning.unfreeze},
        "tuning": {**own, "seed": tuning.seed},
        "grid": list(tuning.grid()),
    }


def _clips(source: Source, data: TaskData, tuning: Tuning, machine: Machine, folder: Folder) -> np.ndarray:
    def place(shape: tuple[int, ...]) -> np.ndarray:
        fits = np.prod(shape, dtype=np.float64) <= machine.memory / 2
        return np.empty(shape, np.uint8) if fits else folder.place(shape)

    return read_clips(
        source, data, views=tuning.views, place=place, workers=machine.workers, decoded=machine.watch.decoded
    )


def _held(clips: np.ndarray) -> int:
    return 0 if isinstance(clips, np.memmap) else clips.nbytes


def _about(inputs: Inputs, kept: bool) -> str:
    """Return a sentence on what learns, and what was computed once."""
    cut = inputs.cut
    count = sum(p.numel() for p in cut.model.parameters() if p.requires_grad)
    learns = ", ".join(stage.name for stage in cut.learnt) if len(cut.learnt) < 4 else f"{len(cut.learnt)} stages"
    if not cut.learnt:
        return "No stage learns, only the head: mean tokens were computed once."
    told = f"{learns} learn ({count:,} parameters)."
    if not cut.frozen:
        return told
    below = f"The {len(cut.frozen)} stages below"
    return (
        f"{told} {below} were computed once."
        if kept
        else f"{told} {below} do not fit into --memory: computed each time."
    )
