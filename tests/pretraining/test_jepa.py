"""The objective and one step of its optimiser against a slow version written out clip by clip, float64."""

import math
from functools import cache

import numpy as np
import pytest
import torch

from echolung.encoders.vit import VisionTransformer, ViTConfig
from echolung.pretraining.jepa import Jepa
from echolung.pretraining.masks import draw_masks
from echolung.pretraining.plans import MaskPlan, PredictorPlan
from echolung.pretraining.predictor import Predictor

SHAPE = ViTConfig(dim=32, depth=2, heads=2, mlp=64)
NARROW = PredictorPlan(dim=24, depth=2, heads=2, mask_tokens=2)
CLIPS, GRID = 3, (2, 3, 4)


def make_jepa() -> Jepa:
    """Return a tiny model whose weights are large enough to tell, the target's unlike the encoder's."""
    jepa = Jepa(VisionTransformer(SHAPE), Predictor(NARROW, SHAPE.dim), VisionTransformer(SHAPE))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in jepa.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return jepa


def make_batch() -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor], torch.Tensor]:
    slots, rows, columns = GRID
    shape = (CLIPS, 3, 2 * slots, 16 * rows, 16 * columns)
    masks = draw_masks(GRID, MaskPlan((3, 2), (0.15, 0.5)), 0, 0, np.arange(CLIPS))
    contexts, targets = ([torch.from_numpy(getattr(mask, name)) for mask in masks] for name in ("context", "target"))
    weights = torch.tensor([0.5, 0.2, 0.3])
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)), contexts, targets, weights


# --- the slow version: a clip is a matrix of tokens, weights are a dict of tensors -----------------------------------


def norm(x, eps, weight=1.0, bias=0.0):
    centred = x - x.mean(1, keepdim=True)
    return centred / (centred.square().mean(1, keepdim=True) + eps).sqrt() * weight + bias


