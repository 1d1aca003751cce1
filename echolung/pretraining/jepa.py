"""V-JEPA 2's objective: predict what an averaged copy of the encoder makes of the hidden part of a clip."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import get_ema_multi_avg_fn

from echolung.encoders.vit import VisionTransformer
from echolung.pretraining.predictor import Predictor


class Losses(NamedTuple):
    """What a batch gives.

    Attributes:
        loss: to descend, float32.
        predicted: z of the first generator, detached.
        wanted: h of the first generator.
    """

    loss: Float[Tensor, ""]
    predicted: Float[Tensor, "b m d"]
    wanted: Float[Tensor, "b m d"]


class Jepa(nn.Module):
    """Encoder, predictor and target encoder.

    Args:
        encoder: sees the context only.
        predictor: guesses the target tokens.
        target: sees the whole clip; follows the encoder by `update_target`, never by a gradient.
    """

    def __init__(self, encoder: VisionTransformer, predictor: Predictor, target: VisionTransformer):
        super().__init__()
        self.encoder = encoder
        self.predictor = predictor
        self.target = target.requires_grad_(False)

    def forward(
        self,
        frames: Float[Tensor, "b c t h w"],
        contexts: list[Int[Tensor, "b _"]],
        targets: list[Int[Tensor, "b _"]],
        weights: Float[Tensor, " b"],
    ) -> Losses:
        """Return Σᵢ weightsᵢ · ℓᵢ, where ℓᵢ is the mean of |z − h| over generators, target tokens and channels.

        h is the target encoder's output on the whole clip, normalised over channels without affine parameters; z is what
        the predictor makes of the encoder's output on the context (arXiv 2506.09985, eq. 1; facebookresearch/vjepa2,
        app/vjepa/train.py).

        Args:
            frames: normalised clips.
            contexts: ids of the visible tokens, an entry a generator.
            targets: ids of the tokens to predict, an entry a generator.
            weights: of the clips in the loss: 1 / b for the mean, 0 for a clip that could not be read.
        """
        grid = self.encoder.grid(*frames.shape[2:])
        with torch.no_grad():
            tokens = functional.layer_norm(_at_least_float32(self.target(frames)), (self.target.dim,), eps=1e-5)
        predicted, wanted, losses = [], [], []
        for context, target in zip(contexts, targets, strict=True):
            z = self.predictor(self.encoder(frames, context), context, target, grid)
            h = tokens.gather(1, target[..., None].expand(-1, -1, tokens.shape[-1]))
            losses.append((_at_least_float32(z) - h).abs().mean((1, 2)))
            predicted.append(z.detach())
            wanted.append(h)
        return Losses((weights * torch.stack(losses).mean(0)).sum(), predicted[0], wanted[0])

    def update_target(self, momentum: float) -> None:
        """Move the target's parameters to momentum · target + (1 − momentum) · encoder."""
        average = get_ema_multi_avg_fn(momentum)
        average(list(self.target.parameters()), list(self.encoder.parameters()), 0)

    def parameter_groups(self, weight_decay: float) -> list[dict]:
        """Return the trained parameters as two groups for an optimiser: matrices, which decay, and the rest, which do not.

        Mask tokens count as matrices, as published; those that are not trained are in neither group.
        """
        trained = [
            (name, parameter)
            for module in (self.encoder, self.predictor)
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
        ]
        decays = [parameter.ndim > 1 and not name.endswith("bias") for name, parameter in trained]
        return [
            {
                "params": [parameter for (_, parameter), other in zip(trained, decays, strict=True) if other is decay],
                "weight_decay": weight_decay if decay else 0.0,
            }
            for decay in (True, False)
        ]


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
