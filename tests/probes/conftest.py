"""The probes as a textbook writes them: plain torch modules whose parameters have the names that the bank's have."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

Drop = Callable[[torch.Tensor], torch.Tensor]


def nothing(x: torch.Tensor) -> torch.Tensor:
    return x


class Linear(nn.Module):
    """Mean over tokens, LayerNorm, dropout, Linear."""

    def __init__(self, dim: int, outputs: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.linear = nn.Linear(dim, outputs)

    def forward(self, tokens: torch.Tensor, drop: Drop = nothing) -> torch.Tensor:
        return self.linear(drop(self.norm(tokens.mean(1))))


class Hidden(nn.Linear):
    """A layer that owns its BatchNorm, so that names are nested as in the bank."""

    def __init__(self, before: int, after: int, batch_norm: bool) -> None:
        super().__init__(before, after)
        self.bn = nn.BatchNorm1d(after) if batch_norm else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.gelu(self.bn(super().forward(x)))


class MLP(nn.Module):
    """Mean over tokens, LayerNorm, two hidden layers with GELU and dropout, Linear."""

    def __init__(self, dim: int, outputs: int, batch_norm: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.hidden0, self.hidden1 = Hidden(dim, 12, batch_norm), Hidden(12, 8, batch_norm)
        self.linear = nn.Linear(8, outputs)

    def forward(self, tokens: torch.Tensor, drop: Drop = nothing) -> torch.Tensor:
        return self.linear(drop(self.hidden1(drop(self.hidden0(self.norm(tokens.mean(1)))))))


class Regressor(nn.Module):
    """Mean over tokens, BatchNorm, Linear, BatchNorm, GELU, dropout, Linear: CoReEcho's regressor without its first dropout."""

    def __init__(self, dim: int, outputs: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(dim)
        self.hidden0 = Hidden(dim, 12, True)
        self.linear = nn.Linear(12, outputs)

    def forward(self, tokens: torch.Tensor, drop: Drop = nothing) -> torch.Tensor:
        return self.linear(drop(self.hidden0(self.norm(tokens.mean(1)))))


class Last(nn.Module):
    """Mean over tokens, Linear: how an encoder trained end to end ends."""

    def __init__(self, dim: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, outputs)

    def forward(self, tokens: torch.Tensor, drop: Drop = nothing) -> torch.Tensor:
        return self.linear(tokens.mean(1))


class Lite(nn.Module):
    """Four queries on the standardised tokens: each weighs them by its own softmax and pools a quarter of their width."""

    def __init__(self, dim: int, outputs: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(4, dim))
        self.linear = nn.Linear(dim, outputs)
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)

    def forward(self, tokens: torch.Tensor, drop: Drop = nothing) -> torch.Tensor:
        x = self.norm(tokens)
        b, n, d = x.shape
        keys, query = x[:, None].expand(b, 4, n, d), self.query[None, :, None].expand(b, 4, 1, d)
        values = x.reshape(b, n, 4, d // 4).transpose(1, 2)
        return self.linear(drop(F.scaled_dot_product_attention(query, keys, values).reshape(b, d)))


class Attentive(nn.Module):
    """V-JEPA's pooler at depth 1: keys and values are formed, token by token."""

    def __init__(self, dim: int, outputs: int, heads: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(dim))
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.q, self.k, self.v = (nn.Linear(dim, dim) for _ in range(3))
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.linear = nn.Linear(dim, outputs)
        self.heads = heads

    def forward(self, tokens: torch.Tensor, drop: Drop = nothing) -> torch.Tensor:
        b, _, d = tokens.shape
        query, x = self.query.expand(b, 1, d), self.norm1(tokens)
        split = [
            y.reshape(b, -1, self.heads, d // self.heads).transpose(1, 2) for y in (self.q(query), self.k(x), self.v(x))
        ]
        x = query + F.scaled_dot_product_attention(*split).transpose(1, 2).reshape(b, 1, d)
        x = x + self.fc2(F.gelu(self.fc1(self.norm2(x))))
        return self.linear(drop(x[:, 0]))


class Block(nn.Module):
    """A transformer block: x + attention(LN(x)), then + MLP(LN(x))."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(dim, 3 * dim), "proj": nn.Linear(dim, dim)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(dim, 4 * dim), "fc2": nn.Linear(4 * dim, dim)})
        self.heads = heads

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, n, d = x.shape
        split = [
            y.reshape(b, n, self.heads, d // self.heads).transpose(1, 2)
            for y in self.attn["qkv"](self.norm1(x)).chunk(3, dim=2)
        ]
        x = x + self.attn["proj"](F.scaled_dot_product_attention(*split).transpose(1, 2).reshape(b, n, d))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class Deep(Attentive):
    """Three blocks of self-attention over all tokens, then the pooler of depth 1."""

    def __init__(self, dim: int, outputs: int, heads: int) -> None:
        super().__init__(dim, outputs, heads)
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(3))

    def forward(self, tokens: torch.Tensor, drop: Drop = nothing) -> torch.Tensor:
        for block in self.blocks:
            tokens = block(tokens)
        return super().forward(tokens, drop)


def make(kind: str, dim: int, outputs: int, heads: int = 16) -> nn.Module:
    """Return the textbook module of a kind: linear, mlp, mlp-bn, regressor, last, lite, attentive, deep (depth 4)."""
    if kind in ("attentive", "deep"):
        return (Attentive if kind == "attentive" else Deep)(dim, outputs, heads)
    if kind in ("mlp", "mlp-bn"):
        return MLP(dim, outputs, kind == "mlp-bn")
    return {"linear": Linear, "regressor": Regressor, "last": Last, "lite": Lite}[kind](dim, outputs)


@pytest.fixture(scope="session")
def textbook() -> Callable[..., nn.Module]:
    return make


def ours(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        name.replace("running_", ""): value for name, value in state.items() if not name.endswith("num_batches_tracked")
    }


@pytest.fixture(scope="session")
def named() -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    """Return what gives a module's state the bank's names (BatchNorm's running_mean is .mean there)."""
    return ours
