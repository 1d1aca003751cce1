"""How good an encoder and its head are on the validation videos: always the same clips of each, their predictions averaged."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from echolung.clips.plan import ClipPlan
from echolung.clips.workers import prepare_video, run_in_workers
from echolung.datasets import Manifest
from echolung.errors import DecodeError, RunError
from echolung.pretraining.labelled.labels import Labels
from echolung.pretraining.labelled.learner import LabelledLearner
from echolung.pretraining.labelled.recipe import LabelledRecipe
from echolung.text import in_bytes, listed

MEMORY = 2e9
"""Bytes that decoded clips are kept in between two looks; more are decoded anew at each."""

BATCH = 16


def clip_plan(recipe: LabelledRecipe) -> ClipPlan:
    """Return the windows that a recipe's encoder was trained on, as `echolung extract` cuts them.

    Fixed clips a video: the recipe's for validation, or one where clips begin with the video.
    """
    plan, first = recipe.clips, recipe.clips.window == "first"
    return ClipPlan(
        segments=1 if first else recipe.run.validation_clips,
        frames=plan.frames,
        stride=plan.stride,
        fps=plan.fps or None,
        size=plan.size,
        crop="whole",
        pad=plan.pad,
        window="first" if first else "even",
    )


@dataclass
class Validation:
    """Scores a learner on labelled videos that it does not learn from.

    Attributes:
        manifest: the videos.
        truth: their labels.
        clips: their windows.
        decoder: as `echolung.clips.decode` has it.
        workers: decoding processes; None: one a core.
        time_limit: seconds that decoding one video may take.
        tell: is told what could not be read.
    """

    manifest: Manifest
    truth: Labels
    clips: ClipPlan
    decoder: str = "auto"
    workers: int | None = None
    time_limit: float = 120.0
    tell: Callable[[str], None] = lambda text: None
    kept: dict[str, UInt8[np.ndarray, "clips t s s 3"]] = field(default_factory=dict)
    told: bool = False

    def __call__(self, learner: LabelledLearner) -> dict[str, float]:
        """Return the metrics by name, and as "score" what the best has most of: −MAE, or AUROC.

        Raises:
            RunError: not one video can be read.
        """
        outputs, truth = [], []
        for video, clips in self._clips():
            parts = [learner.predict(clips[at : at + BATCH]) for at in range(0, len(clips), BATCH)]
            outputs.append(np.concatenate(parts).mean(0))
            truth.append(self.truth.values[f"{self.manifest.name}/{video}"])
        return score(np.stack(outputs).astype(np.float64), np.array(truth), self.truth.classes)

    def _clips(self) -> Any:
        """Yield (video, clips), from memory where they are kept."""
        if self.kept:
            yield from self.kept.items()
            return
        videos = self.manifest.videos["video_id"].astype(str).tolist()
        rows = dict(zip(videos, range(len(videos)), strict=True))
        size = self.clips.clips * self.clips.frames * self.clips.size**2 * 3
        keep = len(videos) * size <= MEMORY
        if not keep and not self.told:
            self.tell(f"The validation clips take {in_bytes(len(videos) * size)}: they are decoded anew at each look.")

        def arguments(video: str) -> tuple[Any, ...]:
            row = rows[video]
            return self.manifest.file(row), video, self.clips, self.decoder, self.manifest.span(row)

        broken, read = {}, {}
        for video, result in run_in_workers(prepare_video, videos, arguments, self.workers, self.time_limit):
            if isinstance(result, DecodeError):
                broken[video] = str(result)
                continue
            if keep:
                read[video] = result.clips
            yield video, result.clips
        if len(broken) == len(videos):
            raise RunError(f"Not one validation video of {self.manifest.name} can be read ({broken[videos[0]]}).")
        if broken and not self.told:
            self.tell(f"Validation goes without {len(broken)} videos that cannot be read: {listed(broken, 5)}.")
        self.kept, self.told = read, True


def score(
    outputs: Float[np.ndarray, "v c"], truth: Float[np.ndarray, " v"], classes: tuple[str, ...]
) -> dict[str, float]:
    """Return MAE and RMSE of numbers, or AUROC (macro, one against the rest) and balanced accuracy; and again as "score"."""
    if not classes:
        error = outputs[:, 0] - truth
        mae = float(np.abs(error).mean())
        return {"mae": mae, "rmse": float(np.sqrt((error**2).mean())), "score": -mae}
    from sklearn.metrics import roc_auc_score

    called, seen = outputs.argmax(1), np.unique(truth).astype(int)
    balanced = float(np.mean([(called[truth == place] == place).mean() for place in seen]))
    chances = np.exp(outputs - outputs.max(1, keepdims=True))
    chances /= chances.sum(1, keepdims=True)
    areas = [roc_auc_score(truth == place, chances[:, place]) for place in seen] if len(seen) > 1 else [np.nan]
    return {"auroc": float(np.mean(areas)), "balanced_accuracy": balanced, "score": float(np.mean(areas))}
