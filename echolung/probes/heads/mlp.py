"""MLP probe: mean over tokens, a norm, hidden layers (Linear, BatchNorm if wanted, GELU, dropout), Linear.

With BatchNorm throughout and dropout before the first layer, too, it is CoReEcho's regressor (coreecho/regressor.py); without
norm and hidden layers it is the one linear layer that ends an encoder trained end to end.
"""

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from echolung.probes.heads.base import Head, Parameters, Step, affine, at_least_float32, drop, linear_layer, normal
from echolung.probes.heads.linear import standardised_mean

MOMENTUM = 0.1
"""Of BatchNorm's running statistics, as in torch."""

BATCH_NORM_EPS = 1e-5

NORMS = ("layer", "batch", "none")


@dataclass(frozen=True)
class _Shape:
    """What an MLP is made of.

    Attributes:
        hidden: widths of the hidden layers; none: the last layer is the only one.
        batch_norm: BatchNorm after each hidden linear layer.
        norm: of the mean token, one of `NORMS`.
        input_dropout: share of its values that are set to 0 before the first layer.
    """

    hidden: tuple[int, ...]
    batch_norm: bool
    norm: str
    input_dropout: float

    @property
    def layers(self) -> list[str]:
        """Names of the hidden layers."""
        return [f"hidden{i}" for i in range(len(self.hidden))]

    @property
    def batch_norms(self) -> list[str]:
        """Names of the BatchNorms."""
        first = ["norm"] if self.norm == "batch" else []
        return first + ([f"{layer}.bn" for layer in self.layers] if self.batch_norm else [])

    @property
    def still(self) -> list[str]:
        """Parameters that move all clips of a batch alike, which the BatchNorm after them takes away again."""
        if not self.batch_norm or not self.hidden:
            return []
        biases = [f"{layer}.bias" for layer in self.layers]
        # What dropout leaves of a bias differs from clip to clip.
        return biases if self.norm == "none" or self.input_dropout else ["norm.bias", *biases]


def mlp(hidden: tuple[int, ...], batch_norm: bool, norm: str = "layer", input_dropout: int | float = 0.0) -> Head:
    """Return the head with hidden layers of these widths.

    Args:
        hidden: widths; none: one linear layer.
        batch_norm: BatchNorm after each hidden linear layer.
        norm: of the mean token: "layer", "batch" or "none".
        input_dropout: share of values that are dropped before the first layer; after the others it is the recipe's.
    """
    shape = _Shape(hidden, batch_norm, norm, float(input_dropout))
    width = 2 if norm == "layer" else 6
    return Head(
        partial(_init, shape),
        partial(_forward, shape),
        standardised_mean if norm == "layer" else _mean,
        lambda tokens, dim: width * dim + 6 * sum(hidden),
        buffers=frozenset(f"{bn}.{name}" for bn in shape.batch_norms for name in ("mean", "var")),
        penalised=frozenset([f"{layer}.weight" for layer in shape.layers] + ["linear.weight"]),
        smallest=2 if shape.batch_norms else 1,  # one clip has no variance; torch refuses it, too
        drops=input_dropout > 0,
    )


def _mean(tokens: Float[Tensor, "b n d"], dtype: torch.dtype | None = None) -> Float[Tensor, "b d"]:
    mean = at_least_float32(tokens).mean(1)
    return mean if dtype is None else mean.to(dtype)


def _init(shape: _Shape, dim: int, outputs: int, generator: torch.Generator) -> Parameters:
    parameters = {} if shape.norm == "none" else {"norm.weight": torch.ones(dim), "norm.bias": torch.zeros(dim)}
    if shape.norm == "batch":
        parameters |= {"norm.mean": torch.zeros(dim), "norm.var": torch.ones(dim)}
    for layer, before, after in zip(shape.layers, (dim, *shape.hidden), shape.hidden, strict=False):
        parameters[f"{layer}.weight"] = normal((after, before), generator)
        parameters[f"{layer}.bias"] = torch.zeros(after)
        if shape.batch_norm:
            parameters[f"{layer}.bn.weight"] = torch.ones(after)
            parameters[f"{layer}.bn.bias"] = torch.zeros(after)
            parameters[f"{layer}.bn.mean"] = torch.zeros(after)
            parameters[f"{layer}.bn.var"] = torch.ones(after)
    parameters["linear.weight"] = normal((outputs, (dim, *shape.hidden)[-1]), generator)
    parameters["linear.bias"] = torch.zeros(outputs)
    return parameters


def _forward(
    shape: _Shape, parameters: Parameters, mean: Float[Tensor, "b d"], step: Step | None = None
) -> Float[Tensor, "p b c"]:
    if step is not None and step.training:
        # The gradient would be rounding, and Adam would follow it.
        parameters = parameters | {name: parameters[name].detach() for name in shape.still}
    last = parameters["linear.weight"]
    x = mean.to(last.dtype).expand(len(last), -1, -1)
    if shape.norm == "layer":
        x = affine(parameters, "norm", x)
    elif shape.norm == "batch":
        x = _batch_norm(parameters, "norm", x, step)
    if shape.input_dropout:
        x = drop(x, step, shape.input_dropout)
    for layer in shape.layers:
        x = linear_layer(parameters, layer, x)
        if shape.batch_norm:
            x = _batch_norm(parameters, f"{layer}.bn", x, step)
        x = drop(F.gelu(x), step)
    return linear_layer(parameters, "linear", x)


def _batch_norm(
    parameters: Parameters, name: str, x: Float[Tensor, "p b w"], step: Step | None
) -> Float[Tensor, "p b w"]:
    """Normalise by statistics of each probe's own clips alone, so that held-out clips never enter (Ioffe & Szegedy 2015)."""
    if step is None or not step.training:
        mean, var = parameters[f"{name}.mean"][:, None], parameters[f"{name}.var"][:, None]
    else:
        own = step.pairs[:, :, None].to(x.dtype)
        count = own.sum(1, keepdim=True)
        mean = (x * own).sum(1, keepdim=True) / count.clamp(min=1)
        var = ((x - mean).square() * own).sum(1, keepdim=True) / count.clamp(min=1)
        with torch.no_grad():
            enough = (count >= 2).to(x.dtype) * MOMENTUM
            unbiased = var * count / (count - 1).clamp(min=1)
            parameters[f"{name}.mean"].lerp_(mean.squeeze(1), enough.squeeze(1).expand_as(mean.squeeze(1)))
            parameters[f"{name}.var"].lerp_(unbiased.squeeze(1), enough.squeeze(1).expand_as(mean.squeeze(1)))
    return affine(parameters, name, (x - mean) / torch.sqrt(var + BATCH_NORM_EPS))
