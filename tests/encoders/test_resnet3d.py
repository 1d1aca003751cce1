"""The two-stream 3-D ResNet against a restatement with Keras's padding and BatchNorm, and its published sizes."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from echolung.clips.flow import flow
from echolung.encoders import normalise
from echolung.encoders.networks import NETWORKS, ResNet3dConfig
from echolung.encoders.resnet3d import ResNet3d, SameConv3d
from echolung.errors import InputError

NARROW = (8, 16, 32, 64)
BOTH = ResNet3dConfig(("grey", "flow"), (1, 1, 1, 1), bottleneck=False, widths=NARROW)
BOTTLENECK = ResNet3dConfig(("grey",), (1, 2, 1, 1), bottleneck=True, widths=NARROW)


def shaken(config: ResNet3dConfig) -> ResNet3d:
    """Return a network whose norms, too, are far from what they begin with."""
    model = ResNet3d(config, 1)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point() and not name.endswith("conv.weight"):
                tensor += 0.2 * torch.rand(tensor.shape, generator=generator)
    return model.eval()


def clips(frames: int, side: int, batch: int = 2) -> torch.Tensor:
    """Return grey clips as uint8 [b, t, h, w, 3]."""
    generator = torch.Generator().manual_seed(frames)
    small = torch.rand(batch, frames, side // 4, side // 4, generator=generator)
    grey = (F.interpolate(small, scale_factor=4, mode="bilinear") * 255).to(torch.uint8)
    return grey[..., None].expand(-1, -1, -1, -1, 3)


def restated(state: dict[str, torch.Tensor], config: ResNet3dConfig, x: torch.Tensor) -> torch.Tensor:
    """Return the last feature map of one stream, from its tensors alone."""

    def conv(name: str, x: torch.Tensor, stride: int = 1) -> torch.Tensor:
        kernel = state[f"{name}.weight"]
        size, pads = kernel.shape[2], []
        for length in reversed(x.shape[2:]):  # "same" of Keras: the odd cell goes to the end
            total = max((math.ceil(length / stride) - 1) * stride + size - length, 0)
            pads += [total // 2, total - total // 2]
        return F.conv3d(F.pad(x, pads), kernel, state[f"{name}.bias"], stride)

    def activate(name: str, x: torch.Tensor) -> torch.Tensor:
        names = ("running_mean", "running_var", "weight", "bias")
        mean, var, gain, bias = (state[f"{name}.{part}"].view(-1, 1, 1, 1) for part in names)
        return ((x - mean) / (var + 1e-3).sqrt() * gain + bias).clamp(min=0)

    x = activate("stem.1", conv("stem.0", x, 2))
    padded = F.pad(x, [1] * 6, value=-math.inf)
    x = F.max_pool3d(padded, 3, stride=1)
    for layer in range(1, 5):
        for block in range(config.depths[layer - 1]):
            name, y = f"layer{layer}.{block}", x
            for number in range(3 if config.bottleneck else 2):
                stride = 2 if layer > 1 and block == number == 0 else 1
                if (layer, block, number) == (1, 0, 0):
                    y = conv(f"{name}.layers.0", y)
                else:
                    y = conv(f"{name}.layers.{number}.conv", activate(f"{name}.layers.{number}.bn", y), stride)
            changes = f"{name}.shortcut.weight" in state
            x = y + (conv(f"{name}.shortcut", x, 2 if layer > 1 else 1) if changes else x)
    return activate(f"layer4.{config.depths[3]}", x)


@pytest.mark.parametrize(("frames", "side"), [(6, 28), (5, 32)])
@torch.no_grad()
def test_two_streams_are_two_published_networks(frames, side):
    model = shaken(BOTH)
    raw = clips(frames, side)
    grey = raw[..., 0].numpy()
    inputs = {
        "grey": torch.from_numpy(grey.astype(np.float32))[:, None],
        "flow": torch.from_numpy(np.stack([flow(clip) for clip in grey])).permute(0, 4, 1, 2, 3),
    }
    expected = []
    for name, x in inputs.items():
        prefix = f"streams.{name}."
        state = {k.removeprefix(prefix): v for k, v in model.state_dict().items() if k.startswith(prefix)}
        expected.append(restated(state, BOTH, x))
    tokens = model(normalise(raw))
    scale = tokens.abs().max().item()
    pooled = torch.cat([feature_map.mean((2, 3, 4)) for feature_map in expected], dim=1)
    torch.testing.assert_close(tokens, torch.cat(expected, 1).flatten(2).transpose(1, 2), rtol=0, atol=1e-5 * scale)
    torch.testing.assert_close(tokens.mean(1), pooled, rtol=0, atol=1e-5 * scale)
    assert math.prod(model.grid(frames, side, side)) == tokens.shape[1]


@torch.no_grad()
def test_bottleneck():
    model = shaken(BOTTLENECK)
    raw = clips(4, 20, 1)
    state = {name.removeprefix("streams.grey."): tensor for name, tensor in model.state_dict().items()}
    expected = restated(state, BOTTLENECK, raw[..., 0][:, None].float())
    tokens = model(normalise(raw))
    assert tokens.shape[-1] == model.dim == 256
    torch.testing.assert_close(tokens, expected.flatten(2).transpose(1, 2), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "parameters", "dim", "statistics"),
    [
        ("two_stream_resnet18", 66_350_018, 1024, 15_616),
        ("two_stream_resnet152", 234_886_082, 4096, None),
    ],
)
def test_published_sizes(name, parameters, dim, statistics):
    model = ResNet3d(NETWORKS[name], seed=None)
    assert sum(p.numel() for p in model.parameters()) + dim * 2 + 2 == parameters  # with Dense(dim -> 2)
    assert model.dim == dim
    running = sum(b.numel() for name, b in model.named_buffers() if "running" in name)
    assert statistics in (None, running)


def test_one_stream_is_half_of_it():
    counts = [
        sum(p.numel() for p in s.parameters()) for s in ResNet3d(NETWORKS["two_stream_resnet18"], None).streams.values()
    ]
    assert counts == [33_163_008, 33_184_960]
    assert sum(p.numel() for p in ResNet3d(NETWORKS["resnet3d_18"], None).parameters()) == counts[0]


def test_grids():
    model = ResNet3d(BOTH, seed=None)
    assert model.grid(38, 112, 112) == (3, 7, 7)
    assert model.grid(38, 28, 56) == (3, 2, 4)
    with pytest.raises(InputError, match="optical flow needs two frames"):
        model.grid(1, 28, 28)
    assert ResNet3d(ResNet3dConfig(("grey",), (1, 1, 1, 1), False), None).grid(1, 28, 28) == (1, 2, 2)


@torch.no_grad()
def test_a_flow_map_one_cell_shorter_repeats_its_last():
    model = shaken(BOTH)
    frames = normalise(clips(17, 16, 1))
    grey, moved = (maps for maps in _maps(model, frames))
    assert (grey.shape[2], moved.shape[2]) == (2, 1)
    tokens = model(frames).unflatten(1, model.grid(17, 16, 16))
    torch.testing.assert_close(tokens[0, :, 0, 0, :64].T, grey[0, :, :, 0, 0])
    torch.testing.assert_close(tokens[0, :, 0, 0, 64:].T, moved[0, :, :, 0, 0].expand(-1, 2))


def _maps(model: ResNet3d, frames: torch.Tensor) -> list[torch.Tensor]:
    maps = []
    for stream, x in zip(model.streams.values(), model.inputs(frames), strict=True):
        for part in (stream.stem, stream.layer1, stream.layer2, stream.layer3, stream.layer4):
            x = part(x)
        maps.append(x)
    return maps


def test_grey_levels_come_back():
    raw = clips(3, 16, 1)
    grey, _ = ResNet3d(BOTH, seed=None).inputs(normalise(raw))
    assert torch.equal(grey[0, 0], raw[0, ..., 0].float())
    colour = torch.tensor([200, 100, 50], dtype=torch.uint8).expand(1, 2, 8, 8, 3)
    grey, moved = ResNet3d(BOTH, seed=None).inputs(normalise(colour))
    assert torch.equal(grey, torch.full((1, 1, 2, 8, 8), 124.0))  # 0.299 · 200 + 0.587 · 100 + 0.114 · 50, rounded
    assert moved.shape == (1, 2, 1, 8, 8)


@pytest.mark.parametrize(("length", "first"), [(8, 0.0), (7, 1.0)])
def test_padding_is_that_of_keras(length, first):
    """A 3-wide window of stride 2 begins on the first cell where the size is even, and one before it where it is odd."""
    layer = SameConv3d(1, 1, 3, 2)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0, 0, 1, 1, 0] = 1  # the left cell of the window
        layer.bias.zero_()
        line = torch.arange(length, dtype=torch.float32)
        row = layer(line.expand(1, 1, 3, 3, -1))[0, 0, 0, 0]
    assert len(row) == 4
    assert row.tolist() == [max(2.0 * i - first, 0.0) for i in range(4)]


def test_he_normal():
    model = ResNet3d(BOTTLENECK, 0)
    kernel = model.streams["grey"].layer4[0].layers[1].conv.weight
    deviation = math.sqrt(2 / kernel[0].numel())
    assert abs(kernel.std().item() / deviation - 1) < 0.02
    assert kernel.abs().max().item() <= 2 * deviation / 0.8796
    assert torch.equal(kernel, ResNet3d(BOTTLENECK, 0).streams["grey"].layer4[0].layers[1].conv.weight)
