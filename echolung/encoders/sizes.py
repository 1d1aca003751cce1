"""The shapes of the V-JEPA 2 video transformer, free of torch so that an encoder can be named without loading it."""

from dataclasses import dataclass

from echolung.errors import InputError


@dataclass(frozen=True)
class ViTConfig:
    """The shape of a video transformer; everything about it besides its weights.

    Attributes:
        dim: width of a token.
        depth: number of blocks.
        heads: attention heads a block.
        mlp: hidden width of the MLP of a block.
        patch: side of a patch in pixels.
        tubelet: frames that one token spans.
        channels: colour channels of a frame.
    """

    dim: int
    depth: int
    heads: int
    mlp: int
    patch: int = 16
    tubelet: int = 2
    channels: int = 3

    def __post_init__(self) -> None:
        if wrong := [name for name, value in self.__dict__.items() if value < 1]:
            raise InputError(f"A video transformer needs positive sizes; {', '.join(wrong)} of {self} is not.")
        if self.dim % (2 * self.heads):
            raise InputError(f"{self.heads} heads do not divide a width of {self.dim} into an even number of channels.")


# facebookresearch/vjepa2, src/models/vision_transformer.py. Its giant is `vit_giant_xformers`: the released weights have
# 22 heads of 64, not the 16 of 88 that the plain `vit_giant` there would build from the same tensors.
VITS = {
    "vit_tiny": ViTConfig(dim=192, depth=12, heads=3, mlp=768),
    "vit_small": ViTConfig(dim=384, depth=12, heads=6, mlp=1536),
    "vit_base": ViTConfig(dim=768, depth=12, heads=12, mlp=3072),
    "vit_large": ViTConfig(dim=1024, depth=24, heads=16, mlp=4096),
    "vit_huge": ViTConfig(dim=1280, depth=32, heads=16, mlp=5120),
    "vit_giant": ViTConfig(dim=1408, depth=40, heads=22, mlp=6144),
}

HEADS = {config.dim: config.heads for config in VITS.values()}
"""Heads by width, for checkpoints that do not say (no tensor's shape depends on the number of heads)."""

INIT_VERSION = 1
"""Raised whenever the same seed would give other random weights."""
