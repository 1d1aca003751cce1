"""V-JEPA 2's whole attentive probe: self-attention blocks over all tokens, then the pooler of depth 1.

Blocks change the tokens of each probe in its own way, so nothing is shared: it costs what the textbook costs, for every probe.
Meant for a GPU. Names are those of Meta's src/models/attentive_pooler.py (blocks.i.norm1, .attn.qkv, .attn.proj, .norm2,
.mlp.fc1, .mlp.fc2).
"""

import math
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from echolung.probes.heads import attentive
from echolung.probes.heads.attentive import attention_heads
from echolung.probes.heads.base import EPS, Head, Parameters, Step, at_least_float32, normal


def attentive_deep(depth: int) -> Head:
    """Return the head with `depth` − 1 self-attention blocks before the cross-attention (the published probe has depth 4)."""
    return Head(
        partial(_init, depth),
        partial(_forward, depth),
        _as_they_are,
        lambda tokens, dim: (depth + 16) * tokens * dim,  # a block's input each, and the inside of one
        attention=partial(_attention, depth),
    )


def _as_they_are(tokens: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    return at_least_float32(tokens) if dtype is None else tokens.to(dtype)


def _init(depth: int, dim: int, outputs: int, generator: torch.Generator) -> Parameters:
    blocks: Parameters = {}
    for i in range(depth - 1):
        scale = math.sqrt(2 * (i + 1))
        blocks |= {
            f"blocks.{i}.norm1.weight": torch.ones(dim),
            f"blocks.{i}.norm1.bias": torch.zeros(dim),
            f"blocks.{i}.attn.qkv.weight": normal((3 * dim, dim), generator),
            f"blocks.{i}.attn.qkv.bias": torch.zeros(3 * dim),
            f"blocks.{i}.attn.proj.weight": normal((dim, dim), generator) / scale,
            f"blocks.{i}.attn.proj.bias": torch.zeros(dim),
            f"blocks.{i}.norm2.weight": torch.ones(dim),
            f"blocks.{i}.norm2.bias": torch.zeros(dim),
            f"blocks.{i}.mlp.fc1.weight": normal((4 * dim, dim), generator),
            f"blocks.{i}.mlp.fc1.bias": torch.zeros(4 * dim),
            f"blocks.{i}.mlp.fc2.weight": normal((dim, 4 * dim), generator) / scale,
            f"blocks.{i}.mlp.fc2.bias": torch.zeros(dim),
        }
    return blocks | attentive.init(dim, outputs, generator, math.sqrt(2 * max(1, depth - 1)))


def _forward(
    depth: int, parameters: Parameters, tokens: Float[Tensor, "b n d"], step: Step | None = None
) -> Float[Tensor, "p b c"]:
    # Dropout comes last and for all probes at once: its noise is drawn once.
    attended = []
    for probe in range(len(parameters["query"])):
        pooler, x = _through_blocks(depth, parameters, probe, tokens)
        attended.append(attentive.cross_attention(pooler, x))
    return attentive.finish(parameters, torch.cat(attended), step)


def _attention(depth: int, parameters: Parameters, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b p heads n"]:
    """Return how each head of the pooler weighs the tokens that the blocks before it made."""
    probes = range(len(parameters["query"]))
    maps = [attentive.attention(*_through_blocks(depth, parameters, probe, tokens)) for probe in probes]
    return torch.cat(maps, 1)


def _through_blocks(
    depth: int, parameters: Parameters, probe: int, tokens: Float[Tensor, "b n d"]
) -> tuple[Parameters, Float[Tensor, "b n d"]]:
    """Return the pooler of one probe, and the standardised tokens that its blocks hand to it."""
    own = {name: value[probe] for name, value in parameters.items()}
    x = tokens.to(own["query"].dtype)
    for i in range(depth - 1):
        block = {name.removeprefix(f"blocks.{i}."): v for name, v in own.items() if name.startswith(f"blocks.{i}.")}
        # Recomputed in the backward pass: a block's inside is some 30 times its input.
        run = partial(_block, block, dtype=tokens.dtype)
        x = checkpoint(run, x, use_reentrant=False) if torch.is_grad_enabled() else run(x)
    pooler = {name: v[None] for name, v in own.items() if not name.startswith("blocks.")}
    return pooler, F.layer_norm(x, x.shape[2:], eps=EPS).to(tokens.dtype)


def _block(block: Parameters, x: Float[Tensor, "b n d"], *, dtype: torch.dtype) -> Float[Tensor, "b n d"]:
    """Return x + attention(LN(x)), then + MLP(LN(x)): a plain transformer block, the matrix products in `dtype`."""
    b, n, d = x.shape

    def linear(name: str, value: Tensor) -> Tensor:
        return F.linear(value.to(dtype), block[f"{name}.weight"].to(dtype), block[f"{name}.bias"].to(dtype))

    def norm(name: str, value: Tensor) -> Tensor:
        return F.layer_norm(value, (d,), block[f"{name}.weight"], block[f"{name}.bias"], EPS)

    heads = attention_heads(d)
    q, k, v = linear("attn.qkv", norm("norm1", x)).reshape(b, n, 3, heads, d // heads).permute(2, 0, 3, 1, 4)
    attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d)
    x = x + linear("attn.proj", attended).to(x.dtype)
    return x + linear("mlp.fc2", F.gelu(linear("mlp.fc1", norm("norm2", x)))).to(x.dtype)
