"""The video transformer against a slow restatement of the published formulas, and its random weights."""

import math

import pytest
import torch
from torch.nn import functional

from echolung.encoders.vit import VITS, VisionTransformer, ViTConfig, rope_tables
from echolung.errors import InputError

WEIGHTS_OF_SEED_0 = [-0.016237544, 0.001773071, -0.000256073, -0.000904059]
TINY = ViTConfig(dim=64, depth=2, heads=2, mlp=96, patch=4, tubelet=2)  # heads of 32: 10 + 10 + 10 + 2 unrotated


def published_rotation(vector: torch.Tensor, position: tuple[int, int, int]) -> torch.Tensor:
    """Rotate one head's query or key, channel by channel, as facts of the published code have it."""
    n = 2 * ((len(vector) // 3) // 2)
    out = vector.clone()
    for axis, p in enumerate(position):
        for j in range(n):
            omega = 10000.0 ** (-(j % (n // 2)) / (n // 2))
            channel = axis * n + j
            partner = -vector[channel + 1] if j % 2 == 0 else vector[channel - 1]
            out[channel] = vector[channel] * math.cos(p * omega) + partner * math.sin(p * omega)
    return out


def published_forward(model: VisionTransformer, clip: torch.Tensor) -> torch.Tensor:
    """Encode one clip [c, t, h, w] in straight lines, token by token."""
    config, dim = model.config, model.dim
    size, u, head = config.patch, config.tubelet, model.dim // config.heads
    _, frames, height, width = clip.shape
    tokens, places = [], []
    kernel = model.patch_embed.proj.weight
    for t in range(frames // u):
        for row in range(height // size):
            for col in range(width // size):
                cut = clip[:, t * u : (t + 1) * u, row * size : (row + 1) * size, col * size : (col + 1) * size]
                tokens.append((kernel * cut).sum((1, 2, 3, 4)) + model.patch_embed.proj.bias)
                places.append((t, row, col))
    x = torch.stack(tokens)
    for block in model.blocks:
        q, k, v = block.attn.qkv(block.norm1(x)).split(dim, dim=-1)
        heads = []
        for h in range(config.heads):
            rows = slice(h * head, (h + 1) * head)
            qh = torch.stack([published_rotation(a, p) for a, p in zip(q[:, rows], places, strict=True)])
            kh = torch.stack([published_rotation(a, p) for a, p in zip(k[:, rows], places, strict=True)])
            heads.append(torch.softmax(qh @ kh.T / math.sqrt(head), dim=-1) @ v[:, rows])
        x = x + block.attn.proj(torch.cat(heads, dim=-1))
        x = x + block.mlp.fc2(functional.gelu(block.mlp.fc1(block.norm2(x))))
    return model.norm(x)


@pytest.fixture(scope="module")
def model() -> VisionTransformer:
    """Return a tiny transformer with weights large enough that attention and positions matter."""
    model = VisionTransformer(TINY, seed=5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name)))
            parameter.add_(noise, alpha=0.2)
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize(("frames", "height", "width"), [(4, 12, 20), (2, 4, 4), (6, 16, 8)])
def test_any_shape_equals_the_published_formulas(model, frames, height, width):
    clips = torch.randn(2, 3, frames, height, width, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([published_forward(model.double(), clip) for clip in clips.double()])
    tokens = model.float()(clips)
    assert tokens.shape == (2, math.prod(model.grid(frames, height, width)), 64)
    torch.testing.assert_close(tokens.double(), expected, atol=1e-5, rtol=0)


def test_positions_matter(model):
    # A clip of one repeated patch: without positions every token would be the same.
    clip = torch.randn(1, 3, 2, 4, 4, generator=torch.Generator().manual_seed(1)).repeat(1, 1, 2, 3, 3)
    assert model(clip).var(dim=1).max() < 1e-9  # the values are equal, so whatever the weights, attention returns them
    clip[..., :4, :4] += 1
    tokens = model(clip)[0]
    assert (tokens[4] - tokens[8]).abs().max() > 1e-3


def test_rope_keeps_the_tiled_angles():
    cos, _ = rope_tables((3, 4, 5), 64, torch.device("cpu"), torch.float64)
    assert cos.shape == (60, 64)
    token = 2 * 20 + 3 * 5 + 4  # frame 2, row 3, column 4
    for start, position in ((0, 2), (20, 3), (40, 4)):
        torch.testing.assert_close(cos[token, start : start + 10], cos[token, start + 10 : start + 20], rtol=0, atol=0)
        expected = [math.cos(position * 10000 ** (-i / 10)) for i in range(10)]
        torch.testing.assert_close(cos[token, start : start + 10], torch.tensor(expected, dtype=torch.float64))
    assert (cos[:, 60:] == 1).all()


def test_all_visible_ids_change_nothing_and_their_order_is_kept(model):
    clips = torch.randn(2, 3, 4, 12, 8, generator=torch.Generator().manual_seed(2))
    whole = model(clips)
    order = torch.stack([torch.randperm(12, generator=torch.Generator().manual_seed(s)) for s in (0, 1)])
    shuffled = model(clips, ids=order)
    torch.testing.assert_close(shuffled, whole.gather(1, order[..., None].expand(-1, -1, 64)), atol=1e-5, rtol=0)


def test_hidden_tokens_are_not_seen(model):
    clips = torch.randn(1, 3, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    ids = torch.tensor([[0, 3, 6]])
    before = model(clips, ids=ids)
    clips[:, :, :2, 4:, :4] = 9.0  # token 2
    torch.testing.assert_close(model(clips, ids=ids), before, atol=0, rtol=0)
    clips[:, :, :2, 4:, 4:] = 9.0  # token 3
    assert (model(clips, ids=ids) - before).abs().max() > 1e-3


def test_tables_made_under_inference_mode_serve_training():
    rope_tables.cache_clear()
    model, clips = VisionTransformer(TINY), torch.randn(1, 3, 2, 8, 8)
    with torch.inference_mode():
        model(clips)
    model(clips).sum().backward()
    assert model.blocks[0].attn.qkv.weight.grad is not None


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("vit_tiny", 5.63),
        ("vit_small", 21.88),
        ("vit_base", 86.24),
        ("vit_large", 303.89),
        ("vit_huge", 631.65),
        ("vit_giant", 1012.17),
    ],
)
def test_parameter_counts_are_the_published_ones(name, millions):
    count = sum(p.numel() for p in VisionTransformer(VITS[name], seed=None).parameters())
    assert round(count / 1e6, 2) == millions


def test_giant_has_22_heads_of_64():
    assert (VITS["vit_giant"].heads, VITS["vit_giant"].dim // VITS["vit_giant"].heads) == (22, 64)


def test_random_weights_follow_from_the_seed_alone():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one = VisionTransformer(TINY, seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    again, other = VisionTransformer(TINY, seed=3).state_dict(), VisionTransformer(TINY, seed=4).state_dict()
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["blocks.0.attn.qkv.weight"], other["blocks.0.attn.qkv.weight"])


def test_random_weights_are_those_of_the_recipe():
    # The store's key names the recipe, not the numbers: if these change, raise INIT_VERSION.
    weight = VisionTransformer(VITS["vit_tiny"], seed=0).blocks[0].attn.qkv.weight
    expected = torch.tensor(WEIGHTS_OF_SEED_0)
    torch.testing.assert_close(weight[0, :4].detach(), expected, atol=1e-6, rtol=0)


def test_initial_scale_is_the_published_one():
    model = VisionTransformer(VITS["vit_tiny"], seed=0)
    assert model.blocks[5].mlp.fc1.weight.std().item() == pytest.approx(0.02, rel=0.01)
    for number in (1, 12):
        block = model.blocks[number - 1]
        for weight in (block.attn.proj.weight, block.mlp.fc2.weight):
            assert weight.std().item() == pytest.approx(0.02 / math.sqrt(2 * number), rel=0.02)
    assert not model.blocks[0].attn.qkv.bias.any()
    assert (model.norm.weight == 1).all()


@pytest.mark.parametrize("size", [(3, 8, 8), (4, 9, 8), (4, 8, 10), (0, 8, 8)])
def test_clip_that_does_not_divide(model, size):
    with pytest.raises(InputError, match=f"{size[0]} frames of {size[1]} × {size[2]}.*tubelets of 2.*patches of 4 × 4"):
        model(torch.zeros(1, 3, *size))


def test_wrong_channels(model):
    with pytest.raises(InputError, match="takes frames of 3 channels; these have 1"):
        model(torch.zeros(1, 1, 2, 8, 8))


@pytest.mark.parametrize("sizes", [{"dim": 64, "heads": 3}, {"dim": 64, "heads": 0}, {"dim": 10, "heads": 2}])
def test_impossible_sizes(sizes):
    with pytest.raises(InputError, match="heads"):
        ViTConfig(depth=1, mlp=8, **sizes)
