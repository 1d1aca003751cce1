"""Attention recomputed from queries and keys is what the block itself used; rollout against the product of matrices."""

import pytest
import torch
from einops import rearrange

from echolung.encoders.encoder import load_model
from echolung.errors import InputError
from echolung.explaining.attention import attention_map, weights

FRAMES = torch.randn(1, 3, 4, 32, 48, generator=torch.Generator().manual_seed(0))


def sharpened(name: str) -> torch.nn.Module:
    """Return a random model whose attention is far from even."""
    model = load_model(name)[0].eval().requires_grad_(False)
    for key, parameter in model.named_parameters():
        if "qkv.weight" in key:
            parameter.mul_(8)
    return model


def watched(model: torch.nn.Module) -> tuple[list, list]:
    """Return what each attention module was given, and what it gave, in one forward pass."""
    given, gave = [], []
    for name, module in model.named_modules():
        if name.endswith(".attn") and hasattr(module, "qkv"):
            module.register_forward_hook(lambda m, x, out: given.append((m, x)) or gave.append(out))
    model(FRAMES)
    return given, gave


@pytest.mark.parametrize("name", ["random:vit_tiny", "random:uniformer_tiny"])
def test_the_weights_reproduce_the_blocks_output(name: str) -> None:
    given, gave = watched(sharpened(name))
    assert given
    for (module, inputs), out in zip(given, gave, strict=True):
        values = rearrange(module.qkv(inputs[0]), "1 n (three h d) -> three h n d", three=3, h=module.heads)[2]
        heads = [weights(module, inputs, head) @ values[head] for head in range(module.heads)]
        torch.testing.assert_close(module.proj(torch.cat(heads, dim=-1)), out[0], rtol=1e-4, atol=1e-5)


def matrices(given: list) -> list[torch.Tensor]:
    return [torch.stack([weights(m, x, head) for head in range(m.heads)]).mean(0) for m, x in given]


def test_the_map_is_the_mean_over_queries_and_heads_of_the_last_block() -> None:
    model = sharpened("random:vit_tiny")
    last = matrices(watched(model)[0])[-1]
    found, halfway = attention_map(model, FRAMES)
    assert (found.shape, halfway.stage, halfway.pitch) == ((2, 2, 3), "block 12", (2, 16, 16))
    torch.testing.assert_close(found.flatten(), last.mean(0))
    assert float(found.sum()) == pytest.approx(1)
    assert found.max() > 1.2 / 12


def test_rollout_is_the_product_of_all_blocks() -> None:
    model = sharpened("random:vit_tiny")
    flow = torch.eye(12)
    for matrix in matrices(watched(model)[0]):
        flow = (torch.eye(12) + matrix) / 2 @ flow
    found, _ = attention_map(model, FRAMES, rollout=True)
    torch.testing.assert_close(found.flatten(), flow.mean(0))


def test_rollout_of_a_uniformer_ends_where_its_cells_do() -> None:
    model = load_model("random:uniformer_tiny")[0].eval()
    fourth, _ = attention_map(model, FRAMES, rollout=True)
    third, _ = attention_map(model, FRAMES, stage="stage 3", rollout=True)
    for found in (fourth, third):
        assert float(found.sum()) == pytest.approx(1)


def test_an_encoder_without_attention_is_refused() -> None:
    with pytest.raises(InputError, match=r"'layer 4' of this encoder has no self-attention .* --method grad-cam"):
        attention_map(load_model("random:mc3_18")[0].eval(), FRAMES)
    model = load_model("random:uniformer_tiny")[0].eval()
    with pytest.raises(InputError, match=r"'stage 1' .* These have: stage 3, stage 4"):
        attention_map(model, FRAMES, stage="stage 1")
