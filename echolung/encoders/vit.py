"""The V-JEPA 2 video transformer: frames to tokens, with 3-D rotary positions exactly as published.

Architecture: facebookresearch/vjepa2, src/models/vision_transformer.py and src/models/utils/modules.py (arXiv 2506.09985).
Parameters carry the names used there, so its checkpoints load as they are.
"""

import math
from collections.abc import Iterable
from functools import lru_cache, partial
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from echolung.encoders.sizes import VITS, ViTConfig
from echolung.encoders.stages import Stage, Tokens
from echolung.errors import InputError

__all__ = ["VITS", "ViTConfig", "VisionTransformer", "initialise", "rope_tables", "through"]


class PatchEmbed(nn.Module):
    """Cut frames into tubelets × patches and project each to a token."""

    def __init__(self, config: ViTConfig):
        super().__init__()
        kernel = (config.tubelet, config.patch, config.patch)
        self.proj = nn.Conv3d(config.channels, config.dim, kernel, stride=kernel)

    def forward(self, frames: Float[Tensor, "b c t h w"], ids: Int[Tensor, "b k"] | None) -> Float[Tensor, "b n d"]:
        # A convolution whose stride is its kernel is one matrix product over patches: cuDNN's 3-D kernels are far
        # slower in bfloat16, and hidden patches need no product at all.
        tubelet, patch, _ = self.proj.kernel_size
        patches = rearrange(frames, "b c (t u) (h p) (w q) -> b (t h w) (c u p q)", u=tubelet, p=patch, q=patch)
        if ids is not None:
            patches = patches.gather(1, ids[..., None].expand(-1, -1, patches.shape[-1]))
        return functional.linear(patches, self.proj.weight.flatten(1), self.proj.bias)


@lru_cache(maxsize=8)
def rope_tables(
    grid: tuple[int, int, int], head_dim: int, device: torch.device, dtype: torch.dtype
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
    """Return the cosines and signed sines that `rotate` uses, one row a token of the grid (t, h, w), t-major.

    The channels of a head are split into depth | height | width | rest, each of the three 2·⌊⌊head_dim / 3⌋ / 2⌋ wide;
    the rest stays unrotated. Channel j of a segment of n turns by p·10000^(−(j mod n/2)/(n/2)) at position p (an index,
    never interpolated). Published frequencies are *tiled* (ω₀ … ω₉ ω₀ … ω₉) although channels are paired with their
    neighbour, so the two of a pair turn by different angles and the result is no rotation. That is a slip in the
    published code (its authors keep it, facebookresearch/vjepa2#15), but the released weights were trained with it.
    """
    half = head_dim // 3 // 2
    # Tables outlive the call that first needs them: made under inference_mode they could not serve training later.
    with torch.inference_mode(False):
        frequencies = 10000.0 ** -(torch.arange(half, dtype=torch.float64, device="cpu") / half)
        axes = [torch.arange(size, dtype=torch.float64, device="cpu") for size in grid]
        positions = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)
        angles = rearrange(positions[..., None] * frequencies.repeat(2), "part n s -> n (part s)")
        angles = functional.pad(angles, (0, head_dim - 6 * half))
        signs = torch.tensor([-1.0, 1.0], dtype=torch.float64, device="cpu").repeat(head_dim // 2)
        return angles.cos().to(device, dtype), (angles.sin() * signs).to(device, dtype)


Rope = tuple[Tensor, Tensor]


def rotate(x: Float[Tensor, "b n qk h d"], rope: Rope) -> Float[Tensor, "b n qk h d"]:
    """Turn queries and keys by the tables of `rope_tables`: x·cos + (−x₁, x₀, −x₃, x₂, …)·sin, the sign in the table."""
    cos, sin = (table[..., None, None, :] for table in rope)
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.addcmul(x * cos, torch.stack((odd, even), dim=-1).flatten(-2), sin)


class Attention(nn.Module):
    """Multi-head self-attention whose queries and keys are turned by their positions."""

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.dim, 3 * config.dim)
        self.proj = nn.Linear(config.dim, config.dim)

    def forward(self, x: Float[Tensor, "b n d"], rope: Rope) -> Float[Tensor, "b n d"]:
        # Turned before the heads are moved forward, and both at once: memory is then read in order (2–4 × faster).
        qkv = rearrange(self.qkv(x), "b n (three h d) -> b n three h d", three=3, h=self.heads)
        q, k = rearrange(rotate(qkv[:, :, :2], rope), "b n qk h d -> qk b h n d")
        x = functional.scaled_dot_product_attention(q, k, qkv[:, :, 2].transpose(1, 2))
        return self.proj(rearrange(x, "b h n d -> b n (h d)"))


class Mlp(nn.Module):
    """Linear, exact GELU, linear."""

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.fc1 = nn.Linear(config.dim, config.mlp)
        self.fc2 = nn.Linear(config.mlp, config.dim)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        return self.fc2(functional.gelu(self.fc1(x)))


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.norm1 = nn.LayerNorm(config.dim, eps=1e-6)
        self.attn = Attention(config)
        self.norm2 = nn.LayerNorm(config.dim, eps=1e-6)
        self.mlp = Mlp(config)

    def forward(self, x: Float[Tensor, "b n d"], rope: Rope) -> Float[Tensor, "b n d"]:
        x = x + self.attn(self.norm1(x), rope)
        return x + self.mlp(self.norm2(x))


