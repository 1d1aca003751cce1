"""The predictor of V-JEPA 2: a narrow transformer that guesses hidden tokens from the visible ones.

Architecture: facebookresearch/vjepa2, src/models/predictor.py. Parameters carry the names used there.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from echolung.encoders.sizes import ViTConfig
from echolung.encoders.vit import Block, initialise, rope_tables, through
from echolung.pretraining.plans import PredictorPlan


class Predictor(nn.Module):
    """Visible tokens to hidden ones.

    A mask token stands at each hidden place and learns from the visible tokens what belongs there. All of a place is in
    its rotary angles, so tokens need no order: the visible come first, then the hidden (published code sorts them by
    place and back again, to the same end).

    Args:
        config: its shape. Mask tokens beyond the first only hold a checkpoint's place: they are never trained.
        encoder_dim: width of the encoder's tokens.
        seed: of the random weights (as the encoder's; mask tokens zero); None leaves the parameters on the meta device.
    """

    def __init__(self, config: PredictorPlan, encoder_dim: int, seed: int | None = 0):
        super().__init__()
        shape = ViTConfig(dim=config.dim, depth=config.depth, heads=config.heads, mlp=4 * config.dim)
        self.config = config
        self.checkpointing = False
        with torch.device("meta"):
            self.predictor_embed = nn.Linear(encoder_dim, config.dim)
            self.mask_tokens = nn.ParameterList(
                nn.Parameter(torch.zeros(1, 1, config.dim), requires_grad=index == 0)
                for index in range(config.mask_tokens)
            )
            self.predictor_blocks = nn.ModuleList(Block(shape) for _ in range(config.depth))
            self.predictor_norm = nn.LayerNorm(config.dim, eps=1e-6)
            self.predictor_proj = nn.Linear(config.dim, encoder_dim)
        if seed is not None:
            initialise(self.to_empty(device="cpu"), self.predictor_blocks, seed)
            for token in self.mask_tokens:
                nn.init.zeros_(token)

    def forward(
        self,
        context: Float[Tensor, "b k d"],
        context_ids: Int[Tensor, "b k"],
        target_ids: Int[Tensor, "b m"],
        grid: tuple[int, int, int],
        mask_index: int = 0,
    ) -> Float[Tensor, "b m d"]:
        """Predict tokens.

        Args:
            context: the encoder's visible tokens.
            context_ids: their indices in the clip's t-major token grid.
            target_ids: indices of the tokens wanted.
            grid: the clip's token grid (t, h, w).
            mask_index: the mask token used; training with one clip length uses the first (published as well).

        Returns:
            the encoder-wide tokens at `target_ids`, in their order.
        """
        x = self.predictor_embed(context)
        masks = self.mask_tokens[mask_index].to(x.dtype).expand(*target_ids.shape, -1)
        x = torch.cat([x, masks], dim=1)
        ids = torch.cat([context_ids, target_ids], dim=1)
        cos, sin = rope_tables(grid, self.config.dim // self.config.heads, x.device, x.dtype)
        x = through(self.predictor_blocks, x, (cos[ids], sin[ids]), self.checkpointing)
        return self.predictor_proj(self.predictor_norm(x[:, context_ids.shape[1] :]))
