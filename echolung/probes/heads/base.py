"""What a head is: P probes of one kind side by side, their parameters stacked along a leading axis, their tokens shared."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Parameters = dict[str, Tensor]

EPS = 1e-5
"""LayerNorm's default, which V-JEPA 2's probes use (its encoder and Hugging Face's pooler use 1e-6)."""


@dataclass(frozen=True)
class Step:
    """What a forward pass knows beside parameters and tokens.

    Attributes:
        pairs: [p, b] which probes want which clips of the batch; what comes out for the others means nothing.
        dropout: [p] each probe's rate, in training; None: nothing is dropped.
        generator: of the noise that dropout compares with its rates: the same for all probes, so that what a probe drops
            does not depend on which others are trained beside it.
        training: whether statistics are those of the batch.
    """

    pairs: Bool[Tensor, "p b"]
    dropout: Float[Tensor, " p"] | None = None
    generator: torch.Generator | None = None
    training: bool = False


def drop(x: Float[Tensor, "p b w"], step: Step | None, share: float | None = None) -> Float[Tensor, "p b w"]:
    """Return x with each probe's share of values (or one for all) set to 0 and the rest scaled up (inverted dropout)."""
    if step is None or step.dropout is None:
        return x
    noise = torch.rand(x.shape[1:], generator=step.generator).to(x.device)
    rate = step.dropout[:, None, None] if share is None else share
    return x * (noise >= rate) / (1 - rate)


def weigh(
    queries: Float[Tensor, "q d"], tokens: Float[Tensor, "*b n d"], dtype: torch.dtype
) -> Float[Tensor, "*b q n"]:
    """Return the softmax attention of queries over each clip's tokens."""
    return torch.matmul(queries, tokens.transpose(-1, -2)).to(dtype).softmax(-1)


Pool = Callable[[Tensor, Tensor], Tensor]
"""(attention [..., r, n], tokens [n, d]) -> what r queries pooled [..., r, w]."""


def attend(
    queries: Float[Tensor, "p r d"], tokens: Float[Tensor, "b n d"], step: Step | None, pool: Pool
) -> Float[Tensor, "b p r w"]:
    """Return what the softmax attention of P × r queries over each clip's tokens pools; 0 for pairs that nobody wants.

    On a CPU clip by clip, with the queries of those probes alone that want it: in nested cross-validation a clip is learnt
    from by six in ten of the probes and looked at by two. A GPU is better off with one large product.
    """
    p, r, d = queries.shape
    flat = queries.reshape(p * r, d).to(tokens.dtype)
    if tokens.device.type != "cpu":
        attention = weigh(flat, tokens, queries.dtype).to(tokens.dtype).reshape(len(tokens), p, r, -1)
        return torch.stack([pool(a, x) for a, x in zip(attention, tokens, strict=True)]).to(queries.dtype)
    pooled = []
    for clip, own in zip(tokens, [None] * len(tokens) if step is None else step.pairs.T, strict=True):
        chosen = None if own is None or bool(own.all()) else own.nonzero().squeeze(1)
        mine = flat if chosen is None else queries[chosen].reshape(-1, d).to(tokens.dtype)
        attention = weigh(mine, clip, queries.dtype).to(tokens.dtype).reshape(-1, r, len(clip))
        found = pool(attention, clip).to(queries.dtype)
        pooled.append(found if chosen is None else found.new_zeros(p, *found.shape[1:]).index_copy(0, chosen, found))
    return torch.stack(pooled)


def attention_of(queries: Float[Tensor, "p r d"], tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b p r n"]:
    """Return how P × r queries weigh each clip's tokens: what `attend` pools by."""
    p, r, d = queries.shape
    flat = queries.reshape(p * r, d).to(tokens.dtype)
    return weigh(flat, tokens, queries.dtype).reshape(len(tokens), p, r, -1)


@dataclass(frozen=True)
class Head:
    """A kind of probe.

    Attributes:
        init: (dim, outputs, generator) -> parameters of one probe.
        forward: (parameters of P probes, shared input, step or None: every pair, predicting) -> outputs [p, b, c].
        normalise: (tokens [b, n, d] as stored, dtype or None: at least float32) -> what all probes share, in `dtype`.
        per_token: `normalise` treats each token by itself, so that it can be done once for all epochs.
        activations: (tokens, dim) -> numbers that one clip of a batch keeps for one probe until the backward pass.
        buffers: parameters that are not learnt: running statistics.
        penalised: matrices that L1 and L2 penalties are taken over.
        smallest: clips of its own a batch must hold for a probe to be stepped.
        drops: drops values at a rate of its own, whatever a recipe's dropout.
        attention: (parameters of P probes, shared input) -> how each of r queries weighs the tokens [b, p, r, n]; None where
            nothing attends.
    """

    init: Callable[[int, int, torch.Generator], Parameters]
    forward: Callable[[Parameters, Tensor, Step | None], Tensor]
    normalise: Callable[..., Tensor]
    activations: Callable[[int, int], int] = lambda tokens, dim: 4 * dim
    per_token: bool = False
    buffers: frozenset[str] = frozenset()
    penalised: frozenset[str] = frozenset({"linear.weight"})
    smallest: int = 1
    drops: bool = False
    attention: Callable[[Parameters, Tensor], Tensor] | None = None


def at_least_float32(tokens: Tensor) -> Tensor:
    """Return tokens as they are, or float16 as float32."""
    return tokens.to(torch.promote_types(tokens.dtype, torch.float32))


def normal(shape: tuple[int, ...], generator: torch.Generator, std: float = 0.02) -> Tensor:
    """Draw from a normal truncated at ±2 (V-JEPA's initialisation)."""
    return torch.nn.init.trunc_normal_(torch.empty(shape), std=std, generator=generator)


def linear_layer(parameters: Parameters, name: str, x: Float[Tensor, "p b i"]) -> Float[Tensor, "p b o"]:
    """Return W x + b of every probe's own layer `name`."""
    # W is on the left so that its gradient comes out laid as W is: no copy for the optimiser.
    bias, weight = parameters[f"{name}.bias"], parameters[f"{name}.weight"]
    return torch.baddbmm(bias[:, :, None], weight, x.transpose(1, 2)).transpose(1, 2)


def affine(parameters: Parameters, name: str, x: Float[Tensor, "p b d"]) -> Float[Tensor, "p b d"]:
    """Return γ ⊙ x + β of every probe's own LayerNorm `name`, x being standardised already."""
    return x * parameters[f"{name}.weight"][:, None] + parameters[f"{name}.bias"][:, None]
