"""Stacked heads against the textbook modules that they stand for: outputs and every gradient."""

import math

import pytest
import torch
from torch import nn

from echolung.probes.heads import ATTENTIVE, LINEAR, Head, Step, attention_heads, attentive_deep, attentive_lite, mlp

D, CLASSES, N, B, P = 48, 3, 11, 5, 3
HEADS: dict[str, Head] = {
    "linear": LINEAR,
    "mlp": mlp((12, 8), False),
    "mlp-bn": mlp((12, 8), True),
    "regressor": mlp((12,), True, "batch"),
    "last": mlp((), False, "none"),
    "lite": attentive_lite(4),
    "attentive": ATTENTIVE,
    "deep": attentive_deep(4),
}
every_kind = pytest.mark.parametrize("kind", HEADS)
precisions = pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-12)], ids=["32", "64"]
)


def trained(textbook, kind: str, dim: int, dtype: torch.dtype) -> list[nn.Module]:
    """Return P textbook probes whose every parameter is far from its initial value."""
    generator = torch.Generator().manual_seed(1)
    modules = [textbook(kind, dim, CLASSES, attention_heads(dim)).to(dtype) for _ in range(P)]
    for module in modules:
        for name, value in module.named_parameters():
            spread = 0.5 if value.dim() == 1 else 2 / math.sqrt(value.shape[-1])
            spread *= 4 if name == "query" and kind == "lite" else 1
            value.data = spread * torch.randn(value.shape, generator=generator).to(dtype)
        for norm in (m for m in module.modules() if isinstance(m, nn.LayerNorm | nn.BatchNorm1d)):
            if norm.weight is not None:
                norm.weight.data += 1
            if isinstance(norm, nn.BatchNorm1d):
                norm.running_mean = torch.randn(norm.running_mean.shape, generator=generator).to(dtype)
                norm.running_var = torch.rand(norm.running_var.shape, generator=generator).to(dtype) + 0.5
    return modules


def stacked(named, modules: list[nn.Module]) -> dict[str, torch.Tensor]:
    states = [named(module.state_dict()) for module in modules]
    return {name: torch.stack([s[name].detach().clone() for s in states]) for name in states[0]}


def learnt(head: Head, parameters: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.requires_grad_() for name, value in parameters.items() if name not in head.buffers}


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(((a - b).norm() / b.norm()).detach())


def draw_tokens(dim: int, dtype: torch.dtype, b: int = B) -> torch.Tensor:
    return 3 * torch.randn(b, N, dim, generator=torch.Generator().manual_seed(0)).to(dtype) + 1


def gradients_of(values: dict[str, torch.Tensor], probe: int) -> dict[str, torch.Tensor]:
    """Return a probe's gradients; what has no part in the outputs has zero."""
    return {name: torch.zeros_like(v[0]) if v.grad is None else v.grad[probe] for name, v in values.items()}


DEAD = {"mlp-bn": ("norm.bias", "hidden0.bias", "hidden1.bias"), "regressor": ("norm.bias", "hidden0.bias")}
"""What moves all clips alike, which BatchNorm takes away again: the textbook's gradient is rounding, ours is none."""


def same_gradients(
    module: nn.Module, gradients: dict[str, torch.Tensor], dim: int, tolerance: float, dead: tuple[str, ...] = ()
) -> None:
    """Compare all gradients; a key's bias has no effect: zero, or rounding beside the value's."""
    for name, value in module.named_parameters():
        found, expected = gradients[name], value.grad
        if name in dead:
            assert not found.any() and expected.norm() < 1e-3 * module.linear.bias.grad.norm()
            continue
        if name == "k.bias":
            assert not found.any()
            assert expected.norm() < 1e-3 * module.v.bias.grad.norm()
            continue
        if name.endswith("attn.qkv.bias"):
            assert max(found[dim : 2 * dim].norm(), expected[dim : 2 * dim].norm()) < 1e-3 * expected.norm()
            keep = torch.cat([torch.arange(dim), torch.arange(2 * dim, 3 * dim)])
            found, expected = found[keep], expected[keep]
        assert expected.norm() > 0, name
        assert relative(found, expected) < tolerance, name


@every_kind
@precisions
@pytest.mark.parametrize("dim", [D, 40], ids=["16 heads", "10 heads"])
def test_outputs_and_gradients_are_the_textbook_modules(
    textbook, named, kind: str, dtype: torch.dtype, tolerance: float, dim: int
):
    head, tokens = HEADS[kind], draw_tokens(dim, dtype)
    modules = [module.eval() for module in trained(textbook, kind, dim, dtype)]
    parameters = stacked(named, modules)
    values = learnt(head, parameters)
    outputs = head.forward(parameters, head.normalise(tokens), None)
    weights = torch.randn(P, B, CLASSES, generator=torch.Generator().manual_seed(2)).to(dtype)
    (outputs * weights).sum().backward()
    for i, module in enumerate(modules):
        expected = module(tokens)
        assert relative(outputs[i], expected) < tolerance
        (expected * weights[i]).sum().backward()
        same_gradients(module, gradients_of(values, i), dim, 5 * tolerance)


