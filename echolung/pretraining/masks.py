"""Which tokens of a clip the encoder sees and which the predictor must guess: the multi-block tubes of V-JEPA 2."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from echolung.errors import InputError
from echolung.pretraining.plans import MaskPlan

SIZE, SAMPLE = 61, 62
"""Tags of what is drawn: the block size of a step, the rest of a sample."""
DRAWS = 100
"""Placements tried before all blocks of a sample take one place."""


@dataclass(frozen=True)
class Masks:
    """One generator's masks of a batch, as ascending indices into the t-major token grid.

    Attributes:
        context: tokens that the encoder sees.
        target: tokens to be predicted.
    """

    context: Int[np.ndarray, "b k"]
    target: Int[np.ndarray, "b m"]


def draw_masks(
    grid: tuple[int, int, int],
    plan: MaskPlan,
    seed: int,
    step: int,
    samples: Int[np.ndarray, " n"],
    rows: slice = slice(None),
) -> list[Masks]:
    """Return the masks of a step, one entry a generator of the plan.

    The published rules (facebookresearch/vjepa2, src/masks/multiseq_multiblock3d.py): a generator draws one block size
    a step; each sample puts `blocks` blocks of it at random places, overlapping or not, through all time slots; their
    union is the target, the rest the context, drawn again while that is empty. Both are then cut to the least of the
    whole batch, so that they stack. With `truncate = "first"` the lowest ids stay, as published: early slots keep all,
    late ones next to nothing. With "random" a uniformly random set of whole tubes (places, in all slots) stays. Tubes
    rather than single tokens: what remains is made as the rule makes it, a place is visible throughout or not at all,
    and every slot keeps exactly the same number, not only on average.

    What a sample gets depends on (seed, step, its number); truncation, on the least of the batch besides.

    Args:
        grid: tokens of a clip (t, h, w).
        plan: see `MaskPlan`.
        seed: of the run.
        step: from 0.
        samples: numbers of the samples of the whole batch, over all processes.
        rows: the part of the batch to return, such as one process' share.

    Raises:
        InputError: a frame is a single patch, so that a tube hides all of it.
    """
    slots, height, width = grid
    if height * width < 2:
        raise InputError(
            f"Clips of {slots} × {height} × {width} tokens cannot be masked: the one patch of a frame would be hidden "
            "through all of the clip. Raise clips.size to two patches or more."
        )
    generators = range(len(plan.blocks))
    return [_draw(grid, plan, generator, (seed, step, generator), samples, rows) for generator in generators]


def _draw(
    grid: tuple[int, int, int],
    plan: MaskPlan,
    generator: int,
    key: tuple[int, int, int],
    samples: Int[np.ndarray, " n"],
    rows: slice,
) -> Masks:
    slots, height, width = grid
    size = block_size(height, width, plan.scale[generator], plan.aspect, np.random.default_rng([SIZE, *key]))
    streams = [np.random.default_rng([SAMPLE, *key, sample]) for sample in samples.tolist()]
    hidden = _hidden(height, width, size, plan.blocks[generator], streams).reshape(len(samples), -1)
    least = int((~hidden).sum(1).min()), int(hidden.sum(1).min())
    order = None
    if plan.truncate == "random":
        order = np.stack([stream.random(height * width) for stream in streams[rows]])
    hidden = hidden[rows]
    return Masks(_ids(~hidden, slots, least[0], order), _ids(hidden, slots, least[1], order))


def block_size(
    height: int, width: int, scale: float, aspect: tuple[float, float], random: np.random.Generator
) -> tuple[int, int]:
    """Return the rows and columns of a block that takes `scale` of a frame, its rows over columns uniform in `aspect`.

    A block that would cover the frame loses a row or a column of its longer side: it could leave nothing visible.
    """
    area, ratio = int(height * width * scale), random.uniform(*aspect)
    rows = min(max(1, round(math.sqrt(area * ratio))), height)
    columns = min(max(1, round(math.sqrt(area / ratio))), width)
    if (rows, columns) == (height, width):
        return (rows - 1, columns) if rows > columns else (rows, columns - 1)
    return rows, columns


def _hidden(
    height: int, width: int, size: tuple[int, int], blocks: int, streams: list[np.random.Generator]
) -> Bool[np.ndarray, "n h w"]:
    """Return the union of each sample's blocks, none of them the whole frame."""
    room = np.array([height - size[0] + 1, width - size[1] + 1])
    hidden = np.ones((len(streams), height, width), bool)
    redraw = np.arange(len(streams))
    for draw in range(DRAWS + 1):
        corners = np.stack([(streams[row].random((blocks, 2)) * room).astype(int) for row in redraw])
        if draw == DRAWS:  # many large blocks on a small frame: one place is sure to leave some of it
            corners[:] = corners[:, :1]
        across = [
            (corner[..., None] <= np.arange(length)) & (np.arange(length) < corner[..., None] + side)
            for corner, length, side in zip(np.moveaxis(corners, 2, 0), (height, width), size, strict=True)
        ]
        hidden[redraw] = (across[0][..., :, None] & across[1][..., None, :]).any(1)
        redraw = redraw[hidden[redraw].all((1, 2))]
        if not len(redraw):
            break
    return hidden


def _ids(
    members: Bool[np.ndarray, "b p"], slots: int, least: int, order: Float[np.ndarray, "b p"] | None
) -> Int[np.ndarray, "b k"]:
    """Return the ids of `slots · least` tokens of member places: the lowest, or those of the places first in `order`."""
    if order is None:
        places, counts = np.argsort(~members, axis=1, kind="stable"), members.sum(1, keepdims=True)
    else:
        first = np.argsort(np.where(members, order, np.inf), axis=1)[:, :least]
        places, counts = np.sort(first, axis=1), np.full((len(members), 1), least)
    # A sample's ascending ids run through its member places slot after slot.
    slot, rank = np.divmod(np.arange(slots * least), counts)
    return slot * members.shape[1] + np.take_along_axis(places, rank, axis=1)
