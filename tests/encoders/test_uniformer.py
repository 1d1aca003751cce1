"""UniFormer against an independent restatement in torch's own building blocks, and its published sizes."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from echolung.encoders.networks import NETWORKS, UniFormerConfig
from echolung.encoders.statistics import set_statistics
from echolung.encoders.uniformer import UniFormer
from echolung.errors import InputError

CONFIG = UniFormerConfig((1, 2, 1, 2), (8, 16, 32, 48), 16, statistics="imagenet")


def shaken(config: UniFormerConfig, seed: int = 0) -> UniFormer:
    """Return a network whose every tensor, norms and running statistics too, is far from what it begins with."""
    model = UniFormer(config, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor += 0.1 * torch.rand(tensor.shape, generator=generator)
    return model.eval()


def restated(state: dict[str, torch.Tensor], config: UniFormerConfig, x: torch.Tensor) -> torch.Tensor:
    """Return the last feature map, from the tensors of a checkpoint alone."""

    def parts(name: str) -> tuple[torch.Tensor, torch.Tensor]:
        return state[f"{name}.weight"], state[f"{name}.bias"]

    def conv(name: str, x: torch.Tensor, **options: object) -> torch.Tensor:
        return F.conv3d(x, *parts(name), **options)

    def batch_norm(name: str, x: torch.Tensor) -> torch.Tensor:
        return F.batch_norm(x, state[f"{name}.running_mean"], state[f"{name}.running_var"], *parts(name))

    def attend(name: str, x: torch.Tensor, heads: int) -> torch.Tensor:
        layer = nn.MultiheadAttention(x.shape[-1], heads, batch_first=True).eval()
        layer.in_proj_weight.data, layer.in_proj_bias.data = parts(f"{name}.qkv")
        layer.out_proj.weight.data, layer.out_proj.bias.data = parts(f"{name}.proj")
        return layer(x, x, x, need_weights=False)[0]

    for stage, (depth, dim, stride) in enumerate(zip(config.depths, config.dims, config.strides, strict=True), start=1):
        steps = {"stride": (2, stride, stride), "padding": (1, 0, 0)} if stage == 1 else {"stride": (1, stride, stride)}
        x = conv(f"patch_embed{stage}.proj", x, **steps).permute(0, 2, 3, 4, 1)
        x = F.layer_norm(x, (dim,), *parts(f"patch_embed{stage}.norm"), eps=1e-5).permute(0, 4, 1, 2, 3)
        for number in range(depth):
            block = f"blocks{stage}.{number}"
            x = x + conv(f"{block}.pos_embed", x, padding=1, groups=dim)
            if stage < 3:
                y = conv(f"{block}.conv1", batch_norm(f"{block}.norm1", x))
                x = x + conv(f"{block}.conv2", conv(f"{block}.attn", y, padding=2, groups=dim))
                y = F.gelu(conv(f"{block}.mlp.fc1", batch_norm(f"{block}.norm2", x)))
                x = x + conv(f"{block}.mlp.fc2", y)
            else:
                shape = x.shape
                x = x.flatten(2).transpose(1, 2)
                y = F.layer_norm(x, (dim,), *parts(f"{block}.norm1"), eps=1e-6)
                x = x + attend(f"{block}.attn", y, dim // config.head_dim)
                y = F.layer_norm(x, (dim,), *parts(f"{block}.norm2"), eps=1e-6)
                x = x + F.linear(F.gelu(F.linear(y, *parts(f"{block}.mlp.fc1"))), *parts(f"{block}.mlp.fc2"))
                x = x.transpose(1, 2).reshape(shape)
    return batch_norm("norm", x)


@pytest.mark.parametrize(("frames", "height", "width"), [(4, 32, 64), (5, 47, 33)])
@torch.no_grad()
def test_it_is_the_published_network(frames, height, width):
    model = shaken(CONFIG)
    clips = torch.randn(2, 3, frames, height, width)
    feature_map = restated(model.state_dict(), CONFIG, clips)
    tokens = model(clips)
    assert tuple(feature_map.shape[2:]) == model.grid(frames, height, width)
    torch.testing.assert_close(tokens, feature_map.flatten(2).transpose(1, 2), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(tokens.mean(1), feature_map.mean((2, 3, 4)), rtol=1e-4, atol=1e-5)


def test_published_sizes():
    small = UniFormer(NETWORKS["uniformer_small"], seed=None)
    count = sum(parameter.numel() for parameter in small.parameters())
    assert count == 21_195_200
    assert count + 400 * (512 + 1) == 21_400_400  # with the head of Kinetics
    assert small.grid(36, 112, 112) == (18, 3, 3)
    assert small.grid(16, 224, 224) == (8, 7, 7)
    tiny = UniFormer(NETWORKS["uniformer_tiny"], seed=None)
    assert sum(parameter.numel() for parameter in tiny.parameters()) == 1_898_240


def test_names_of_the_published_checkpoint():
    names = set(UniFormer(NETWORKS["uniformer_small"], seed=None).state_dict())
    assert {"patch_embed1.norm.weight", "patch_embed4.proj.bias", "norm.running_var"} <= names
    assert {f"blocks1.2.{part}.weight" for part in ("pos_embed", "norm1", "conv1", "conv2", "attn", "norm2")} <= names
    assert {f"blocks3.7.{part}.bias" for part in ("pos_embed", "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")} <= names
    assert {name.partition(".")[0] for name in names} == {
        *(f"{part}{stage}" for part in ("patch_embed", "blocks") for stage in range(1, 5)),
        "norm",
    }


@torch.no_grad()
def test_statistics_are_turned_within():
    model = shaken(CONFIG)
    raw = torch.rand(1, 3, 4, 32, 32)
    mean, std = (torch.tensor(v).view(3, 1, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    own_mean = torch.tensor([0.12741163, 0.1279413, 0.12912785]).view(3, 1, 1, 1)
    own_std = torch.tensor([0.19557191, 0.19562256, 0.1965878]).view(3, 1, 1, 1)
    direct = model((raw - own_mean) / own_std)
    set_statistics(model, "echonet")
    assert model.config.statistics == "echonet"
    torch.testing.assert_close(model((raw - mean) / std), direct, rtol=1e-3, atol=1e-4)
    set_statistics(model, "kinetics")
    torch.testing.assert_close(model.normal((raw - mean) / std), (raw * 255 - 114.75) / 57.375, rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="'echo'; there are imagenet, echonet"):
        set_statistics(model, "echo")
    with pytest.raises(InputError, match="of Linear cannot be chosen"):
        set_statistics(nn.Linear(1, 1), "echonet")


def test_frames_that_are_too_small():
    model = UniFormer(NETWORKS["uniformer_small"], seed=None)
    with pytest.raises(InputError, match="31 × 40 pixels are too small for this UniFormer, which reduces them by 32"):
        model.grid(16, 31, 40)
    with pytest.raises(InputError, match="too small"):
        UniFormer(CONFIG)(torch.zeros(1, 3, 2, 16, 16))


def test_random_weights_follow_from_the_seed_alone():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one, again, other = UniFormer(CONFIG, 3), UniFormer(CONFIG, 3), UniFormer(CONFIG, 4)
    assert torch.equal(torch.random.get_rng_state(), before)
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
    assert not torch.equal(one.blocks3[0].attn.qkv.weight, other.blocks3[0].attn.qkv.weight)
    large = UniFormer(NETWORKS["uniformer_tiny"], 0)
    assert abs(large.blocks4[0].mlp.fc1.weight.std().item() - 0.02) < 0.001
    assert not large.blocks4[0].mlp.fc1.bias.any()
    bound = large.blocks2[0].mlp.fc1.weight[0].numel() ** -0.5
    assert 0.99 * bound < large.blocks2[0].mlp.fc1.weight.abs().max().item() <= bound
