"""Linear probe: mean over tokens, LayerNorm, dropout, Linear (EchoJEPA's linear_pooler.py)."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from echolung.probes.heads.base import EPS, Head, Parameters, Step, affine, at_least_float32, drop, linear_layer, normal


def init(dim: int, outputs: int, generator: torch.Generator) -> Parameters:
    """Draw one probe: LayerNorm 1 and 0, weight truncated normal 0.02, bias 0."""
    return {
        "norm.weight": torch.ones(dim),
        "norm.bias": torch.zeros(dim),
        "linear.weight": normal((outputs, dim), generator),
        "linear.bias": torch.zeros(outputs),
    }


def standardised_mean(tokens: Float[Tensor, "b n d"], dtype: torch.dtype | None = None) -> Float[Tensor, "b d"]:
    """Return the mean token, standardised."""
    mean = F.layer_norm(at_least_float32(tokens).mean(1), tokens.shape[2:], eps=EPS)
    return mean if dtype is None else mean.to(dtype)


def forward(parameters: Parameters, mean: Float[Tensor, "b d"], step: Step | None = None) -> Float[Tensor, "p b c"]:
    """Return W (γ ⊙ x̂ + β) + b."""
    if step is not None and step.dropout is not None:
        probes = len(parameters["linear.weight"])
        return linear_layer(parameters, "linear", drop(affine(parameters, "norm", mean.expand(probes, -1, -1)), step))
    names = ("linear.weight", "norm.weight", "norm.bias", "linear.bias")
    of_heads = [parameters[name] for name in names]
    outputs: Tensor = _Shared.apply(*of_heads, mean.to(of_heads[0].dtype))
    return outputs


class _Shared(torch.autograd.Function):
    """W (γ ⊙ x̂ + β) + b with γ and β moved into the matrix, so that one product serves all probes.

    Its derivatives are written out: autograd goes over the matrices four times more, which for a thousand probes is most of
    the time.
    """

    @staticmethod
    def forward(
        ctx: Any,
        weight: Float[Tensor, "p c d"],
        gamma: Float[Tensor, "p d"],
        beta: Float[Tensor, "p d"],
        bias: Float[Tensor, "p c"],
        mean: Float[Tensor, "b d"],
    ) -> Float[Tensor, "p b c"]:
        p, c, d = weight.shape
        ctx.save_for_backward(weight, gamma, beta, mean)
        scaled = (weight * gamma[:, None]).reshape(p * c, d)
        shift = bias + (weight * beta[:, None]).sum(2)
        return (mean @ scaled.T).reshape(-1, p, c).transpose(0, 1) + shift[:, None]

    @staticmethod
    def backward(ctx: Any, gradient: Float[Tensor, "p b c"]) -> tuple[Tensor | None, ...]:
        weight, gamma, beta, mean = ctx.saved_tensors
        p, c, d = weight.shape
        of_scaled = (gradient.transpose(1, 2).reshape(p * c, -1) @ mean).reshape(p, c, d)
        of_bias = gradient.sum(1)
        of_gamma, of_beta = torch.zeros_like(gamma), torch.zeros_like(beta)
        for k in range(c):
            of_gamma.addcmul_(of_scaled[:, k], weight[:, k])
            of_beta.addcmul_(weight[:, k], of_bias[:, k, None])
        of_weight = of_scaled.mul_(gamma[:, None]).addcmul_(of_bias[:, :, None], beta[:, None])
        return of_weight, of_gamma, of_beta, of_bias, None


LINEAR = Head(init, forward, standardised_mean, lambda tokens, dim: 8)