@every_kind
@precisions
def test_training_with_dropout_on_ones_own_clips_is_the_textbook_modules(
    textbook, named, kind: str, dtype: torch.dtype, tolerance: float
):
    """Each probe owns other clips and has a rate of its own; the noise is that of one generator, a draw a layer."""
    head, tokens = HEADS[kind], draw_tokens(D, dtype, 9)
    own = torch.rand(P, 9, generator=torch.Generator().manual_seed(4)) < 0.6
    rates = torch.tensor([0.0, 0.3, 0.6])
    modules = [module.train() for module in trained(textbook, kind, D, dtype)]
    parameters = stacked(named, modules)
    values = learnt(head, parameters)
    step = Step(own, rates, torch.Generator().manual_seed(5), training=True)
    outputs = head.forward(parameters, head.normalise(tokens), step)
    weights = torch.randn(P, 9, CLASSES, generator=torch.Generator().manual_seed(2)).to(dtype)
    (outputs * weights * own[:, :, None]).sum().backward()
    for i, module in enumerate(modules):
        generator = torch.Generator().manual_seed(5)

        def drop(x: torch.Tensor, i: int = i, generator: torch.Generator = generator) -> torch.Tensor:
            noise = torch.rand((9, x.shape[1]), generator=generator)[own[i]]
            return torch.where(noise < rates[i], 0, x / (1 - rates[i]))

        expected = module(tokens[own[i]], drop)
        assert relative(outputs[i][own[i]], expected) < 10 * tolerance
        (expected * weights[i][own[i]]).sum().backward()
        for name in head.buffers:
            torch.testing.assert_close(parameters[name][i], named(module.state_dict())[name])
        same_gradients(module, gradients_of(values, i), D, 20 * tolerance, DEAD.get(kind, ()))


@every_kind
def test_pairs_that_nobody_wants_may_be_left_out_and_the_others_are_as_ever(textbook, named, kind: str):
    """A clip that no probe wants, one that all do, one that a few do."""
    head, tokens = HEADS[kind], draw_tokens(D, torch.float64)
    parameters = stacked(named, trained(textbook, kind, D, torch.float64))
    wanted = torch.tensor([[1, 0, 1, 0, 0], [1, 0, 0, 1, 0], [1, 0, 1, 1, 0]]).bool()
    outputs = head.forward(parameters, head.normalise(tokens), Step(wanted))
    everyone = head.forward(parameters, head.normalise(tokens), None)
    assert outputs.shape == everyone.shape and outputs.isfinite().all()
    torch.testing.assert_close(outputs[wanted], everyone[wanted], rtol=1e-12, atol=1e-12)


def test_batch_norm_counts_no_batch_with_fewer_than_two_clips(named, textbook):
    head = HEADS["mlp-bn"]
    parameters = stacked(named, trained(textbook, "mlp-bn", D, torch.float32))
    before = {name: parameters[name].clone() for name in head.buffers}
    own = torch.tensor([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]]).bool()
    outputs = head.forward(parameters, head.normalise(draw_tokens(D, torch.float32)), Step(own, training=True))
    assert outputs.isfinite().all()
    for name in head.buffers:
        assert (parameters[name][0] != before[name][0]).any()
        assert torch.equal(parameters[name][1:], before[name][1:])
    assert {kind for kind in HEADS if HEADS[kind].smallest == 2} == {"mlp-bn", "regressor"}


def test_dropout_before_the_first_layer_has_a_rate_of_its_own(textbook, named):
    """0.4 of the normalised mean token, beside the recipes' after the hidden layer; BatchNorm's bias then has an effect."""
    head, tokens = mlp((12,), True, "batch", 0.4), draw_tokens(D, torch.float64, 9)
    own, rates = torch.ones(P, 9, dtype=torch.bool), torch.tensor([0.0, 0.3, 0.6])
    modules = [module.train() for module in trained(textbook, "regressor", D, torch.float64)]
    values = learnt(head, parameters := stacked(named, modules))
    step = Step(own, rates, torch.Generator().manual_seed(5), training=True)
    outputs = head.forward(parameters, head.normalise(tokens), step)
    outputs.square().sum().backward()
    for i, module in enumerate(modules):
        generator = torch.Generator().manual_seed(5)
        first, second = (torch.rand((9, width), generator=generator) for width in (D, 12))
        x = module.norm(tokens.mean(1)) * (first >= 0.4) / 0.6
        expected = module.linear(module.hidden0(x) * (second >= rates[i]) / (1 - rates[i]))
        torch.testing.assert_close(outputs[i], expected, rtol=1e-6, atol=1e-6)  # the rates are float32
        expected.square().sum().backward()
        same_gradients(module, gradients_of(values, i), D, 1e-5, ("hidden0.bias",))
    assert head.drops and not HEADS["regressor"].drops


