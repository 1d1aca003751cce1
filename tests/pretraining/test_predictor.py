"""The predictor against Hugging Face's, tiny, random weights."""

from typing import Any

import numpy as np
import pytest
import torch

from echolung.pretraining.masks import draw_masks
from echolung.pretraining.plans import MaskPlan, PredictorPlan
from echolung.pretraining.predictor import Predictor

GRID = (4, 4, 4)
PLAN = PredictorPlan(dim=24, depth=3, heads=2, mask_tokens=3)


@pytest.fixture(scope="module")
def hugging_face() -> Any:
    """Return the predictor of a tiny random VJEPA2Model for a grid of 4 × 4 × 4, its weights large enough to tell."""
    transformers = pytest.importorskip("transformers")
    config = transformers.VJEPA2Config(
        hidden_size=48, num_attention_heads=2, num_hidden_layers=1, crop_size=64, frames_per_clip=8,
        pred_hidden_size=24, pred_num_attention_heads=2, pred_num_hidden_layers=3, pred_num_mask_tokens=3,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.VJEPA2Model(config).predictor.eval().requires_grad_(False)
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


def translated(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename Hugging Face's parameters to the published names."""
    ours = {f"mask_tokens.{k}": token for k, token in enumerate(state["embeddings.mask_tokens"])}
    for leaf in ("weight", "bias"):
        ours[f"predictor_embed.{leaf}"] = state[f"embeddings.predictor_embeddings.{leaf}"]
        ours[f"predictor_norm.{leaf}"] = state[f"layernorm.{leaf}"]
        ours[f"predictor_proj.{leaf}"] = state[f"proj.{leaf}"]
        for i in range(3):
            parts = [state[f"layer.{i}.attention.{part}.{leaf}"] for part in ("query", "key", "value")]
            ours[f"predictor_blocks.{i}.attn.qkv.{leaf}"] = torch.cat(parts)
            ours[f"predictor_blocks.{i}.attn.proj.{leaf}"] = state[f"layer.{i}.attention.proj.{leaf}"]
            for part in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
                ours[f"predictor_blocks.{i}.{part}.{leaf}"] = state[f"layer.{i}.{part}.{leaf}"]
    return ours


def ids_of(generator: int) -> tuple[torch.Tensor, torch.Tensor]:
    masks = draw_masks(GRID, MaskPlan(), 0, 0, np.arange(3))[generator]
    return torch.from_numpy(masks.context), torch.from_numpy(masks.target)


def gather(tokens: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    return torch.stack([row[chosen] for row, chosen in zip(tokens, ids, strict=True)])


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randn(3, 64, 48, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("generator", [0, 1])
@pytest.mark.parametrize("mask_index", [0, 1, 2])
def test_same_predictions_with_each_mask_token(hugging_face, tokens, generator, mask_index):
    context, target = ids_of(generator)
    state = translated(hugging_face.state_dict())
    # Theirs always takes token 1, so it is put where ours looks; the others are far off.
    wanted = state["mask_tokens.1"]
    state |= {f"mask_tokens.{k}": wanted if k == mask_index else wanted + 3 for k in range(3)}
    model = Predictor(PLAN, 48)
    model.load_state_dict(state)
    expected = hugging_face(tokens, [context], [target]).last_hidden_state
    ours = model(gather(tokens, context), context, target, GRID, mask_index=mask_index)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)
    model.double()
    exact = model(gather(tokens, context).double(), context, target, GRID, mask_index=mask_index)
    torch.testing.assert_close(ours.double(), exact, atol=1e-5, rtol=0)


def test_order_of_tokens_does_not_matter(tokens):
    context, target = ids_of(0)
    model = Predictor(PLAN, 48, seed=3).double()
    torch.nn.init.normal_(model.mask_tokens[0], generator=torch.Generator().manual_seed(2))
    tokens = tokens.double()
    straight = model(gather(tokens, context), context, target, GRID)
    turned = model(gather(tokens, context.flip(1)), context.flip(1), target.flip(1), GRID)
    torch.testing.assert_close(turned.flip(1), straight, atol=1e-12, rtol=0)


def test_hidden_places_differ_though_all_begin_as_one_token(tokens):
    context, target = ids_of(1)
    predicted = Predictor(PLAN, 48)(gather(tokens, context), context, target, GRID)
    assert predicted.shape == (3, target.shape[1], 48)
    assert predicted[0].std(0).min() > 0


def test_published_names_sizes_and_initial_weights():
    model = Predictor(PredictorPlan(), 1024)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.named_parameters()}
    assert sum(tensor.numel() for tensor in model.parameters()) == pytest.approx(22.09e6, abs=5e3)
    assert [name for name in shapes if name.startswith("mask_tokens")] == [f"mask_tokens.{k}" for k in range(10)]
    assert shapes["mask_tokens.9"] == (1, 1, 384)
    assert shapes["predictor_embed.weight"] == (384, 1024)
    assert shapes["predictor_blocks.11.attn.qkv.weight"] == (1152, 384)
    assert shapes["predictor_proj.bias"] == (1024,)
    assert all(not token.any() for token in model.mask_tokens)
    assert [token.requires_grad for token in model.mask_tokens] == [True] + [False] * 9
    assert model.predictor_embed.weight.std().item() == pytest.approx(0.02, rel=0.01)
    for i in (0, 11):
        for part in (model.predictor_blocks[i].attn.proj, model.predictor_blocks[i].mlp.fc2):
            assert part.weight.std().item() == pytest.approx(0.02 / (2 * (i + 1)) ** 0.5, rel=0.01)


def test_a_seed_gives_the_weights_and_none_takes_no_memory():
    one, same, other = (Predictor(PLAN, 48, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["predictor_proj.weight"], other["predictor_proj.weight"])
    assert {parameter.device.type for parameter in Predictor(PLAN, 48, seed=None).parameters()} == {"meta"}
