"""UniFormer for video (Li et al., arXiv 2201.04676): local convolutions first, joint space-time attention later.

Modules carry the names of the published checkpoints (Sense-X/UniFormer; BioMedIA-MBZUAI/CoReEcho), so these load as they are.
"""

import math
from functools import partial

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from echolung.encoders.networks import UniFormerConfig
from echolung.encoders.stages import Stage
from echolung.encoders.statistics import Renormalise
from echolung.errors import InputError


def to_tokens(x: Float[Tensor, "b d t h w"]) -> Float[Tensor, "b n d"]:
    """Return the cells of a feature map as tokens, t-major, then row, then column."""
    return rearrange(x, "b d t h w -> b (t h w) d")


def to_map(x: Float[Tensor, "b n d"], like: Float[Tensor, "b d t h w"]) -> Float[Tensor, "b d t h w"]:
    """Return tokens as a feature map of the size of another."""
    return x.transpose(1, 2).reshape(like.shape)


class PatchEmbed(nn.Module):
    """Reduce height and width by a convolution over patches (the first one halves time, too), and normalise each cell."""

    def __init__(self, before: int, dim: int, stride: int, halve_time: bool):
        super().__init__()
        kernel, step, padding = (3, 2, 1) if halve_time else (1, 1, 0)
        self.norm = nn.LayerNorm(dim)
        self.proj = nn.Conv3d(before, dim, (kernel, stride, stride), (step, stride, stride), (padding, 0, 0))

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b d t2 h2 w2"]:
        """Return the smaller map."""
        return self.norm(self.proj(x).movedim(1, -1)).movedim(-1, 1).contiguous()


