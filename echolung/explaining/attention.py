"""How much of a clip's attention each of its tokens gets, as the mean token sees it."""

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from echolung.encoders import uniformer, vit
from echolung.encoders.stages import stages_of
from echolung.errors import InputError
from echolung.explaining.halfway import LAST, Halfway, find_stage, go_halfway
from echolung.text import listed

KINDS = (vit.Attention, uniformer.Attention)


@torch.no_grad()
def attention_map(
    model: nn.Module, frames: Float[Tensor, "1 c t h w"], *, stage: str = LAST, rollout: bool = False
) -> tuple[Float[Tensor, "t2 h2 w2"], Halfway]:
    """Return each token's share of the attention, and where in the model and the clip the tokens are.

    There is no class token: a clip's embedding is the mean of its tokens. A token's share is therefore what all queries of
    the stage's last block give to it, the mean over queries and heads. With `rollout` the shares go on back through the
    blocks below, half of them along the residual path each time (Abnar and Zuidema, "Quantifying Attention Flow in
    Transformers", ACL 2020), as far as the tokens stay the same.

    Args:
        model: a VisionTransformer or a UniFormer, in eval mode.
        frames: a normalised clip.
        stage: whose last block.
        rollout: through all blocks below, too.

    Returns:
        shares, which sum to 1.

    Raises:
        InputError: no such stage, or one without attention.
    """
    last, stages = find_stage(model, stage), stages_of(model)
    kinds = [[m for part in each.modules for m in part.modules() if isinstance(m, KINDS)] for each in stages]
    if not kinds[last]:
        having = listed(each.name for each, found in zip(stages, kinds, strict=True) if found)
        raise InputError(
            f"The stage {stages[last].name!r} of this encoder has no self-attention that could be shown. "
            + (f"These have: {having}." if having else "Use --method grad-cam.")
        )
    seen: list[tuple[Any, tuple[Any, ...]]] = []
    hooks = [
        module.register_forward_pre_hook(lambda module, given: seen.append((module, given)))
        for found in kinds[: last + 1]
        for module in found
    ]
    try:
        halfway = go_halfway(model, frames, stage)
    finally:
        for hook in hooks:
            hook.remove()
    count = halfway.cells[0, 0].numel()
    shares = frames.new_full((count,), 1 / count)
    if not rollout:
        return pass_back(shares, *seen[-1]).reshape(halfway.cells.shape[2:]), halfway
    for module, given in reversed(seen):
        if given[0].shape[1] != count:
            break  # a finer stage of a UniFormer
        shares = (shares + pass_back(shares, module, given)) / 2
    return shares.reshape(halfway.cells.shape[2:]), halfway


def pass_back(shares: Float[Tensor, " n"], module: Any, given: tuple[Any, ...]) -> Float[Tensor, " n"]:
    """Return what tokens get where query i gives away `shares[i]`: the mean over heads, one of which is held at a time."""
    heads = [shares @ weights(module, given, head) for head in range(module.heads)]
    return torch.stack(heads).mean(0)


def weights(module: Any, given: tuple[Any, ...], head: int) -> Float[Tensor, "n n"]:
    """Return one head's softmax, a row a query, of an attention module and what it was given (tokens; a ViT's positions)."""
    tokens, *rope = given
    qk = rearrange(module.qkv(tokens), "1 n (three h d) -> 1 n three h d", three=3, h=module.heads)[:, :, :2]
    q, k = (vit.rotate(qk, rope[0]) if rope else qk)[0, :, :, head].unbind(1)
    return (q @ k.T / q.shape[-1] ** 0.5).softmax(-1)
