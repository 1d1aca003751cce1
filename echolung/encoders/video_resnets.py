"""torchvision's 3-D ResNets of 18 layers (Tran et al., arXiv 1711.11248), as EchoNet-Dynamic trains them, without classifier."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models import video

from echolung.encoders.networks import VideoResNetConfig
from echolung.encoders.stages import Stage
from echolung.encoders.statistics import Renormalise
from echolung.encoders.uniformer import to_tokens
from echolung.errors import InputError

LAYERS = ("layer1", "layer2", "layer3", "layer4")


class VideoResNet(nn.Module):
    """Frames to tokens: the cells of the last feature map. Their mean is the pooled feature of 512 numbers.

    Args:
        config: which of the three.
        seed: of the random weights, drawn by torchvision's own initialisation; None leaves the parameters on the meta
            device until `load_state_dict(…, assign=True)` brings them.
    """

    dim = 512

    def __init__(self, config: VideoResNetConfig, seed: int | None = 0):
        super().__init__()
        self.config = config
        # torchvision draws from the global random state; borrow it, and give it back as it was.
        with torch.random.fork_rng(devices=[]), torch.device("meta" if seed is None else "cpu"):
            torch.manual_seed(seed or 0)
            whole: Any = getattr(video, config.name)(weights=None)
        self.stem = whole.stem
        for name in LAYERS:
            setattr(self, name, getattr(whole, name))
        self.normal = Renormalise(config.statistics)

    def grid(self, frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Return the token grid (t, h, w) of a clip: a sixteenth of height and width, an eighth of time, rounded up.

        mc3_18 convolves over time in its first layer alone and keeps every frame.

        Raises:
            InputError: an empty clip.
        """
        if min(frames, height, width) < 1:
            raise InputError(f"A clip of {frames} frames of {height} × {width} pixels is empty.")
        time = frames if self.config.name == "mc3_18" else -(-frames // 8)
        return time, -(-height // 16), -(-width // 16)

    def forward(self, frames: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b n d"]:
        """Encode clips normalised with ImageNet's statistics; tokens t-major, then row, then column."""
        x = frames
        for stage in self.stages():
            x = stage.run(x)
        return x

    def stages(self) -> tuple[Stage, ...]:
        """Return stem and layers 1 … 4; the last ends in tokens."""
        layers = [getattr(self, name) for name in LAYERS]
        return (
            Stage("stem", (self.stem,), lambda frames: self.stem(self.normal(frames))),
            *(Stage(f"layer {number}", (layer,), layer) for number, layer in enumerate(layers[:-1], start=1)),
            Stage("layer 4", (layers[-1],), lambda x: to_tokens(layers[-1](x))),
        )