class Mlp(nn.Module):
    """Widen fourfold, exact GELU, narrow again; dropout after both. `layer` is a linear layer or a 1×1×1 convolution."""

    def __init__(self, dim: int, layer: type[nn.Linear] | type["Pointwise"]):
        super().__init__()
        self.fc1 = layer(dim, 4 * dim)
        self.fc2 = layer(4 * dim, dim)
        self.drop = nn.Dropout(0.0)

    def forward(self, x: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        """Return each cell mapped by itself."""
        return self.drop(self.fc2(self.drop(functional.gelu(self.fc1(x)))))


class Pointwise(nn.Conv3d):
    """A 1×1×1 convolution."""

    def __init__(self, before: int, after: int):
        super().__init__(before, after, 1)


def depthwise(dim: int, size: int) -> nn.Conv3d:
    """Return a convolution of each channel by itself that keeps the size of the map."""
    return nn.Conv3d(dim, dim, size, padding=size // 2, groups=dim)


class ConvBlock(nn.Module):
    """Stages 1 and 2: position by a depthwise convolution, a local relation of 5×5×5 cells, an MLP; all residual."""

    def __init__(self, dim: int):
        super().__init__()
        self.pos_embed = depthwise(dim, 3)
        self.norm1 = nn.BatchNorm3d(dim)
        self.conv1 = Pointwise(dim, dim)
        self.attn = depthwise(dim, 5)
        self.conv2 = Pointwise(dim, dim)
        self.norm2 = nn.BatchNorm3d(dim)
        self.mlp = Mlp(dim, Pointwise)

    def forward(self, x: Float[Tensor, "b d t h w"]) -> Float[Tensor, "b d t h w"]:
        """Return the map with what the block adds to it."""
        x = x + self.pos_embed(x)
        x = x + self.conv2(self.attn(self.conv1(self.norm1(x))))
        return x + self.mlp(self.norm2(x))


class Attention(nn.Module):
    """Multi-head self-attention over all cells of a clip."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.drop = nn.Dropout(0.0)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Return what each token takes from all."""
        q, k, v = rearrange(self.qkv(x), "b n (three h d) -> three b h n d", three=3, h=self.heads)
        x = functional.scaled_dot_product_attention(q, k, v)
        return self.drop(self.proj(rearrange(x, "b h n d -> b n (h d)")))


class AttentionBlock(nn.Module):
    """Stages 3 and 4: position by a depthwise convolution, then a pre-norm transformer block."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.pos_embed = depthwise(dim, 3)
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, nn.Linear)

    def forward(self, x: Float[Tensor, "b d t h w"]) -> Float[Tensor, "b d t h w"]:
        """Return the map with what the block adds to it."""
        x = x + self.pos_embed(x)
        tokens = to_tokens(x)
        tokens = tokens + self.attn(self.norm1(tokens))
        return to_map(tokens + self.mlp(self.norm2(tokens)), x)


class UniFormer(nn.Module):
    """Frames to tokens: the cells of the last feature map after its BatchNorm. Their mean is the published feature.

    Args:
        config: its shape.
        seed: of the random weights, drawn as the published code draws them; None leaves the parameters on the meta
            device until `load_state_dict(…, assign=True)` brings them.
    """

    def __init__(self, config: UniFormerConfig, seed: int | None = 0):
        super().__init__()
        self.config = config
        self.dim = config.dims[-1]
        with torch.device("meta"):
            for number, (before, dim) in enumerate(zip((3, *config.dims), config.dims, strict=False), start=1):
                embed = PatchEmbed(before, dim, config.strides[number - 1], halve_time=number == 1)
                blocks = (
                    ConvBlock(dim) if number < 3 else AttentionBlock(dim, dim // config.head_dim)
                    for _ in range(config.depths[number - 1])
                )
                setattr(self, f"patch_embed{number}", embed)
                setattr(self, f"blocks{number}", nn.ModuleList(blocks))
            self.norm = nn.BatchNorm3d(self.dim)
        self.pos_drop = nn.Dropout(0.0)
        if seed is not None:
            initialise(self.to_empty(device="cpu"), seed)
        self.normal = Renormalise(config.statistics)

    def grid(self, frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Return the token grid (t, h, w) of a clip: half the frames, height and width over the product of the strides.

        A remainder at the right and lower edge is dropped stage by stage, as published (112 pixels: 28, 14, 7, 3).

        Raises:
            InputError: frames so small that nothing is left.
        """
        rows, columns = height, width
        for stride in self.config.strides:
            rows, columns = rows // stride, columns // stride
        if not (frames and rows and columns):
            raise InputError(
                f"Frames of {height} × {width} pixels are too small for this UniFormer, which reduces them by "
                f"{math.prod(self.config.strides)}; choose at least that many pixels a side."
            )
        return (frames + 1) // 2, rows, columns

    def forward(self, frames: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b n d"]:
        """Encode clips normalised with ImageNet's statistics; tokens t-major, then row, then column.

        Raises:
            InputError: frames that are too small.
        """
        x = frames
        for stage in self.stages():
            x = stage.run(x)
        return x

    def stages(self) -> tuple[Stage, ...]:
        """Return the four stages; the last ends with the norm, and in tokens."""

        def run(number: int, x: Tensor) -> Tensor:
            embed = getattr(self, f"patch_embed{number}")
            if number == 1:
                self.grid(*x.shape[2:])
                x = self.pos_drop(embed(self.normal(x)))
            else:
                x = embed(x)
            for block in getattr(self, f"blocks{number}"):
                x = block(x)
            return to_tokens(self.norm(x)) if number == 4 else x

        def modules(number: int) -> tuple[nn.Module, ...]:
            own = (getattr(self, f"patch_embed{number}"), getattr(self, f"blocks{number}"))
            return (*own, self.norm) if number == 4 else own

        return tuple(Stage(f"stage {number}", modules(number), partial(run, number)) for number in range(1, 5))


@torch.no_grad()
def initialise(model: nn.Module, seed: int) -> None:
    """Draw the published random weights from a seed alone, whatever the global random state.

    Linear layers N(0, .02²) and bias 0; convolutions as torch begins them, weight and bias uniform within 1/√(inputs of an
    output); norms 1 and 0. (The published truncation of the normal at ±2 is 100 standard deviations out: it never acts.)
    """
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.weight.normal_(0, 0.02, generator=generator)
            module.bias.zero_()
        elif isinstance(module, nn.Conv3d):
            bound = 1 / math.sqrt(module.weight[0].numel())
            module.weight.uniform_(-bound, bound, generator=generator)
            if module.bias is not None:
                module.bias.uniform_(-bound, bound, generator=generator)
        elif isinstance(module, nn.LayerNorm | nn.BatchNorm3d):
            module.reset_parameters()
