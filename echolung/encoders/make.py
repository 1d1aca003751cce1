"""A network from its shape: random weights that follow from a seed alone, or none yet."""

from torch import nn

from echolung.encoders.networks import NetworkConfig, ResNet3dConfig, TimmConfig, UniFormerConfig
from echolung.encoders.sizes import ViTConfig


def make(config: ViTConfig | NetworkConfig, seed: int | None = 0) -> nn.Module:
    """Return a network of the shape `config`; `make(model.config, seed)` is the random twin of any model of echolung.

    Args:
        config: of any architecture.
        seed: of the random weights, whatever the global random state; None: without, until a state dict brings them.
    """
    # Each import costs time that the others need not pay (timm: seconds).
    if isinstance(config, ViTConfig):
        from echolung.encoders.vit import VisionTransformer

        return VisionTransformer(config, seed)
    if isinstance(config, UniFormerConfig):
        from echolung.encoders.uniformer import UniFormer

        return UniFormer(config, seed)
    if isinstance(config, ResNet3dConfig):
        from echolung.encoders.resnet3d import ResNet3d

        return ResNet3d(config, seed)
    if isinstance(config, TimmConfig):
        from echolung.encoders.timm_frames import TimmFrames

        return TimmFrames(config.name, seed or 0)
    from echolung.encoders.video_resnets import VideoResNet

    return VideoResNet(config, seed)
