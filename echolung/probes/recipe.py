"""How one probe of a bank learns, and its learning rate at every step."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """How one probe of a bank learns.

    Attributes:
        lr: peak learning rate.
        weight_decay: AdamW's, on every parameter.
        epochs: length of its schedule.
        stop: epoch after which it is trained no more; None: the end of the schedule.
        warmup: share of the schedule in which the learning rate rises.
        schedule: what follows: "cosine", a fall along a half cosine to 0, or "constant".
        dropout: share of values that the head's dropout sets to 0.
        label_smoothing: ε of cross-entropy.
        balanced: weigh classes by n / (C · n_c) of the probe's own videos.
        loss: "cross-entropy", "coral"; "smooth-l1", "l1", "mse"; "auto": the first of those for classes, for numbers.
        l1: weight of Σ |W| over the head's matrices, added to the loss.
        l2: weight of Σ W², likewise.
        seed: of its initial parameters.
    """

    lr: float
    weight_decay: float = 0.0
    epochs: int = 50
    stop: int | None = None
    warmup: float = 0.0
    schedule: str = "cosine"
    dropout: float = 0.0
    label_smoothing: float = 0.0
    balanced: bool = False
    loss: str = "auto"
    l1: float = 0.0
    l2: float = 0.0
    seed: int = 0

    @classmethod
    def of(cls, setting: Mapping[str, Any], epochs: int, seed: int, stop: int | None = None) -> "Recipe":
        """Return the recipe in a setting; what only shapes the head is passed over."""
        names = ("lr", "weight_decay", "warmup", "schedule", "dropout", "label_smoothing", "loss", "l1", "l2")
        return cls(
            **{name: setting[name] for name in names if name in setting},
            epochs=setting.get("epochs", epochs),
            stop=stop,
            balanced=setting.get("class_weights") == "balanced",
            seed=seed,
        )

    @property
    def last(self) -> int:
        """The last epoch it is trained in."""
        return min(self.stop or self.epochs, self.epochs)

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate at `step` (from 0) with `steps` an epoch: up along a line, then as `schedule` says."""
        total = self.epochs * steps
        rising = round(self.warmup * total)
        if step < rising:
            return self.lr * (step + 1) / rising
        if self.schedule == "constant":
            return self.lr
        return self.lr * cosine(step - rising, total - rising)


def cosine(step: int, total: int) -> float:
    """Return the share of the peak learning rate at `step` (from 0): a half cosine from 1 to 0 over `total` steps."""
    return 0.5 * (1 + math.cos(math.pi * min(step, total) / total)) if total else 0.0
