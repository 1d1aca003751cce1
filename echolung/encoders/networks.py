"""The shapes of the video networks besides the transformer of V-JEPA 2, free of torch: a network is named without loading it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from echolung.errors import InputError
from echolung.text import suggest

# Mean and standard deviation of red, green and blue in 0 … 1.
STATISTICS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    # CoReEcho, coreecho/dataset.py: of EchoNet-Dynamic's training videos.
    "echonet": ((0.12741163, 0.1279413, 0.12912785), (0.19557191, 0.19562256, 0.1965878)),
    # Sense-X/UniFormer's video networks on Kinetics-400: grey 114.75 and 57.375 of 255.
    "kinetics": ((0.45, 0.45, 0.45), (0.225, 0.225, 0.225)),
    # torchvision, transforms/_presets.py: its own video networks on Kinetics-400.
    "torchvision": ((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)),
}
"""What frames are normalised with before a network sees them. Everywhere else in echolung it is ImageNet's."""


def check_statistics(name: str) -> None:
    """Raise InputError where no statistics are called `name`."""
    if name not in STATISTICS:
        raise InputError(
            f"No statistics of frames are called {name!r}; there are {', '.join(STATISTICS)}.{suggest(name, STATISTICS)}"
        )


@dataclass(frozen=True)
class UniFormerConfig:
    """The shape of a UniFormer (arXiv 2201.04676): two stages of convolutions, two of attention.

    Attributes:
        depths: blocks of each stage.
        dims: width of each stage; that of the last is the width of a token.
        head_dim: width of an attention head in stages 3 and 4.
        strides: by how much each stage reduces height and width.
        statistics: what frames are normalised with, a name in `STATISTICS`.
    """

    depths: tuple[int, int, int, int]
    dims: tuple[int, int, int, int]
    head_dim: int
    strides: tuple[int, int, int, int] = (4, 2, 2, 2)
    statistics: str = "echonet"

    def __post_init__(self) -> None:
        check_statistics(self.statistics)


@dataclass(frozen=True)
class ResNet3dConfig:
    """The shape of a pre-activation 3-D ResNet of one stream or two.

    Attributes:
        streams: of "grey" (grey levels 0 … 255) and "flow" (two channels); each has a network of its own.
        depths: blocks of each of the four layers.
        bottleneck: blocks of three convolutions, four times as wide at the end, rather than of two.
        widths: of the four layers of a stream.
    """

    streams: tuple[str, ...]
    depths: tuple[int, int, int, int]
    bottleneck: bool
    widths: tuple[int, int, int, int] = (64, 128, 256, 512)


@dataclass(frozen=True)
class VideoResNetConfig:
    """One of torchvision's 3-D ResNets of 18 layers (arXiv 1711.11248).

    Attributes:
        name: r3d_18, mc3_18 or r2plus1d_18.
        statistics: what frames are normalised with, a name in `STATISTICS`.
    """

    name: str
    statistics: str = "echonet"

    def __post_init__(self) -> None:
        check_statistics(self.statistics)


@dataclass(frozen=True)
class TimmConfig:
    """An image model of timm, frame by frame.

    Attributes:
        name: in timm, without a pretrained tag.
    """

    name: str


NetworkConfig = UniFormerConfig | ResNet3dConfig | VideoResNetConfig | TimmConfig

RESNET18, RESNET152 = (2, 2, 2, 2), (3, 8, 36, 3)
VIDEO_RESNETS = ("r3d_18", "mc3_18", "r2plus1d_18")

NETWORKS: dict[str, UniFormerConfig | ResNet3dConfig | VideoResNetConfig] = {
    "uniformer_small": UniFormerConfig((3, 4, 8, 3), (64, 128, 320, 512), 64),
    "uniformer_tiny": UniFormerConfig((1, 2, 4, 2), (32, 64, 128, 192), 32, strides=(4, 2, 2, 1)),
    "two_stream_resnet18": ResNet3dConfig(("grey", "flow"), RESNET18, bottleneck=False),
    "two_stream_resnet152": ResNet3dConfig(("grey", "flow"), RESNET152, bottleneck=True),
    "resnet3d_18": ResNet3dConfig(("grey",), RESNET18, bottleneck=False),
    "resnet3d_152": ResNet3dConfig(("grey",), RESNET152, bottleneck=True),
    **{name: VideoResNetConfig(name) for name in VIDEO_RESNETS},
}
"""By the name that a person gives: random:NAME, NAME@CHECKPOINT."""

NETWORK_INIT_VERSION = 1
"""Raised whenever the same seed would give other random weights."""

FAMILIES: dict[str, type[NetworkConfig]] = {
    "uniformer": UniFormerConfig,
    "resnet3d": ResNet3dConfig,
    "torchvision": VideoResNetConfig,
    "timm": TimmConfig,
}
"""By the architecture that a checkpoint of echolung names in its metadata."""


def shape_of(config: NetworkConfig) -> dict[str, Any]:
    """Return a network's shape as plain JSON values."""
    return json.loads(json.dumps(asdict(config)))


def config_of(family: str, shape: Mapping[str, Any]) -> NetworkConfig:
    """Return the shape that `shape_of` made plain.

    Raises:
        InputError: no such architecture, or other values than it has.
    """
    try:
        values: Any = {key: tuple(value) if isinstance(value, list) else value for key, value in shape.items()}
        return FAMILIES[family](**values)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"This version of echolung does not know the architecture {family} with {json.dumps(shape)[:200]}; it was "
            "probably written by a newer version."
        ) from error
