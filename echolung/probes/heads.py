"""The probes themselves, P of them side by side: parameters carry a leading axis p, tokens are shared.

Each head is a pair of plain functions over a dict of stacked parameters: `init` draws one probe's parameters, `forward`
computes the logits of all probes. Names and shapes are those of the textbook modules (V-JEPA 2's src/models/attentive_pooler.py
and EchoJEPA's linear_pooler.py), so that a probe's slice is that module's state.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Parameters = dict[str, Tensor]

EPS = 1e-5
"""LayerNorm's default, which V-JEPA 2's probes use (its encoder and Hugging Face's pooler use 1e-6)."""

HEADS = 16
"""Attention heads of the published probe; fewer where the width cannot be divided by 16."""


@dataclass(frozen=True)
class Head:
    """A kind of probe.

    Attributes:
        init: (dim, outputs, generator) -> parameters of one probe.
        forward: (parameters of P probes, normalised input) -> logits [p, b, c].
        normalise: tokens -> what all probes share: LayerNorm without its affine part, which each probe has of its own.
    """

    init: Callable[[int, int, torch.Generator], Parameters]
    forward: Callable[[Parameters, Tensor], Tensor]
    normalise: Callable[[Tensor], Tensor]


def _normal(shape: tuple[int, ...], generator: torch.Generator, std: float = 0.02) -> Tensor:
    return torch.nn.init.trunc_normal_(torch.empty(shape), std=std, generator=generator)


# ---- linear: mean over tokens, LayerNorm, Linear ---------------------------------------------------------------------


def linear_init(dim: int, outputs: int, generator: torch.Generator) -> Parameters:
    """Draw one linear probe: LayerNorm 1 and 0, weight truncated normal 0.02, bias 0."""
    return {
        "norm.weight": torch.ones(dim),
        "norm.bias": torch.zeros(dim),
        "linear.weight": _normal((outputs, dim), generator),
        "linear.bias": torch.zeros(outputs),
    }


def linear_normalise(tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b d"]:
    """Return the standardised mean token."""
    return F.layer_norm(tokens.mean(1), tokens.shape[2:], eps=EPS)


def linear_forward(parameters: Parameters, mean: Float[Tensor, "b d"]) -> Float[Tensor, "p b c"]:
    """Return W (γ ⊙ x̂ + β) + b, with γ and β moved into the matrix so that x̂ is read once for all probes."""
    weight = parameters["linear.weight"]
    scaled = weight * parameters["norm.weight"][:, None]
    shift = parameters["linear.bias"] + torch.einsum("pcd,pd->pc", weight, parameters["norm.bias"])
    p, c, d = weight.shape
    return (mean @ scaled.reshape(p * c, d).T).reshape(-1, p, c).transpose(0, 1) + shift[:, None]


# ---- attentive: one query, cross-attention, MLP, Linear (V-JEPA 2's pooler at depth 1) ---------------------------------


def attention_heads(dim: int) -> int:
    """Return the number of attention heads: 16, or the largest divisor of `dim` below."""
    return next(heads for heads in range(HEADS, 0, -1) if dim % heads == 0)


def attentive_init(dim: int, outputs: int, generator: torch.Generator) -> Parameters:
    """Draw one attentive probe: matrices and query truncated normal 0.02 (mlp.fc2 over √2), biases 0, LayerNorms 1 and 0."""
    hidden = 4 * dim
    return {
        "query": _normal((dim,), generator),
        "norm1.weight": torch.ones(dim),
        "norm1.bias": torch.zeros(dim),
        "q.weight": _normal((dim, dim), generator),
        "q.bias": torch.zeros(dim),
        "kv.weight": _normal((2 * dim, dim), generator),
        "kv.bias": torch.zeros(2 * dim),
        "norm2.weight": torch.ones(dim),
        "norm2.bias": torch.zeros(dim),
        "fc1.weight": _normal((hidden, dim), generator),
        "fc1.bias": torch.zeros(hidden),
        "fc2.weight": _normal((dim, hidden), generator) / math.sqrt(2),
        "fc2.bias": torch.zeros(dim),
        "linear.weight": _normal((outputs, dim), generator),
        "linear.bias": torch.zeros(outputs),
    }


def attentive_normalise(tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
    """Return every token standardised."""
    return F.layer_norm(tokens, tokens.shape[2:], eps=EPS)


def attentive_forward(parameters: Parameters, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "p b c"]:
    """Return the logits without ever forming keys or values (docs/protocol.md, "The fast attentive probe").

    With x̂ the standardised token, the score of head h is x̂ · u_h, u_h = γ ⊙ W_{k,h}ᵀ (W_q q + b_q)_h / √d_head: the key
    bias and W_k β add the same to every token's score and cancel in the softmax. The pooled value is
    W_{v,h} (γ ⊙ Σ_t a_t x̂_t + β) + b_{v,h}. Per token that is two d × heads products in place of two d × d.
    """
    query = parameters["query"]
    p, d = query.shape
    heads = attention_heads(d)
    gamma, beta = parameters["norm1.weight"], parameters["norm1.bias"]
    key_weight, value_weight = parameters["kv.weight"].reshape(p, 2, heads, d // heads, d).unbind(1)
    value_bias = parameters["kv.bias"].reshape(p, 2, heads, d // heads)[:, 1]

    q = torch.einsum("pij,pj->pi", parameters["q.weight"], query) + parameters["q.bias"]
    u = torch.einsum("phe,phed->phd", q.reshape(p, heads, -1), key_weight) * gamma[:, None] / math.sqrt(d // heads)
    scores = torch.matmul(u.reshape(p * heads, d), tokens.transpose(1, 2))  # [b, p·heads, n]
    pooled = torch.matmul(scores.softmax(-1), tokens).reshape(-1, p, heads, d)
    value = torch.einsum("phed,bphd->bphe", value_weight, pooled * gamma[:, None] + beta[:, None]) + value_bias
    x = (query + value.reshape(-1, p, d)).transpose(0, 1)  # [p, b, d]

    y = F.layer_norm(x, (d,), eps=EPS) * parameters["norm2.weight"][:, None] + parameters["norm2.bias"][:, None]
    y = F.gelu(torch.baddbmm(parameters["fc1.bias"][:, None], y, parameters["fc1.weight"].transpose(1, 2)))
    x = x + torch.baddbmm(parameters["fc2.bias"][:, None], y, parameters["fc2.weight"].transpose(1, 2))
    return torch.baddbmm(parameters["linear.bias"][:, None], x, parameters["linear.weight"].transpose(1, 2))


LINEAR = Head(linear_init, linear_forward, linear_normalise)
ATTENTIVE = Head(attentive_init, attentive_forward, attentive_normalise)
