"""Rank-N-Contrast: embeddings that lie in the order of their labels, in O(n² log n) time and O(n²) memory."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

SAME = 1e-14
"""Embeddings count as the same below this square of their distance over the sum of theirs: float32 knows no better."""


def rank_n_contrast(
    embeddings: Float[Tensor, "n d"],
    labels: Float[Tensor, " n"],
    temperature: int | float,
    valid: Bool[Tensor, " n"] | None = None,
) -> Float[Tensor, ""]:
    """Return the mean over i and j ≠ i of log Σ_k exp(s_ik) − s_ij, over all k ≠ i with d_ik ≥ d_ij, j and its ties among them.

    s_ij = −‖z_i − z_j‖ / temperature, of embeddings as they are; d_ij = |y_i − y_j| (Zha et al., "Rank-N-Contrast", NeurIPS
    2023, arXiv 2210.01189, equation 2; CoReEcho's loss.py). With two clips all is settled and the loss 0.

    Args:
        embeddings: z, of all clips of a batch; computed with in float32 or more, also under autocast.
        labels: y.
        temperature: above 0.
        valid: clips that take part; None: all. With fewer than two the loss is 0, and so is its gradient.
    """
    if valid is not None:
        embeddings, labels = embeddings[valid], labels[valid]
    if len(labels) < 2:
        return embeddings[:0].float().sum()
    with torch.autocast(embeddings.device.type, enabled=False):
        z = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
        similarity = _Distances.apply(z) / -temperature
        # The farthest label first, the clip itself last. Then S_ij is all that comes up to the last tie of j.
        nearness = -(labels[:, None] - labels).abs()
        nearness.fill_diagonal_(torch.inf)
        nearness, order = (both[:, :-1] for both in nearness.sort(1))
        last = torch.searchsorted(nearness.contiguous(), nearness.contiguous(), right=True) - 1
        ranked = similarity.gather(1, order)
        ranked = ranked - ranked.detach().amax(1, keepdim=True)  # changes nothing but the rounding
        return (ranked.logcumsumexp(1).gather(1, last) - ranked).mean()


class _Distances(torch.autograd.Function):
    """‖z_i − z_j‖ with a derivative of 0 where embeddings coincide, by products of matrices both ways.

    torch.cdist does so in float32, where |a|² + |b|² − 2ab loses small distances (in TF32 most); by differences it takes
    three times as long as all the rest of the loss, and n² · d numbers on a GPU's way back.
    """

    @staticmethod
    def forward(ctx: Any, z: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
        centred = _double(z)
        squares = centred.square().sum(1)
        around = squares[:, None] + squares
        apart = around - 2 * (centred @ centred.T)
        apart[apart < SAME * around] = 0
        distances = apart.fill_diagonal_(0).sqrt().to(z)
        ctx.save_for_backward(z, distances)
        return distances

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Float[Tensor, "n n"]) -> Float[Tensor, "n d"]:
        # Σ_j w_ij (z_i − z_j)
        z, distances = ctx.saved_tensors
        weights = torch.where(distances > 0, gradient / distances, 0.0)
        weights, centred = (weights + weights.T).to(_place(z), torch.float64), _double(z)
        return (weights.sum(1, keepdim=True) * centred - weights @ centred).to(z)


def _double(z: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Return embeddings in float64 around their mean."""
    z = z.to(_place(z), torch.float64)
    return z - z.mean(0)


def _place(z: Tensor) -> torch.device:
    """Return where float64 is to be had: not on Apple's GPUs."""
    return torch.device("cpu") if z.device.type == "mps" else z.device
