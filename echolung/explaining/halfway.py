"""A clip part of the way through a model: the feature map of a stage, and what the model makes of it from there on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from echolung.encoders.stages import Stage, Tokens, stages_of
from echolung.errors import InputError
from echolung.text import suggest

LAST = "last"

Grid = tuple[int, int, int]


@dataclass(frozen=True)
class Halfway:
    """A clip after one of a model's stages.

    Attributes:
        stage: the stage's name.
        cells: its feature map; of two streams the first, which sees grey levels.
        pitch: frames, rows and columns of the clip from one cell to the next.
        finish: a feature map in the place of `cells` -> the model's tokens.
    """

    stage: str
    cells: Float[Tensor, "1 d t h w"]
    pitch: tuple[int, int, int]
    finish: Callable[[Tensor], Tensor]


def find_stage(model: nn.Module, name: str = LAST) -> int:
    """Return the place of a stage among those of the model; "last" is the one whose map is the tokens.

    Raises:
        InputError: the model has no such stage.
    """
    names = [stage.name for stage in stages_of(model)]
    if name == LAST:
        return len(names) - 1
    if name not in names:
        alone = " Nothing can be seen inside it but its last map." if len(names) == 1 else suggest(name, names)
        raise InputError(
            f"The encoder has no stage {name!r}; it has {', '.join(map(repr, names))} and {LAST!r}.{alone}"
        )
    return names.index(name)


@torch.no_grad()
def go_halfway(model: nn.Module, frames: Float[Tensor, "1 c t h w"], name: str = LAST) -> Halfway:
    """Send a normalised clip through a model up to a stage.

    Args:
        model: any that `stages_of` takes, in eval mode.
        frames: the clip.
        name: of the stage, or "last".

    Raises:
        InputError: no such stage, or frames that the model does not take.
    """
    number, stages = find_stage(model, name), stages_of(model)
    x: Any = frames
    streams, grids = 1, [_size(frames)]
    for stage in stages[: number + 1]:
        streams = len(x) if isinstance(x, tuple) else streams
        x = stage.run(x)
        grids.append(_grid(x, model, frames))
    cells, instead = _open(x, grids[-1], streams)
    rest = stages[number + 1 :]
    return Halfway(stages[number].name, cells, _pitch(grids), lambda other: _run(rest, instead(other)))


def _run(stages: Sequence[Stage], x: Any) -> Any:
    for stage in stages:
        x = stage.run(x)
    return x


def _open(x: Any, grid: Grid, streams: int) -> tuple[Tensor, Callable[[Tensor], Any]]:
    """Return the feature map in a stage's output, and what puts another into its place."""
    if isinstance(x, tuple):
        return x[0], lambda cells: (cells, *x[1:])
    if isinstance(x, Tokens):
        return _to_map(x.values, grid), lambda cells: replace(x, values=_to_tokens(cells))
    if x.ndim == 5:
        return x, lambda cells: cells
    first, *others = x.chunk(streams, dim=-1)  # tokens; the streams' lie side by side
    return _to_map(first, grid), lambda cells: torch.cat([_to_tokens(cells), *others], dim=-1)


def _to_map(tokens: Float[Tensor, "b n d"], grid: Grid) -> Float[Tensor, "b d t h w"]:
    return rearrange(tokens, "b (t h w) d -> b d t h w", t=grid[0], h=grid[1])


def _to_tokens(cells: Float[Tensor, "b d t h w"]) -> Float[Tensor, "b n d"]:
    return rearrange(cells, "b d t h w -> b (t h w) d")


def _grid(x: Any, model: Any, frames: Tensor) -> Grid:
    """Return the (t, h, w) of a stage's output."""
    if isinstance(x, tuple):
        return _size(x[0])
    if isinstance(x, Tokens):
        return x.grid
    return _size(x) if x.ndim == 5 else model.grid(*frames.shape[2:])


def _size(x: Tensor) -> Grid:
    t, h, w = x.shape[2:]
    return t, h, w


def _pitch(grids: Sequence[Grid]) -> tuple[int, int, int]:
    """Return how much of the clip a cell is for.

    It is the product of the stages' strides, not size / cells: where a stride leaves a remainder (UniFormer on 112 pixels:
    28, 14, 7, 3 cells), the cells are for the left and upper part only, here 96 pixels.
    """
    t, h, w = (
        prod(max(1, round(before[axis] / after[axis])) for before, after in pairwise(grids)) for axis in range(3)
    )
    return t, h, w
