"""What a run says of each step: one JSON object a line, and TensorBoard or Weights & Biases where they are installed."""

import importlib.util
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FILE = "log.jsonl"


@dataclass(frozen=True)
class StepRecord:
    """One step, as logged.

    Attributes:
        step: updates done, from 1.
        steps: of the whole run.
        loss: mean over the global batch.
        clips: that could be read, over all processes.
        gradient: norm of the gradient, before any clipping.
        lr: learning rate of the step.
        weight_decay: of the step.
        momentum: of the target's average after the step.
        seconds: since the step before.
        waited: of these, for videos.
        memory: most bytes of the GPU so far; None on a CPU.
        gauges: of the representation and the masks, where it was looked at.
        scores: of the labelled probe, where it ran.
    """

    step: int
    steps: int
    loss: float
    clips: int
    gradient: float
    lr: float
    weight_decay: float
    momentum: float
    seconds: float
    waited: float
    memory: int | None = None
    gauges: Mapping[str, Any] | None = None
    scores: Mapping[str, float] | None = None

    @property
    def clips_per_second(self) -> float:
        """Clips a second, over all processes."""
        return self.clips / self.seconds if self.seconds > 0 else math.nan


class Log:
    """Appends to a run's log; lines after `step` (written by a run that was killed before its next checkpoint) are dropped."""

    def __init__(self, folder: Path, step: int, settings: Mapping[str, Any]) -> None:
        self.path = folder / FILE
        kept = [line for line in read_lines(self.path) if line["step"] <= step]
        partial = self.path.with_suffix(".partial")
        partial.write_text("".join(json.dumps(line) + "\n" for line in kept), "utf-8")
        partial.replace(self.path)
        self.file = self.path.open("a", encoding="utf-8", buffering=1)
        self.others = [other for other in (_tensorboard(folder), _wandb(folder, settings)) if other]

    def write(self, record: StepRecord) -> None:
        """Add a step."""
        line = {name: value for name, value in asdict(record).items() if value is not None}
        line["clips_per_second"] = record.clips_per_second
        self.file.write(json.dumps(line) + "\n")
        for write, _ in self.others:
            write(record.step, dict(_numbers(line)))

    def close(self) -> None:
        """Close the file, and whatever else was told."""
        self.file.close()
        for _, close in self.others:
            close()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the steps of a log; a last line that was cut short is left out."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text("utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def _numbers(line: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for name, value in line.items():
        if isinstance(value, Mapping):
            found += _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, list):
            found += _numbers({str(i): item for i, item in enumerate(value)}, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append((prefix + name, float(value)))
    return found


Other = tuple[Callable[[int, Mapping[str, float]], None], Callable[[], None]]
"""How to write a step's numbers, and how to close."""


def _tensorboard(folder: Path) -> Other | None:
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder / "tensorboard"))

    def write(step: int, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            writer.add_scalar(name, value, step)

    return write, writer.close


def _wandb(folder: Path, settings: Mapping[str, Any]) -> Other | None:
    # Installed is not yet a wish to send anything anywhere; naming a project is.
    if importlib.util.find_spec("wandb") is None or not os.environ.get("WANDB_PROJECT"):
        return None
    import wandb

    run = wandb.init(name=folder.name, dir=str(folder), config=dict(settings), resume="allow", id=folder.name)
    return (lambda step, numbers: run.log(dict(numbers), step=step)), run.finish