def through(
    blocks: Iterable[nn.Module], x: Float[Tensor, "b n d"], rope: Rope, checkpointing: bool
) -> Float[Tensor, "b n d"]:
    """Send tokens through blocks; with `checkpointing` a block keeps its input alone and computes the rest again."""
    for block in blocks:
        if checkpointing and torch.is_grad_enabled():
            x = checkpoint(block, x, rope, use_reentrant=False, preserve_rng_state=False)
        else:
            x = block(x, rope)
    return x


class VisionTransformer(nn.Module):
    """Frames to tokens. No class token, no added position, no pooling; a LayerNorm at the end.

    Args:
        config: its shape.
        seed: of the random weights (`initialise`); None leaves the parameters on the meta device, where they take no
            memory, until `load_state_dict(…, assign=True)` brings them.

    Attributes:
        checkpointing: compute activations again on the way back rather than keep them. Same numbers, less memory.
    """

    def __init__(self, config: ViTConfig, seed: int | None = 0):
        super().__init__()
        self.config = config
        self.dim = config.dim
        self.checkpointing = False
        with torch.device("meta"):
            self.patch_embed = PatchEmbed(config)
            self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
            self.norm = nn.LayerNorm(config.dim, eps=1e-6)
        if seed is not None:
            initialise(self.to_empty(device="cpu"), self.blocks, seed)

    def grid(self, frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Return the token grid (t, h, w) of a clip; its product is the number of tokens.

        Raises:
            InputError: the clip does not divide into whole tubelets and patches.
        """
        tubelet, patch = self.config.tubelet, self.config.patch
        if frames < 1 or frames % tubelet or height < 1 or height % patch or width < 1 or width % patch:
            raise InputError(
                f"A clip of {frames} frames of {height} × {width} pixels does not divide into the encoder's tubelets of "
                f"{tubelet} frames and patches of {patch} × {patch} pixels. Choose multiples of these."
            )
        return frames // tubelet, height // patch, width // patch

    def forward(
        self, frames: Float[Tensor, "b c t h w"], ids: Int[Tensor, "b k"] | None = None
    ) -> Float[Tensor, "b n d"]:
        """Encode clips, or only some of their tokens.

        Args:
            frames: normalised frames.
            ids: the visible tokens of each clip, as indices into its t-major token grid; the others are not computed
                and not attended to. None for all of them.

        Returns:
            tokens, t-major, then row, then column; with `ids` n = k, in their order.

        Raises:
            InputError: wrong number of channels, or a clip that does not divide into tubelets and patches.
        """
        _, channels, *size = frames.shape
        if channels != self.config.channels:
            raise InputError(f"The encoder takes frames of {self.config.channels} channels; these have {channels}.")
        grid = self.grid(*size)
        x = self.patch_embed(frames, ids)
        rope = rope_tables(grid, self.dim // self.config.heads, x.device, x.dtype)
        if ids is not None:
            rope = rope[0][ids], rope[1][ids]
        return self.norm(through(self.blocks, x, rope, self.checkpointing))

    def stages(self) -> tuple[Stage, ...]:
        """Return the patch embedding and the blocks, the last with the norm; between them `Tokens`."""

        def embed(frames: Tensor) -> Tokens:
            return Tokens(self.patch_embed(frames, None), self.grid(*frames.shape[2:]))

        def block(number: int, x: Tokens) -> Any:
            rope = rope_tables(x.grid, self.dim // self.config.heads, x.values.device, x.values.dtype)
            values = through([self.blocks[number]], x.values, rope, self.checkpointing)
            return self.norm(values) if number == len(self.blocks) - 1 else Tokens(values, x.grid)

        def modules(number: int) -> tuple[nn.Module, ...]:
            own = (self.blocks[number],)
            return (*own, self.norm) if number == len(self.blocks) - 1 else own

        return (
            Stage("embed", (self.patch_embed,), embed),
            *(
                Stage(f"block {number + 1}", modules(number), partial(block, number))
                for number in range(len(self.blocks))
            ),
        )


@torch.no_grad()
def initialise(model: nn.Module, blocks: Iterable[Any], seed: int) -> None:
    """Draw the published random weights from a seed alone, whatever the global random state.

    Weights N(0, .02²), biases 0, LayerNorm 1 and 0; the last matrix of each residual branch of block i (from 1) is
    divided by √(2i). (The published truncation at ±2 is 100 standard deviations out: it never acts.)
    """
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv3d):
            module.weight.normal_(0, 0.02, generator=generator)
        elif isinstance(module, nn.LayerNorm):
            module.weight.fill_(1)
        if isinstance(bias := getattr(module, "bias", None), Tensor):
            bias.zero_()
    for number, block in enumerate(blocks, start=1):
        block.attn.proj.weight /= math.sqrt(2 * number)
        block.mlp.fc2.weight /= math.sqrt(2 * number)
