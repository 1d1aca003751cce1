"""Learning rates by depth: the nearer a stage is to the pixels, the less it learns."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from echolung.encoders.stages import Stage


def stage_rates(lr: float, decay: float, stages: int) -> list[float]:
    """Return the peak rate of each of `stages` stages, the lowest first: lr · decay^k with k layers above, the head among them.

    BEiT's layer-wise decay (Bao et al. 2022; microsoft/unilm, beit/optim_factory.py: `layer_decay ** (num_layers + 1 - i)`),
    which timm has as `--layer-decay`. There the head has k = 0; here it has a rate of its own.
    """
    return [lr * decay ** (stages - place) for place in range(stages)]


def groups(stages: Sequence[Stage], rates: Sequence[float], weight_decay: float) -> list[dict[str, Any]]:
    """Return AdamW's parameter groups: of each stage its matrices, which decay, and its vectors, which do not.

    Args:
        stages: the lowest first.
        rates: peak rate of each, kept as `peak`.
        weight_decay: on matrices and kernels.
    """
    return [
        {"params": own, "peak": rate, "weight_decay": weight_decay if decays else 0.0}
        for stage, rate in zip(stages, rates, strict=True)
        for decays in (True, False)
        if (own := [p for p in nn.ModuleList(stage.modules).parameters() if (p.ndim > 1) == decays])
    ]
