"""Stacked heads against the textbook modules that they stand for: outputs and every gradient."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from echolung.probes.heads import ATTENTIVE, LINEAR, Head, attention_heads

D, CLASSES, N, B, P = 48, 3, 11, 5, 3


class TextbookLinear(nn.Module):
    """EchoJEPA's linear probe: mean over tokens, LayerNorm, Linear."""

    def __init__(self, dim: int, outputs: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.linear = nn.Linear(dim, outputs)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.linear(self.norm(tokens.mean(1)))


class TextbookAttentive(nn.Module):
    """V-JEPA 2's AttentivePooler at depth 1 with a Linear on top: keys and values are formed, token by token."""

    def __init__(self, dim: int, outputs: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(dim))
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.q, self.kv = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim)
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.linear = nn.Linear(dim, outputs)
        self.heads = attention_heads(dim)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        b, n, d = tokens.shape
        query = self.query.expand(b, 1, d)
        q = self.q(query).reshape(b, 1, self.heads, d // self.heads).transpose(1, 2)
        k, v = self.kv(self.norm1(tokens)).reshape(b, n, 2, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        attended = ((q @ k.transpose(2, 3)) / math.sqrt(d // self.heads)).softmax(-1) @ v
        x = query + attended.transpose(1, 2).reshape(b, 1, d)
        x = x + self.fc2(F.gelu(self.fc1(self.norm2(x))))
        return self.linear(x[:, 0])


TEXTBOOK = {LINEAR: TextbookLinear, ATTENTIVE: TextbookAttentive}
both = pytest.mark.parametrize("head", [LINEAR, ATTENTIVE], ids=["linear", "attentive"])


def trained(head: Head, dim: int, dtype: torch.dtype, scale: float = 0.5) -> list[nn.Module]:
    """Return P textbook probes whose every parameter is far from its initial value."""
    generator = torch.Generator().manual_seed(1)
    modules = [TEXTBOOK[head](dim, CLASSES).to(dtype) for _ in range(P)]
    for module in modules:
        for value in module.parameters():
            spread = scale if value.dim() == 1 else 2 / math.sqrt(value.shape[-1])
            value.data = spread * torch.randn(value.shape, generator=generator).to(dtype)
        for norm in (m for m in module.modules() if isinstance(m, nn.LayerNorm)):
            norm.weight.data += 1
    return modules


def stacked(modules: list[nn.Module]) -> dict[str, torch.Tensor]:
    states = [dict(module.named_parameters()) for module in modules]
    return {name: torch.stack([s[name].detach() for s in states]).requires_grad_() for name in states[0]}


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(((a - b).norm() / b.norm()).detach())


@both
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("dim", [D, 40], ids=["16 heads", "10 heads"])
def test_outputs_and_gradients_are_the_textbook_modules(head: Head, dtype: torch.dtype, tolerance: float, dim: int):
    tokens = 3 * torch.randn(B, N, dim, generator=torch.Generator().manual_seed(0)).to(dtype) + 1
    modules = trained(head, dim, dtype)
    parameters = stacked(modules)
    outputs = head.forward(parameters, head.normalise(tokens))
    weights = torch.randn(P, B, CLASSES, generator=torch.Generator().manual_seed(2)).to(dtype)
    (outputs * weights).sum().backward()
    for i, module in enumerate(modules):
        expected = module(tokens)
        assert relative(outputs[i], expected) < tolerance
        (expected * weights[i]).sum().backward()
        for name, value in module.named_parameters():
            gradient = parameters[name].grad[i]
            if name == "kv.bias":  # the key half has no effect: exactly zero here, rounding there
                assert not gradient[:dim].any()
                assert value.grad[:dim].abs().max() < 1e-4 * value.grad[dim:].abs().max()
                assert relative(gradient[dim:], value.grad[dim:]) < tolerance
            else:
                assert relative(gradient, value.grad) < tolerance, name


def test_the_textbook_cases_are_not_trivial():
    """Attention must be far from uniform, or a wrong score would go unseen."""
    tokens = torch.randn(B, N, D, generator=torch.Generator().manual_seed(0))
    module = trained(ATTENTIVE, D, torch.float32)[0]
    with torch.no_grad():
        keys = module.kv(module.norm1(tokens))[..., :D].reshape(B, N, 16, -1)
        query = module.q(module.query).reshape(16, -1)
        weights = (torch.einsum("bnhe,he->bhn", keys, query) / math.sqrt(D // 16)).softmax(-1)
    assert weights.max(-1).values.median() > 3 / N


@both
def test_token_order_does_not_matter(head: Head):
    tokens = torch.randn(B, N, D, dtype=torch.float64)
    parameters = stacked(trained(head, D, torch.float64))
    shuffled = tokens[:, torch.randperm(N)]
    outputs = head.forward(parameters, head.normalise(tokens))
    assert torch.allclose(outputs, head.forward(parameters, head.normalise(shuffled)), rtol=0, atol=1e-12)


@both
def test_a_probe_does_not_feel_its_neighbours(head: Head):
    tokens = head.normalise(torch.randn(B, N, D))
    parameters = {name: value.detach() for name, value in stacked(trained(head, D, torch.float32)).items()}
    alone = head.forward({name: value[1:2] for name, value in parameters.items()}, tokens)
    assert relative(head.forward(parameters, tokens)[1], alone[0]) < 1e-6


@both
def test_initial_parameters_are_distributed_as_published(head: Head):
    dim = 192
    drawn = head.init(dim, 50, torch.Generator().manual_seed(3))
    assert {k: v.shape for k, v in drawn.items()} == {k: v.shape for k, v in TEXTBOOK[head](dim, 50).named_parameters()}
    for name, value in drawn.items():
        if "norm" in name:
            assert torch.equal(value, torch.full_like(value, float(name.endswith("weight")))), name
        elif name.endswith("bias"):
            assert not value.any(), name
        else:
            std = 0.02 / math.sqrt(2) if name == "fc2.weight" else 0.02
            assert value.std() == pytest.approx(std, rel=0.15 if name == "query" else 0.03), name
            assert abs(value.mean()) < 5 * std / math.sqrt(value.numel()), name


@both
def test_the_same_seed_draws_the_same_probe(head: Head):
    first, again, other = (head.init(D, 3, torch.Generator().manual_seed(seed)) for seed in (7, 7, 8))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["linear.weight"], other["linear.weight"])


@pytest.mark.parametrize(("dim", "heads"), [(192, 16), (1024, 16), (1408, 16), (40, 10), (7, 7), (1, 1), (34, 2)])
def test_attention_heads(dim: int, heads: int):
    assert attention_heads(dim) == heads
