"""Light attentive probe: learnt queries straight on the tokens; no key, value or MLP weights.

After the multi-query attention of efficient probing (Psomas et al. 2025, "Attention, Please! Revisiting Attentive Probing
Through the Lens of Efficiency"), without its value projection: query m weighs all tokens and pools its own m-th part of
their width. That leaves queries and the last layer to learn, a few thousand numbers.
"""

import math
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from echolung.probes.heads.attentive import standardised
from echolung.probes.heads.base import Head, Parameters, Step, attend, attention_of, drop, linear_layer, normal


def attentive_lite(queries: int) -> Head:
    """Return the head with so many queries (fewer where the width cannot be divided by them)."""
    cost = lambda tokens, dim: 3 * queries * tokens + 4 * dim  # noqa: E731
    return Head(partial(_init, queries), _forward, standardised, cost, per_token=True, attention=_attention)


def _init(queries: int, dim: int, outputs: int, generator: torch.Generator) -> Parameters:
    queries = next(m for m in range(queries, 0, -1) if dim % m == 0)
    return {
        "query": normal((queries, dim), generator),
        "linear.weight": normal((outputs, dim), generator),
        "linear.bias": torch.zeros(outputs),
    }


def _forward(
    parameters: Parameters, tokens: Float[Tensor, "b n d"], step: Step | None = None
) -> Float[Tensor, "p b c"]:
    p, _, d = parameters["query"].shape
    pooled = attend(_scaled(parameters), tokens, step, _own_parts).reshape(-1, p, d).transpose(0, 1)
    return linear_layer(parameters, "linear", drop(pooled, step))


def _attention(parameters: Parameters, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b p m n"]:
    """Return how each query weighs standardised tokens."""
    return attention_of(_scaled(parameters), tokens)


def _scaled(parameters: Parameters) -> Float[Tensor, "p m d"]:
    query = parameters["query"]
    return query / math.sqrt(query.shape[-1])


def _own_parts(attention: Float[Tensor, "*k m n"], tokens: Float[Tensor, "n d"]) -> Float[Tensor, "*k m w"]:
    """Return what each query pools of its own part of the width."""
    parts = zip(attention.unbind(-2), tokens.chunk(attention.shape[-2], dim=1), strict=True)
    return torch.stack([weights @ part for weights, part in parts], -2)
