"""Numbers that show a representation collapsing long before a probe does: effective rank, spread, what the context holds."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from echolung.pretraining.masks import Masks

ROWS = 4096
"""Token rows looked at; evenly spaced where there are more."""


@torch.no_grad()
def gauges(predicted: Float[Tensor, "b m d"], wanted: Float[Tensor, "b m d"]) -> dict[str, float]:
    """Return the effective rank of predictions and targets, and their standard deviation, a mean over channels.

    A healthy target has a rank in the tens or hundreds; towards 1, or with a spread towards 0, it has collapsed: all clips
    look the same, and the loss falls for the wrong reason. A spread of predictions far below that of the targets is no
    collapse: what cannot be known is predicted by its median.
    """
    found: dict[str, float] = {}
    for name, tokens in (("wanted", wanted), ("predicted", predicted)):
        rows = _some(tokens.flatten(0, 1))
        found[f"effective_rank_{name}"] = effective_rank(rows)
        found[f"std_{name}"] = float(_double(rows).std(0, correction=0).mean())
    return found


def effective_rank(rows: Float[Tensor, "n d"]) -> float:
    """Return exp(−Σ pᵢ ln pᵢ) of the singular values of the centred rows, normalised to Σ pᵢ = 1.

    From 1, all variation along one direction (or none at all: constant rows), to min(n − 1, d), the same along each.
    Roy & Vetterli, "The effective rank", EUSIPCO 2007; as a measure of representations without labels RankMe, Garrido et
    al., ICML 2023 (arXiv 2210.02885), which does not centre. NaN where a value is not finite.
    """
    # Singular values are roots of the small Gram matrix's eigenvalues. In float32 its rounding, 1e-7 of the largest
    # eigenvalue, would be 3e-4 of the largest singular value in each of a thousand directions: a collapsed representation
    # would seem to have a rank of ten.
    rows = _double(rows)
    if not rows.isfinite().all():
        return float("nan")
    rows = rows - rows.mean(0)
    gram = rows.T @ rows if rows.shape[0] >= rows.shape[1] else rows @ rows.T
    values = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    # The rounding of float64 itself.
    values = values[values > 1e-7 * values.max()]
    share = values / values.sum()
    return float(torch.special.entr(share).sum().exp())


def context_shares(masks: Sequence[Masks], grid: tuple[int, int, int]) -> dict[str, float | list[float]]:
    """Return, for generator i, how much the encoder sees: `context_share_i` and `context_slots_i`.

    Args:
        masks: of one step, one a generator.
        grid: of the tokens, (t, h, w).

    Returns:
        the visible share of all tokens, and the mean number of visible tokens in each of the t time slots.
    """
    slots, tokens = grid[0], grid[1] * grid[2]
    found: dict[str, float | list[float]] = {}
    for i, mask in enumerate(masks):
        clips, visible = mask.context.shape
        counts = np.bincount((mask.context // tokens).ravel(), minlength=slots) / clips
        found[f"context_share_{i}"] = visible / (slots * tokens)
        found[f"context_slots_{i}"] = [float(count) for count in counts]
    return found


def _double(rows: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Return the rows in float64, which Apple's GPUs do not have: on the processor then."""
    return (rows.cpu() if rows.device.type == "mps" else rows).double()


def _some(rows: Float[Tensor, "n d"]) -> Float[Tensor, "k d"]:
    """Return at most `ROWS` of the rows, evenly spaced."""
    count = len(rows)
    if count <= ROWS:
        return rows
    return rows[torch.arange(ROWS, device=rows.device) * count // ROWS]
