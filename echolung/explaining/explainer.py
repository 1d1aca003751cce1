"""Videos -> clips -> maps of where the answer comes from, with the ventricle's outlines where they are traced."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from echolung.clips.plan import ClipPlan
from echolung.clips.workers import PreparedVideo, prepare_video
from echolung.datasets.manifest import Manifest, Task
from echolung.datasets.tracings import Outline, phases
from echolung.encoders.preprocess import normalise
from echolung.errors import DecodeError, InputError
from echolung.explaining.attention import attention_map
from echolung.explaining.grad_cam import grad_cam
from echolung.explaining.halfway import LAST, Halfway
from echolung.explaining.head import SavedHead
from echolung.explaining.upsample import upsample
from echolung.explaining.ventricle import place_outline, share_inside, start_for, traced_frames

METHODS = ("grad-cam", "attention", "rollout")


@dataclass(frozen=True)
class Asked:
    """What is shown.

    Attributes:
        method: one of `METHODS`.
        stage: of the encoder, or "last".
        class_name: the class whose logit is explained; None: the predicted one.
        lowers: show what lowers the answer (Grad-CAM).
    """

    method: str = "grad-cam"
    stage: str = LAST
    class_name: str | None = None
    lowers: bool = False

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"--method is {self.method!r}; it must be one of {', '.join(METHODS)}.")
        if self.method != "grad-cam" and (self.lowers or self.class_name is not None):
            option = "--lowers" if self.lowers else "--class"
            raise InputError(
                f"{option} is for --method grad-cam: attention is the same whatever the answer it leads to."
            )


@dataclass(frozen=True, eq=False)
class Explained:
    """A clip and the map over it.

    Attributes:
        video_id: whose clip.
        clip: its frames.
        values: the map, at least 0, spread over the clip.
        cells: size (t, h, w) of the map as the encoder has it.
        method: how it was made.
        stage: the encoder's, of which it is.
        prediction: the number, or the predicted class; None without a head.
        explained: the class whose logit is explained; "" of numbers and attention.
        truth: the label, None where it is not known.
        outlines: frame of the clip -> the ventricle's outline in its pixels.
        phase: frame of the clip -> "ED" or "ES", of the traced ones.
        lowers: the map is of what lowers the answer, not of what raises it.
    """

    video_id: str
    clip: UInt8[np.ndarray, "t s s 3"]
    values: Float32[np.ndarray, "t s s"]
    cells: tuple[int, int, int]
    method: str
    stage: str
    prediction: float | str | None
    explained: str = ""
    truth: float | str | None = None
    outlines: Mapping[int, Outline] = field(default_factory=dict)
    phase: Mapping[int, str] = field(default_factory=dict)

    lowers: bool = False

    @property
    def inside(self) -> tuple[float, float]:
        """(mass, area) of `share_inside`."""
        return share_inside(self.values, self.outlines)


@dataclass(frozen=True, eq=False)
class Explainer:
    """An encoder, its head, and what is asked of them.

    Attributes:
        model: in eval mode, without gradients for its weights.
        head: None: attention alone can be shown.
        plan: the clip that is cut out of every video: one window.
        asked: what is shown.
        device: to compute on.
    """

    model: Any
    head: SavedHead | None
    plan: ClipPlan
    asked: Asked
    device: torch.device

    def __post_init__(self) -> None:
        if self.head is None and self.asked.method == "grad-cam":
            raise InputError(
                "Grad-CAM explains an answer, and this encoder has no head that gives one. Name it with --head (a folder with "
                "probe.safetensors, or a probe's run), or take --method attention."
            )
        if self.head is not None:
            self.head.check(self.model)
            self.head.network.to(self.device)
        self.model.eval().requires_grad_(False).to(self.device)

    def explain(
        self,
        manifest: Manifest,
        rows: Sequence[int],
        tracings: Mapping[str, Mapping[int, Outline]],
        task: Task | None,
        decoder: str = "auto",
    ) -> Iterator[Explained | DecodeError]:
        """Yield the maps of some videos, one after the other; a DecodeError in the place of one that cannot be read.

        Args:
            manifest: the dataset.
            rows: of its table.
            tracings: video -> frame -> outline.
            task: where the truth is.
            decoder: as in `decode`.
        """
        for row in rows:
            video = str(manifest.videos["video_id"].iloc[row])
            traced = tracings.get(video, {})
            try:
                read = self._read(manifest, row, video, traced, decoder)
            except DecodeError as error:
                yield error
            else:
                yield self._one(video, read, traced, _truth(manifest, row, task))

    def _read(
        self, manifest: Manifest, row: int, video: str, traced: Mapping[int, Outline], decoder: str
    ) -> PreparedVideo:
        """Return a video's middle clip, or the one with its traced frames where they are not in that."""
        file, span = manifest.file(row), manifest.span(row)
        read = prepare_video(file, video, self.plan, decoder, span)
        start = start_for(traced, read.frames[0], int(read.video[0])) if span is None else None
        return read if start is None else prepare_video(file, video, self.plan, decoder, span, [start])

    def _one(
        self, video: str, read: PreparedVideo, traced: Mapping[int, Outline], truth: float | str | None
    ) -> Explained:
        frames = normalise(torch.from_numpy(read.clips[:1]).to(self.device))
        prediction, output, explained = self._answer(frames)
        cells, halfway = self._map(frames, output)
        values = upsample(cells.float().cpu().numpy(), halfway.pitch, read.clips.shape[1:4])
        height, width = (int(side) for side in read.video[1:3])
        found = traced_frames(traced, read.frames[0])
        outlines = {at: place_outline(outline, self.plan, height, width) for at, (_, outline) in found.items()}
        ed, es = phases(traced) if len(traced) > 1 else (None, None)
        names = {ed: "ED", es: "ES"}
        phase = {at: names.get(number, "") for at, (number, _) in found.items()}
        t, h, w = cells.shape
        return Explained(
            video, read.clips[0], values, (t, h, w), self.asked.method, halfway.stage, prediction, explained, truth, outlines,
            phase, self.asked.lowers,
        )  # fmt: skip

    @torch.no_grad()
    def _answer(self, frames: torch.Tensor) -> tuple[float | str | None, int, str]:
        """Return the prediction, which output is explained, and the class that it stands for."""
        if self.head is None:
            return None, 0, ""
        outputs = self.head.network(self.model(frames).mean(1))[0]
        output = self.head.output(self.asked.class_name, outputs)
        if not self.head.classes:
            return float(outputs[0]), output, ""
        named = self.head.classes[output] if self.asked.method == "grad-cam" else ""
        return self.head.classes[int(outputs.argmax())], output, named

    def _map(self, frames: torch.Tensor, output: int) -> tuple[torch.Tensor, Halfway]:
        asked = self.asked
        if asked.method != "grad-cam":
            return attention_map(self.model, frames, stage=asked.stage, rollout=asked.method == "rollout")
        assert self.head is not None
        return grad_cam(self.model, self.head.network, frames, output=output, stage=asked.stage, lowers=asked.lowers)


def _truth(manifest: Manifest, row: int, task: Task | None) -> float | str | None:
    if task is None:
        return None
    value = manifest.videos[task.column].iloc[row]
    if value is None or value != value or value == "":
        return None
    return str(value) if task.classes else float(value)