@cache
def turning(token, size):
    """Return the matrix by which the published code turns a head's query or key of this token, entry by entry."""
    _, rows, columns = GRID
    place = token // (rows * columns), token % (rows * columns) // columns, token % columns
    half = size // 3 // 2
    matrix = torch.eye(size, dtype=torch.float64)
    for j in range(6 * half):
        angle = place[j // (2 * half)] * 10000 ** (-(j % (2 * half) % half) / half)
        partner, sign = (j + 1, -1) if j % 2 == 0 else (j - 1, 1)
        matrix[j, j], matrix[j, partner] = math.cos(angle), sign * math.sin(angle)
    return matrix


def block(x, ids, w, heads):
    y = norm(x, 1e-6, w["norm1.weight"], w["norm1.bias"]) @ w["attn.qkv.weight"].T + w["attn.qkv.bias"]
    outputs = []
    for part in range(heads):
        q, k, v = (chunk.chunk(heads, 1)[part] for chunk in y.chunk(3, 1))
        q = torch.stack([turning(token, len(row)) @ row for row, token in zip(q, ids, strict=True)])
        k = torch.stack([turning(token, len(row)) @ row for row, token in zip(k, ids, strict=True)])
        scores = (q @ k.T / math.sqrt(q.shape[1])).exp()
        outputs.append(scores / scores.sum(1, keepdim=True) @ v)
    x = x + torch.cat(outputs, 1) @ w["attn.proj.weight"].T + w["attn.proj.bias"]
    y = norm(x, 1e-6, w["norm2.weight"], w["norm2.bias"]) @ w["mlp.fc1.weight"].T + w["mlp.fc1.bias"]
    y = y * (1 + torch.erf(y / math.sqrt(2))) / 2
    return x + y @ w["mlp.fc2.weight"].T + w["mlp.fc2.bias"]


def below(weights, prefix):
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def slow_encoder(clip, ids, w):
    _, rows, columns = GRID
    tokens = []
    for token in ids:
        t, i, j = token // (rows * columns), token % (rows * columns) // columns, token % columns
        patch = clip[:, 2 * t : 2 * t + 2, 16 * i : 16 * i + 16, 16 * j : 16 * j + 16]
        tokens.append((w["patch_embed.proj.weight"] * patch).sum((1, 2, 3, 4)) + w["patch_embed.proj.bias"])
    x = torch.stack(tokens)
    for i in range(SHAPE.depth):
        x = block(x, ids, below(w, f"blocks.{i}."), SHAPE.heads)
    return norm(x, 1e-6, w["norm.weight"], w["norm.bias"])


def slow_predictor(context, context_ids, target_ids, w):
    x = context @ w["predictor_embed.weight"].T + w["predictor_embed.bias"]
    x = torch.cat([x, *[w["mask_tokens.0"][0] for _ in target_ids]])
    for i in range(NARROW.depth):
        x = block(x, context_ids + target_ids, below(w, f"predictor_blocks.{i}."), NARROW.heads)
    x = norm(x, 1e-6, w["predictor_norm.weight"], w["predictor_norm.bias"])
    return x[len(context_ids) :] @ w["predictor_proj.weight"].T + w["predictor_proj.bias"]


def slow_loss(weights, frames, contexts, targets, shares):
    encoder, predictor, target = (below(weights, f"{name}.") for name in ("encoder", "predictor", "target"))
    total = torch.zeros((), dtype=torch.float64)
    for clip in range(CLIPS):
        h = norm(slow_encoder(frames[clip], range(math.prod(GRID)), target), 1e-5)
        for context, hidden in zip(contexts, targets, strict=True):
            seen, wanted = context[clip].tolist(), hidden[clip].tolist()
            z = slow_predictor(slow_encoder(frames[clip], seen, encoder), seen, wanted, predictor)
            total = total + shares[clip] * (z - h[wanted]).abs().mean() / len(contexts)
    return total


def test_one_step_written_out():
    jepa = make_jepa().double()
    frames, contexts, targets, shares = make_batch()
    batch = frames.double(), contexts, targets, shares.double()
    start = {name: parameter.detach().clone() for name, parameter in jepa.named_parameters()}
    trained = [name for name in start if not name.startswith("target.") and name != "predictor.mask_tokens.1"]
    rate, decay, kept = 1e-2, 0.3, 0.9

    optimiser = torch.optim.AdamW(jepa.parameter_groups(decay), lr=rate)
    loss = jepa(*batch).loss
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in jepa.named_parameters()}
    optimiser.step()
    jepa.update_target(kept)

    weights = {name: value.clone().requires_grad_(name in trained) for name, value in start.items()}
    expected = slow_loss(weights, *batch)
    expected.backward()
    torch.testing.assert_close(loss.detach(), expected.detach(), atol=1e-12, rtol=0)
    after = dict(start)
    for name in trained:
        g = weights[name].grad
        torch.testing.assert_close(gradients[name], g, atol=1e-12, rtol=1e-9)
        decays = name == "predictor.mask_tokens.0" or (name.endswith("weight") and "norm" not in name)
        shrunk = start[name] * (1 - rate * decay) if decays else start[name]
        after[name] = shrunk - rate * g / (g.abs() + 1e-8)  # the first step of AdamW: both moments are g's own
    for name in start:
        if name.startswith("target."):
            after[name] = kept * start[name] + (1 - kept) * after[name.replace("target.", "encoder.", 1)]
    for name, parameter in jepa.named_parameters():
        torch.testing.assert_close(parameter.detach(), after[name], atol=1e-7, rtol=0, msg=name)
    assert {name for name, gradient in gradients.items() if gradient is None} == set(start) - set(trained)


def gradients_of(jepa, *batch):
    jepa.zero_grad()
    losses = jepa(*batch)
    losses.loss.backward()
    return losses, {name: p.grad.clone() for name, p in jepa.named_parameters() if p.grad is not None}


def test_what_gauges_get_is_of_the_first_generator():
    jepa, (frames, contexts, targets, weights) = make_jepa(), make_batch()
    both, first = jepa(frames, contexts, targets, weights), jepa(frames, contexts[:1], targets[:1], weights)
    assert both.predicted.shape == both.wanted.shape == (CLIPS, targets[0].shape[1], SHAPE.dim)
    assert torch.equal(both.predicted, first.predicted)
    assert torch.equal(both.wanted, first.wanted)
    assert not both.predicted.requires_grad
    assert not both.wanted.requires_grad
    each = (first.predicted - first.wanted).abs().mean((1, 2))
    torch.testing.assert_close(first.loss.detach(), (each * weights).sum())


