"""MLP probe: mean over tokens, LayerNorm, hidden layers (Linear, BatchNorm if wanted, GELU, dropout), Linear."""

from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from echolung.probes.heads.base import Head, Parameters, Step, affine, drop, linear_layer, normal
from echolung.probes.heads.linear import standardised_mean

MOMENTUM = 0.1
"""Of BatchNorm's running statistics, as in torch."""

BATCH_NORM_EPS = 1e-5


def mlp(hidden: tuple[int, ...], batch_norm: bool) -> Head:
    """Return the head with hidden layers of these widths."""
    layers = [f"hidden{i}" for i in range(len(hidden))]
    norms = [f"{layer}.bn" for layer in layers] if batch_norm else []
    return Head(
        partial(_init, hidden, batch_norm),
        partial(_forward, tuple(layers), batch_norm),
        standardised_mean,
        lambda tokens, dim: 2 * dim + 6 * sum(hidden),
        buffers=frozenset(f"{norm}.{name}" for norm in norms for name in ("mean", "var")),
        penalised=frozenset([f"{layer}.weight" for layer in layers] + ["linear.weight"]),
        smallest=2 if batch_norm else 1,  # one clip has no variance; torch refuses it, too
    )


def _init(hidden: tuple[int, ...], batch_norm: bool, dim: int, outputs: int, generator: torch.Generator) -> Parameters:
    parameters = {"norm.weight": torch.ones(dim), "norm.bias": torch.zeros(dim)}
    for i, (before, after) in enumerate(zip((dim, *hidden), hidden, strict=False)):
        parameters[f"hidden{i}.weight"] = normal((after, before), generator)
        parameters[f"hidden{i}.bias"] = torch.zeros(after)
        if batch_norm:
            parameters[f"hidden{i}.bn.weight"] = torch.ones(after)
            parameters[f"hidden{i}.bn.bias"] = torch.zeros(after)
            parameters[f"hidden{i}.bn.mean"] = torch.zeros(after)
            parameters[f"hidden{i}.bn.var"] = torch.ones(after)
    parameters["linear.weight"] = normal((outputs, (dim, *hidden)[-1]), generator)
    parameters["linear.bias"] = torch.zeros(outputs)
    return parameters


def _forward(
    layers: tuple[str, ...],
    batch_norm: bool,
    parameters: Parameters,
    mean: Float[Tensor, "b d"],
    step: Step | None = None,
) -> Float[Tensor, "p b c"]:
    if batch_norm and step is not None and step.training:
        # BatchNorm takes away what moves all clips alike; the gradient would be rounding, and Adam would follow it.
        still = ("norm.bias", *(f"{layer}.bias" for layer in layers))
        parameters = parameters | {name: parameters[name].detach() for name in still}
    x = affine(parameters, "norm", mean.expand(len(parameters["norm.weight"]), -1, -1))
    for layer in layers:
        x = linear_layer(parameters, layer, x)
        if batch_norm:
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