@pytest.mark.parametrize("kind", ["attentive", "lite"])
def test_the_textbook_cases_are_not_trivial(textbook, kind: str):
    """Attention must be far from uniform, or a wrong score would go unseen: another token more changes the outputs."""
    module, tokens = trained(textbook, kind, D, torch.float64)[0], draw_tokens(D, torch.float64)
    with torch.no_grad():
        x = (module.norm1 if kind == "attentive" else module.norm)(tokens)
        if kind == "attentive":
            keys, query = module.k(x).reshape(B, N, 16, -1), module.q(module.query).reshape(16, -1)
            weights = (torch.einsum("bnhe,he->bhn", keys, query) / math.sqrt(D // 16)).softmax(-1)
        else:
            weights = (torch.einsum("bnd,md->bmn", x, module.query) / math.sqrt(D)).softmax(-1)
    assert weights.max(-1).values.median() > 3 / N


@every_kind
def test_token_order_does_not_matter(textbook, named, kind: str):
    head, tokens = HEADS[kind], draw_tokens(D, torch.float64)
    parameters = stacked(named, trained(textbook, kind, D, torch.float64))
    shuffled = tokens[:, torch.randperm(N, generator=torch.Generator().manual_seed(0))]
    outputs = head.forward(parameters, head.normalise(tokens), None)
    again = head.forward(parameters, head.normalise(shuffled), None)
    assert torch.allclose(outputs, again, rtol=1e-11, atol=1e-11)


@every_kind
def test_a_probe_does_not_feel_its_neighbours(textbook, named, kind: str):
    head = HEADS[kind]
    tokens = head.normalise(draw_tokens(D, torch.float32))
    parameters = stacked(named, trained(textbook, kind, D, torch.float32))
    alone = head.forward({name: value[1:2] for name, value in parameters.items()}, tokens, None)
    assert relative(head.forward(parameters, tokens, None)[1], alone[0]) < 1e-6


@every_kind
def test_initial_parameters_are_distributed_as_published(textbook, named, kind: str):
    dim, head = 192, HEADS[kind]
    drawn = head.init(dim, 50, torch.Generator().manual_seed(3))
    state = named(textbook(kind, dim, 50).state_dict())
    assert {k: v.shape for k, v in drawn.items()} == {k: v.shape for k, v in state.items()}
    for name, value in drawn.items():
        if "norm" in name or ".bn." in name:
            assert torch.equal(value, torch.full_like(value, float(name.endswith(("weight", "var"))))), name
        elif name.endswith("bias"):
            assert not value.any(), name
        else:
            std = 0.02 / math.sqrt(divisor(name, kind))
            assert value.std() == pytest.approx(std, rel=6 / math.sqrt(2 * value.numel())), name
            assert abs(value.mean()) < 5 * std / math.sqrt(value.numel()), name
            assert value.abs().max() <= 2


def divisor(name: str, kind: str) -> int:
    """Return what the variance of a residual branch's last matrix is divided by: twice the number of its block."""
    if name == "fc2.weight":
        return 6 if kind == "deep" else 2
    if name.startswith("blocks.") and name.endswith(("attn.proj.weight", "mlp.fc2.weight")):
        return 2 * (int(name.split(".")[1]) + 1)
    return 1


@every_kind
def test_the_same_seed_draws_the_same_probe(kind: str):
    first, again, other = (HEADS[kind].init(D, 3, torch.Generator().manual_seed(seed)) for seed in (7, 7, 8))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["linear.weight"], other["linear.weight"])


def test_depth_one_by_either_way_is_the_same_probe():
    tokens, deep = draw_tokens(D, torch.float32), attentive_deep(1)
    drawn = {name: value[None] for name, value in deep.init(D, 3, torch.Generator().manual_seed(1)).items()}
    fast = ATTENTIVE.init(D, 3, torch.Generator().manual_seed(1))
    assert drawn.keys() == fast.keys() and all(torch.equal(drawn[name][0], fast[name]) for name in fast)
    outputs = deep.forward(drawn, deep.normalise(tokens), None)
    torch.testing.assert_close(outputs, ATTENTIVE.forward(drawn, ATTENTIVE.normalise(tokens), None))


@pytest.mark.parametrize(("dim", "heads"), [(192, 16), (1024, 16), (1408, 16), (40, 10), (7, 7), (1, 1), (34, 2)])
def test_attention_heads(dim: int, heads: int):
    assert attention_heads(dim) == heads


@pytest.mark.parametrize(("dim", "queries"), [(48, 4), (50, 2), (7, 1)])
def test_lite_takes_as_many_queries_as_divide_the_width(dim: int, queries: int):
    assert attentive_lite(4).init(dim, 2, torch.Generator())["query"].shape == (queries, dim)
