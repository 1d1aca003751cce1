"""How a fine-tuning learns: what is trained, at which rates, for how long."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from echolung.errors import InputError
from echolung.probes.heads import LINEAR, Head, mlp

HEADS: dict[str, tuple[Head, dict[str, Any]]] = {
    "linear": (LINEAR, {}),
    "mlp": (mlp((256,), batch_norm=False), {"hidden": "256", "batch_norm": "no"}),
}
"""Kind of a saved probe -> its head, and the setting that makes it. Both take the mean over all tokens of a video."""

LEARNING_RATE, FROM_SCRATCH = 1e-4, 5e-4
"""Of the uppermost stage, before its share by depth, where weights are pretrained, and where they are random."""


@dataclass(frozen=True)
class Tuning:
    """How a fine-tuning learns.

    Attributes:
        unfreeze: "last:K" stages, "all" or "none".
        from_scratch: begin with random weights of the same architecture; all stages learn.
        lr: peak learning rates of the encoder to choose from; empty: one that suits where the weights come from.
        decay: a stage with k learnt layers above it, the head among them, has lr · decay^k (`rates.stage_rates`).
        head: "linear" or "mlp".
        head_lr: peak learning rate of the head, as probes have it.
        weight_decay: of AdamW, on the encoder's matrices.
        head_weight_decay: on every parameter of the head, as probes have it.
        epochs: length of the schedule.
        batch: videos a step.
        warmup: share of the steps in which the rates rise.
        dropout: rate of the encoder's own dropout; None: as the architecture has it.
        head_dropout: before the head's last layer; in an MLP after each hidden layer.
        class_weights: "none" or "balanced".
        loss: as probes have it; "auto": cross-entropy, smooth-l1.
        batch_norm: "fixed" statistics, those that the encoder came with, or "learnt" from the batches.
        views: learn from the random views of the store's plan as well.
        seed: of batches, of dropout, of the head's first weights and (from scratch) of the encoder's.
    """

    unfreeze: str = "last:2"
    from_scratch: bool = False
    lr: tuple[float, ...] = ()
    decay: float = 0.75
    head: str = "linear"
    head_lr: float = 1e-3
    weight_decay: float = 0.05
    head_weight_decay: float = 0.04
    epochs: int = 20
    batch: int = 16
    warmup: float = 0.1
    dropout: float | None = None
    head_dropout: float = 0.0
    class_weights: str = "none"
    loss: str = "auto"
    batch_norm: str = "fixed"
    views: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.head not in HEADS:
            raise InputError(f"--head {self.head} must be {' or '.join(HEADS)}.")
        if not 0 < self.decay <= 1:
            raise InputError(f"--decay {self.decay:g} must be above 0 and at most 1, which gives all stages one rate.")
        if wrong := [rate for rate in (*self.lr, self.head_lr) if not 0 < rate < 1]:
            raise InputError(f"A learning rate of {wrong[0]:g} must be above 0 and below 1.")
        for name in ("dropout", "head_dropout"):
            if (rate := getattr(self, name)) is not None and not 0 <= rate < 1:
                raise InputError(f"--{name.replace('_', '-')} {rate:g} must be from 0 to below 1.")
        for name, allowed in (("class_weights", ("none", "balanced")), ("batch_norm", ("fixed", "learnt"))):
            if getattr(self, name) not in allowed:
                raise InputError(f"--{name.replace('_', '-')} {getattr(self, name)} must be {' or '.join(allowed)}.")

    @property
    def name(self) -> str:
        """What tables call it."""
        return "scratch" if self.from_scratch else "finetune"

    def resolved(self) -> "Tuning":
        """Return it with everything said: from scratch all stages learn, at one rate, and BatchNorm its statistics."""
        rates = self.lr or ((FROM_SCRATCH if self.from_scratch else LEARNING_RATE),)
        if not self.from_scratch:
            return replace(self, lr=rates)
        return replace(self, lr=rates, unfreeze="all", decay=1.0, batch_norm="learnt")

    def grid(self) -> tuple[dict[str, Any], ...]:
        """Return the settings that are chosen from, the smallest rate first."""
        return tuple({"lr": rate} for rate in sorted(set(self.lr)))


def count_learnt(unfreeze: str, stages: Sequence[str]) -> int:
    """Return how many of an encoder's stages learn.

    Args:
        unfreeze: "last:K", "all" or "none".
        stages: their names, the lowest first.

    Raises:
        InputError: none of these, or no such number of stages.
    """
    if unfreeze in ("all", "none"):
        return len(stages) if unfreeze == "all" else 0
    found = re.fullmatch(r"last:(\d{1,4})", unfreeze)
    if not found:
        raise InputError(f"--unfreeze {unfreeze} must be last:K (such as last:2), all or none.")
    if not 1 <= int(found[1]) <= len(stages):
        names = ", ".join(stages) if len(stages) < 6 else f"{stages[0]}, {stages[1]}, …, {stages[-1]}"
        raise InputError(
            f"--unfreeze {unfreeze}: this encoder has {len(stages)} stage{'s'[: len(stages) - 1]} ({names}). Name last:1 to "
            f"last:{len(stages)}; all is the whole encoder, none its head alone."
        )
    return int(found[1])
