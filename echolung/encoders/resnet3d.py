"""Pre-activation 3-D ResNets over grey frames and their optical flow, one stream or two, as the EF < 50 classifier has them.

Facts of dannilin2601/cardiac_classification, which is Keras: its padding, BatchNorm and initialisation are kept.
"""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from echolung.clips.flow import flow
from echolung.encoders.networks import STATISTICS, ResNet3dConfig
from echolung.encoders.stages import Stage
from echolung.encoders.uniformer import to_tokens
from echolung.errors import InputError

CHANNELS = {"grey": 1, "flow": 2}
LUMA = (0.299, 0.587, 0.114)
"""Of red, green and blue (ITU-R BT.601); frames with three equal channels come out as they are."""


class SameConv3d(nn.Conv3d):
    """A convolution that pads with zeros as Keras's "same": to ⌈size / stride⌉, an odd rest at the far end.

    Torch pads both ends alike, which moves each window by a cell where the stride is 2 and the size even.
    """

    def __init__(self, before: int, after: int, size: int, stride: int = 1):
        super().__init__(before, after, size, stride)

    def forward(self, input: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b d t2 h2 w2"]:  # noqa: A002 (torch's name)
        """Return the padded map, convolved."""
        size, stride = self.kernel_size[0], self.stride[0]
        pads: list[int] = []
        for length in reversed(input.shape[2:]):
            total = max((math.ceil(length / stride) - 1) * stride + size - length, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(functional.pad(input, pads) if any(pads) else input)


def batch_norm(dim: int) -> nn.BatchNorm3d:
    """Return a BatchNorm with Keras's defaults (torch counts momentum from the other end)."""
    return nn.BatchNorm3d(dim, eps=1e-3, momentum=0.01)


class PreActivation(nn.Sequential):
    """BatchNorm, ReLU, dropout, convolution."""

    def __init__(self, before: int, after: int, size: int, stride: int = 1):
        super().__init__()
        self.bn = batch_norm(before)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(0.0)
        self.conv = SameConv3d(before, after, size, stride)


class Block(nn.Module):
    """A residual block: two 3×3×3 convolutions, or 1, 3, 1 as a bottleneck; a 1×1×1 projection where the shape changes.

    The stride is that of the first convolution. The first block of a stream follows BatchNorm and ReLU and has none itself.
    """

    def __init__(self, before: int, width: int, stride: int, bottleneck: bool, first: bool):
        super().__init__()
        after = 4 * width if bottleneck else width
        widths, sizes = ((width, width, after), (1, 3, 1)) if bottleneck else ((width, after), (3, 3))
        begin = SameConv3d if first else PreActivation
        layers: list[nn.Module] = [begin(before, widths[0], sizes[0], stride)]
        layers += [PreActivation(a, b, size) for a, b, size in zip(widths, widths[1:], sizes[1:], strict=False)]
        self.layers = nn.Sequential(*layers)
        changes = stride > 1 or before != after
        self.shortcut = SameConv3d(before, after, 1, stride) if changes else nn.Identity()

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b d t2 h2 w2"]:
        """Return the shortcut plus what the convolutions add."""
        return self.shortcut(x) + self.layers(x)


class Stream(nn.Module):
    """A pre-activation ResNet without its classifier: a stem and four layers, BatchNorm and ReLU at the end of the last."""

    def __init__(self, channels: int, config: ResNet3dConfig):
        super().__init__()
        self.stem = nn.Sequential(
            SameConv3d(channels, config.widths[0], 7, 2),
            batch_norm(config.widths[0]),
            nn.ReLU(),
            nn.MaxPool3d(3, stride=1, padding=1),
        )
        before = config.widths[0]
        for number, (width, depth) in enumerate(zip(config.widths, config.depths, strict=True), start=1):
            blocks: list[nn.Module] = []
            for index in range(depth):
                stride = 2 if number > 1 and index == 0 else 1
                blocks.append(Block(before, width, stride, config.bottleneck, first=number == 1 and index == 0))
                before = 4 * width if config.bottleneck else width
            end = [batch_norm(before), nn.ReLU()] if number == 4 else []
            setattr(self, f"layer{number}", nn.Sequential(*blocks, *end))


class ResNet3d(nn.Module):
    """Frames to tokens: the cells of the last feature maps, those of the streams side by side in one token.

    The flow is OpenCV's Farnebäck flow between consecutive grey frames, computed within and without gradient: t frames have
    t − 1 fields. Both streams halve time four times, rounding up, so their maps are equally long, and one grid of tokens
    holds both; the mean over tokens is then the pooled features of the streams one after the other. Only where t is one
    more than a multiple of 16 has the grey map one cell more in time; the last cell of the flow map is then repeated.

    Args:
        config: its shape.
        seed: of the random weights (He's normal, truncated at two standard deviations, as in Keras); None leaves the
            parameters on the meta device until `load_state_dict(…, assign=True)` brings them.
    """

    def __init__(self, config: ResNet3dConfig, seed: int | None = 0):
        super().__init__()
        self.config = config
        self.dim = len(config.streams) * (4 if config.bottleneck else 1) * config.widths[-1]
        with torch.device("meta"):
            self.streams = nn.ModuleDict({name: Stream(CHANNELS[name], config) for name in config.streams})
        if seed is not None:
            initialise(self.to_empty(device="cpu"), seed)

    def grid(self, frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Return the token grid (t, h, w) of a clip: a sixteenth of its frames, height and width, rounded up.

        Raises:
            InputError: too few frames for optical flow.
        """
        if frames < len(self.config.streams) or height < 1 or width < 1:
            raise InputError(
                f"A clip of {frames} frames of {height} × {width} pixels cannot be encoded: optical flow needs two frames."
            )
        return math.ceil(frames / 16), math.ceil(height / 16), math.ceil(width / 16)

    def forward(self, frames: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b n d"]:
        """Encode clips normalised with ImageNet's statistics; tokens t-major, then row, then column.

        Raises:
            InputError: too few frames for optical flow.
        """
        x: Any = frames
        for stage in self.stages():
            x = stage.run(x)
        return x

    def stages(self) -> tuple[Stage, ...]:
        """Return stem and layers 1 … 4, each of all streams; between them a tuple of maps, one a stream."""
        streams: Any = tuple(self.streams.values())

        def stem(frames: Tensor) -> tuple[Tensor, ...]:
            self.grid(*frames.shape[2:])
            return tuple(stream.stem(x) for stream, x in zip(streams, self.inputs(frames), strict=True))

        def layers(number: int) -> tuple[nn.Module, ...]:
            return tuple(getattr(stream, f"layer{number}") for stream in streams)

        def through(number: int, maps: tuple[Tensor, ...]) -> Any:
            maps = tuple(layer(x) for layer, x in zip(layers(number), maps, strict=True))
            return to_tokens(_side_by_side(maps)) if number == 4 else maps

        return (
            Stage("stem", tuple(stream.stem for stream in streams), stem),
            *(Stage(f"layer {number}", layers(number), partial(through, number)) for number in range(1, 5)),
        )

    def inputs(self, frames: Float[Tensor, "b 3 t h w"]) -> tuple[Float[Tensor, "b _ _ h w"], ...]:
        """Return what each stream sees of ImageNet-normalised frames: grey levels 0 … 255, and their flow in pixels."""
        mean, std = (frames.new_tensor(values).view(3, 1, 1, 1) * 255 for values in STATISTICS["imagenet"])
        grey = ((frames * std + mean) * frames.new_tensor(LUMA).view(3, 1, 1, 1)).sum(1, keepdim=True)
        grey = grey + (grey.round() - grey).detach()  # whole levels, as files hold them; gradients pass
        return tuple(grey if name == "grey" else flow_of(grey) for name in self.config.streams)


@torch.no_grad()
def flow_of(grey: Float[Tensor, "b 1 t h w"]) -> Float[Tensor, "b 2 t-1 h w"]:
    """Return the Farnebäck flow of grey clips (levels 0 … 255), one clip a thread, on their device."""
    clips = grey[:, 0].clamp(0, 255).to(torch.uint8).cpu().numpy()
    return torch.from_numpy(_flows(clips)).to(grey).movedim(-1, 1)


def _flows(clips: UInt8[np.ndarray, "b t h w"]) -> Float[np.ndarray, "b t-1 h w 2"]:
    with ThreadPoolExecutor(max(1, min(len(clips), torch.get_num_threads()))) as pool:
        return np.stack(list(pool.map(flow, clips)))


def _side_by_side(maps: Sequence[Tensor]) -> Tensor:
    longest = max(x.shape[2] for x in maps)
    filled = [torch.cat([x, x[:, :, -1:].expand(-1, -1, longest - x.shape[2], -1, -1)], 2) for x in maps]
    return torch.cat(filled, dim=1)


@torch.no_grad()
def initialise(model: nn.Module, seed: int) -> None:
    """Draw Keras's `he_normal` from a seed alone: N(0, 2 / inputs of an output) cut at two standard deviations, then biases 0.

    The standard deviation is that after cutting, hence the division (keras, initializers/random_initializers.py).
    """
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, SameConv3d):
            deviation = math.sqrt(2 / module.weight[0].numel()) / 0.87962566103423978
            nn.init.trunc_normal_(module.weight, 0, deviation, -2 * deviation, 2 * deviation, generator=generator)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.BatchNorm3d):
            module.reset_parameters()
