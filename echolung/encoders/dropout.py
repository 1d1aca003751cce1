"""The rate of a model's dropout layers, which is 0 until it is set."""

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from echolung.errors import InputError


def set_dropout(model: nn.Module, rate: int | float) -> None:
    """Set the rate of every dropout layer of a model; dropout acts in training alone.

    UniFormer has them after its stem, in its MLPs and behind its attention; the pre-activation ResNets after each BN-ReLU
    within a block. The video transformer and torchvision's networks have none.

    Raises:
        InputError: a rate below 0 or from 1 on, or above 0 for a model without dropout.
    """
    if not 0 <= rate < 1:
        raise InputError(f"A dropout of {rate:g} is no rate: it is from 0 up to, but not including, 1.")
    layers = [module for module in model.modules() if isinstance(module, _DropoutNd)]
    if not layers and rate > 0:
        raise InputError(
            f"{type(model).__name__} has no dropout layers, so a dropout of {rate:g} cannot be set; take 0, or an encoder "
            "that has them (UniFormer, the two-stream and single-stream 3-D ResNets)."
        )
    for layer in layers:
        layer.p = float(rate)
