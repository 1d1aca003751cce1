"""What an evaluation found: every scored video once, how the folds were made up, the fitted probe."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from echolung.datasets.manifest import Task
from echolung.errors import RunError
from echolung.evaluation.data import TaskData
from echolung.evaluation.selection import Choice
from echolung.evaluation.splits import Folds
from echolung.probes import Probe
from echolung.probes.jobs import Arrays
from echolung.probes.saved import softmax


@dataclass(frozen=True)
class Result:
    """What an evaluation found.

    Attributes:
        predictions: one row a scored video: video_id, patient, source (and visit, where the dataset knows visits), fold, truth,
            then p_<class> or prediction.
        folds: one row a fold: patients and videos in train and test, and what guessing from the training part predicts (the
            share of each class, or the mean; of numbers also `median`).
        chosen: for each fold the setting and epoch it predicts with.
        probe: fitted on everything by the same selection; None for the seed protocol, whose selection has no meaning there.
        task: what was asked.
        settings: how, fully resolved.
        notes: what the reader should know.
        shared: how many "patients", and how many "groups" (what folds keep together), are in a test part and also in what
            its probe was trained or chosen on; each counted once.
        inner: held-out predictions of the inner folds by the chosen setting at the chosen epoch, one row a part and video:
            part (the outer fold whose training part it is; -1: everything), video_id, truth, then as in `predictions`.
        train: what each outer fold's probe says of the very videos that it was trained on, columns as in `inner`: how well it
            fits, and nothing of how well it does.
        curves: one row a part, setting (its place in the grid) and epoch: held-out loss, and accuracy (NaN of numbers). Of the
            inner folds; of the seed protocol, of the very fold that is reported.
        looks: what the best of all looks at the scored fold itself would have been, one row an outer fold: fold, metric,
            honest, best, setting, epoch, looks (how many).
        temperatures: one a fold: what its logits are divided by to be calibrated, fitted on `inner`; empty of numbers.
    """

    predictions: pd.DataFrame
    folds: pd.DataFrame
    chosen: list[dict[str, Any]]
    probe: Probe | None
    task: Task
    settings: dict[str, Any]
    notes: tuple[str, ...] = field(default=())
    shared: dict[str, int] = field(default_factory=dict)
    inner: pd.DataFrame | None = None
    train: pd.DataFrame | None = None
    curves: pd.DataFrame | None = None
    looks: pd.DataFrame | None = None
    temperatures: tuple[float, ...] = ()

    @property
    def scores(self) -> np.ndarray:
        """Class probabilities [v, classes], or predicted numbers [v, 1]."""
        return self.predictions[score_columns(self.task)].to_numpy(np.float64)


def score_columns(task: Task) -> list[str]:
    """Return the columns that hold predictions: p_<class> of every class, or `prediction`."""
    return [f"p_{name}" for name in task.classes] or ["prediction"]


OPTIMISTIC = ("seed", "flat")
"""Protocols that choose on the videos that they score."""


def is_optimistic(settings: dict[str, Any]) -> bool:
    """Whether a result must be called optimistic wherever its number shows."""
    return settings["protocol"] in OPTIMISTIC


def build_result(
    data: TaskData,
    folds: Folds,
    order: Sequence[int],
    outputs: np.ndarray,
    choices: Sequence[Choice],
    settings: dict[str, Any],
    notes: Sequence[str],
    final: tuple[Choice, Arrays | None] | None,
    chosen_on: np.ndarray | None = None,
) -> Result:
    """Put a result together.

    Args:
        data: the labelled videos.
        folds: which fold scores each video.
        order: the folds that score.
        outputs: [v, c] logits (or numbers) of the probe that scores each video.
        choices: of each fold.
        settings: how it was done.
        notes: for the reader.
        final: setting and numbers of the probe to keep.
        chosen_on: [v] videos that a setting was chosen on beside the training part: as much seen as those.

    Raises:
        RunError: an output is not a finite number.
    """
    scored = np.isin(folds.of, order)
    if not np.isfinite(outputs[scored]).all():
        raise RunError(
            f"The {settings['probe']} probe gave outputs that are not finite: its training diverged. Check the labels for "
            "extreme values, or use another probe."
        )
    predictions = prediction_table(data, scored, folds.of, outputs)
    table, shared = [], {"patients": set[str](), "groups": set[str]()}
    level = "video_id" if settings["group"] == "video" else settings["group"]
    for fold in order:
        test, train = folds.test(fold), folds.train(fold)
        seen = train if chosen_on is None else train | chosen_on
        both = {
            "patients": _names(data, "patient", test) & _names(data, "patient", seen),
            "groups": _names(data, level, test) & _names(data, level, seen),
        }
        for unit, names in both.items():
            shared[unit] |= names
        sizes = {
            f"{unit}s_{part}": len(_names(data, column, chosen))
            for part, chosen in (("train", train), ("test", test))
            for unit, column in (("patient", "patient"), ("video", "video_id"))
        }
        counts = {f"{unit}_shared": len(names) for unit, names in both.items()}
        table.append({"fold": fold, **sizes, **counts, **guesses(data, train)})
    chosen = [{**choice.setting, "epoch": choice.epoch} for choice in choices]
    fitted = None
    if final is not None and final[1] is not None:
        learnt = int(folds.train(order[0]).sum()) if "split" in settings else len(data.targets)
        fitted = saved_probe(data, final[0], final[1], settings, learnt)
    in_all = {unit: len(names) for unit, names in shared.items()}
    return Result(predictions, pd.DataFrame(table), chosen, fitted, data.task, settings, tuple(notes), in_all)


def prediction_table(data: TaskData, scored: np.ndarray, folds: np.ndarray, outputs: np.ndarray) -> pd.DataFrame:
    """Return `Result.predictions` of the videos `scored` [v], from logits (or numbers) [v, c] and the fold of each video."""
    classes = data.task.classes
    scores = softmax(outputs[scored]) if classes else outputs[scored].astype(np.float32)
    truth = np.array(classes)[data.targets[scored]] if classes else data.targets[scored]
    known = ["video_id", "patient", "source", *(["visit"] if "visit" in data.videos else [])]
    table = data.videos.loc[scored, known].reset_index(drop=True)
    if "visit" in table:
        table["visit"] = table["visit"].fillna("").astype(str)
    columns: dict[str, Any] = dict(zip(score_columns(data.task), scores.T, strict=True))
    return table.assign(fold=folds[scored], truth=truth, **columns)


def saved_probe(data: TaskData, choice: Choice, arrays: Arrays, settings: dict[str, Any], videos: int) -> Probe:
    """Return the probe that is kept, with what it was fitted on and how."""
    about = {**settings, "setting": dict(choice.setting), "epoch": choice.epoch, "videos": videos}
    return Probe(settings["probe"], data.task.classes, arrays, about)


def _names(data: TaskData, column: str, chosen: np.ndarray) -> set[str]:
    """Return the known patients (sources, videos) of some videos."""
    return set(data.videos[column][chosen].fillna("").astype(str)) - {""}


def kept_together(data: TaskData, folds: Folds, order: Sequence[int]) -> str:
    """Return what folds that were not made here keep together: patients, or only videos."""
    patients = [_names(data, "patient", folds.test(fold)) for fold in order]
    unknown = (data.videos["patient"].fillna("").astype(str) == "").any()
    return "video" if unknown or sum(map(len, patients)) > len(set.union(*patients)) else "patient"


def guesses(data: TaskData, train: np.ndarray) -> dict[str, list[float]]:
    """Return the `guess` (of numbers also the `median`) of whoever only knows the labels of the training part."""
    known = data.targets[train]
    if not data.task.classes:
        return {"guess": [float(known.mean())], "median": [float(np.median(known))]}
    return {"guess": (np.bincount(known, minlength=data.outputs) / train.sum()).tolist()}
