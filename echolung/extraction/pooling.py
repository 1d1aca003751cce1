"""Fewer tokens: the mean over neighbours in the token grid."""

import math

from jaxtyping import Float
from torch import Tensor, nn

from echolung.encoders import Encoder
from echolung.errors import InputError

Grid = tuple[int, int, int]


def pooled_grid(grid: Grid, pool: int) -> Grid:
    """Return the grid (t, h, w) after the mean over `pool` × `pool` neighbours; time is kept.

    Raises:
        InputError: `pool` does not divide height and width.
    """
    t, h, w = grid
    if h % pool or w % pool:
        fitting = [str(n) for n in range(2, math.gcd(h, w) + 1) if math.gcd(h, w) % n == 0]
        those = f"{', '.join(fitting)} would fit" if fitting else "no other number would fit either: leave it out"
        raise InputError(f"--token-pool {pool} does not divide the encoder's token grid of {h} × {w}; {those}.")
    return t, h // pool, w // pool


class GridPool(nn.Module):
    """An encoder whose tokens are the mean over `pool` × `pool` neighbours of its own, in float32."""

    def __init__(self, encoder: Encoder, grid: Grid, pool: int) -> None:
        super().__init__()
        self.encoder, self.grid, self.pool = encoder, grid, pool

    def forward(self, frames: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b m d"]:
        """Return the pooled tokens of normalised frames, in time, row, column order."""
        return pool_tokens(self.encoder(frames).float(), self.grid, self.pool)


def pool_tokens(tokens: Float[Tensor, "b n d"], grid: Grid, pool: int) -> Float[Tensor, "b m d"]:
    """Return the mean over `pool` × `pool` neighbours of the grid (t, h, w), n = t·h·w to m = n / pool²."""
    t, h, w = pooled_grid(grid, pool)
    b, _, d = tokens.shape
    return tokens.reshape(b, t, h, pool, w, pool, d).mean(dim=(3, 5)).reshape(b, t * h * w, d)