def test_clips_do_not_mix_and_weight_zero_leaves_one_out():
    jepa, (frames, contexts, targets, weights) = make_jepa(), make_batch()
    whole, expected = gradients_of(jepa, frames, contexts, targets, weights)
    total, summed = 0.0, {name: torch.zeros_like(gradient) for name, gradient in expected.items()}
    for clip in range(CLIPS):
        alone = torch.zeros(CLIPS)
        alone[clip] = weights[clip]
        losses, gradients = gradients_of(jepa, torch.where(alone[:, None, None, None, None] > 0, frames, 0),
                                         contexts, targets, alone)  # fmt: skip
        total = total + losses.loss.item()
        for name, gradient in gradients.items():
            summed[name] += gradient
    assert total == pytest.approx(whole.loss.item(), abs=1e-6)
    torch.testing.assert_close(summed, expected, atol=1e-6, rtol=1e-4)


def test_bfloat16_runs_with_a_float32_loss():
    jepa, batch = make_jepa(), make_batch()
    exact, expected = gradients_of(jepa, *batch)
    with torch.autocast("cpu", torch.bfloat16):
        losses, gradients = gradients_of(jepa, *batch)
    assert losses.loss.dtype == losses.wanted.dtype == torch.float32
    assert losses.loss.item() == pytest.approx(exact.loss.item(), rel=0.02)
    for name, gradient in gradients.items():
        assert gradient.dtype == torch.float32
        assert (gradient - expected[name]).norm() < 0.1 * max(expected[name].norm(), 0.02), name


def saved_bytes(jepa, *batch):
    seen = {}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: seen.setdefault(tensor.untyped_storage().data_ptr(), tensor), lambda tensor: tensor
    ):
        losses = jepa(*batch)
    kept = sum(tensor.untyped_storage().nbytes() for tensor in seen.values())
    return losses, kept


def test_checkpointing_changes_memory_alone():
    jepa, batch = make_jepa(), make_batch()
    plain, expected = gradients_of(jepa, *batch)
    much = saved_bytes(jepa, *batch)[1]
    jepa.encoder.checkpointing = jepa.predictor.checkpointing = True
    losses, gradients = gradients_of(jepa, *batch)
    assert torch.equal(losses.loss, plain.loss)
    torch.testing.assert_close(gradients, expected, atol=1e-8, rtol=1e-6)
    assert saved_bytes(jepa, *batch)[1] < 0.5 * much


def test_parameter_groups_hold_every_trained_parameter_once():
    jepa = make_jepa()
    matrices, rest = jepa.parameter_groups(0.04)
    names = {id(parameter): name for name, parameter in jepa.named_parameters()}
    decayed, plain = ([names[id(parameter)] for parameter in group["params"]] for group in (matrices, rest))
    assert (matrices["weight_decay"], rest["weight_decay"]) == (0.04, 0.0)
    assert sorted(decayed + plain) == sorted(name for name, p in jepa.named_parameters() if p.requires_grad)
    assert not [name for name in decayed + plain if name.startswith("target.") or name.endswith("mask_tokens.1")]
    assert {"predictor.mask_tokens.0", "encoder.patch_embed.proj.weight"} <= set(decayed)
    assert all(name.endswith("bias") or "norm" in name for name in plain)


@pytest.mark.parametrize(("momentum", "kept"), [(0.0, 0.0), (1.0, 1.0), (0.99925, 0.99925)])
def test_target_follows_by_momentum(momentum, kept):
    jepa = make_jepa()
    before = {name: value.clone() for name, value in jepa.target.state_dict().items()}
    jepa.update_target(momentum)
    for name, value in jepa.target.state_dict().items():
        exact = kept * before[name].double() + (1 - kept) * jepa.encoder.state_dict()[name].double()
        torch.testing.assert_close(value.double(), exact, atol=1e-7, rtol=0)
        assert value.dtype == torch.float32
