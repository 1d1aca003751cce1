"""What one update of a run's networks came to, whatever they learn."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Update:
    """What an update came to; on a GPU it may still be computing.

    Attributes:
        step: from 0.
        sums: loss, processes that wish to stop, clips that could be read; over all processes.
        gradient: norm of the gradient before any clipping.
        rates: learning rate, weight decay and momentum of the step.
        gauges: of the representation, where it was looked at.
    """

    step: int
    sums: Tensor
    gradient: Tensor
    rates: tuple[float, float, float]
    gauges: dict[str, Any] | None
