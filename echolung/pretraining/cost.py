"""What a step takes: memory, from a run of it on tensors that have a shape but no content; and operations."""

import math
import os
import weakref
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from echolung.device import default_precision
from echolung.encoders.sizes import VITS
from echolung.encoders.vit import VisionTransformer, rope_tables
from echolung.errors import InputError
from echolung.machine import free_memory
from echolung.pretraining.jepa import Jepa
from echolung.pretraining.masks import draw_masks
from echolung.pretraining.predictor import Predictor
from echolung.pretraining.recipe import Recipe
from echolung.text import in_bytes

MARGIN = 1.1
"""Memory wanted over memory counted: what the allocator cannot use, and the workspaces of libraries."""


SAMPLES = 256
"""Clips of a batch that masks are drawn for, at most."""


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of one clip in one step, a multiplication and an addition counted as two.

    The model's own: what checkpointing computes twice is counted once, as model-FLOP utilisation has it.

    Attributes:
        encoder: forward and backward, on the visible tokens of each generator.
        predictor: forward and backward, for each generator.
        target: forward, on the whole clip.
    """

    encoder: float
    predictor: float
    target: float

    @property
    def total(self) -> float:
        """All three."""
        return self.encoder + self.predictor + self.target


Lengths = list[tuple[int, int]]
"""Visible tokens and tokens to predict, of each generator."""


def clip_flops(recipe: Recipe) -> Flops:
    """Return what a clip of a step takes, at the mean lengths of the masks of some batches.

    Matrix products alone. One backward is two forwards, but for the patches, whose pixels need no gradient.
    """
    vit, plan = VITS[recipe.encoder.architecture], recipe.predictor
    draws = mask_lengths(recipe, recipe.optimiser.batch)
    tokens = math.prod(_grid(recipe))
    patch = 2 * vit.channels * vit.tubelet * vit.patch**2 * vit.dim
    embed = 2 * vit.dim * plan.dim

    def blocks(n: int, dim: int, mlp: int, depth: int) -> float:
        return depth * (2.0 * n * (4 * dim * dim + 2 * dim * mlp) + 4.0 * n * n * dim)

    encoder = predictor = 0.0
    for k, m in (lengths for draw in draws for lengths in draw):
        encoder += 2 * k * patch + 3 * blocks(k, vit.dim, vit.mlp, vit.depth)
        predictor += 3 * ((k + m) * embed + blocks(k + m, plan.dim, 4 * plan.dim, plan.depth))
    target = tokens * patch + blocks(tokens, vit.dim, vit.mlp, vit.depth)
    return Flops(encoder / len(draws), predictor / len(draws), target)


def step_bytes(recipe: Recipe, batch: int, ranks: int = 1, precision: str | None = None) -> int:
    """Return the most bytes that one process holds during a step, in the largest of some draws of the masks.

    Parameters of the three networks and AdamW's two moments stay; gradients, activations (kept for the way back, or with
    `run.checkpointing` only each block's input) and temporaries come and go. On a GPU what its libraries take comes on
    top.

    Args:
        recipe: of the run.
        batch: clips a step, over all processes.
        ranks: processes.
        precision: "float32" or "bfloat16" (autocast); None: the recipe's.
    """
    vit, plan = VITS[recipe.encoder.architecture], recipe.predictor

    def weight(lengths: Lengths) -> int:
        return sum(k * vit.dim * vit.depth + (k + m) * plan.dim * plan.depth for k, m in lengths)

    largest = max(mask_lengths(recipe, batch), key=weight)
    return _dry_step(recipe, batch // ranks, largest, precision or _precision(recipe))


def fitting_batch(recipe: Recipe, room_bytes: int, ranks: int = 1, precision: str | None = None) -> int:
    """Return the largest batch up to the recipe's that fits, over all processes; 0 where not even a clip a process does.

    Args:
        recipe: of the run.
        room_bytes: what one process has, from `room`.
        ranks: processes.
        precision: as for `step_bytes`.
    """
    needed = _needed(recipe, recipe.optimiser.batch, ranks, precision)
    return recipe.optimiser.batch if needed <= room_bytes else _fewer(recipe, needed, room_bytes, ranks, precision)


def _needed(recipe: Recipe, batch: int, ranks: int, precision: str | None) -> int:
    return round(step_bytes(recipe, batch, ranks, precision) * MARGIN)


def _fewer(recipe: Recipe, needed: int, room_bytes: int, ranks: int, precision: str | None) -> int:
    """Return the largest batch that fits, where the recipe's own, which has `needed`, is too large.

    A dry run of a large encoder takes seconds. Memory is a line in clips, but for masks that get a little shorter: a guess
    along it, from one clip to the fewest known to be too many, rarely has to be made again.
    """
    least, clips = _needed(recipe, ranks, ranks, precision), recipe.optimiser.batch // ranks
    if least > room_bytes:
        return 0
    while needed > room_bytes:
        clips = 1 + (room_bytes - least) * (clips - 1) // (needed - least)
        needed = _needed(recipe, clips * ranks, ranks, precision) if clips > 1 else least
    return clips * ranks


def check_room(recipe: Recipe, room_bytes: int, ranks: int = 1, precision: str | None = None) -> None:
    """Make sure that a step fits.

    Raises:
        InputError: it does not; says what it needs, what there is, and which batch would fit.
    """
    batch = recipe.optimiser.batch
    needed = _needed(recipe, batch, ranks, precision)
    if needed <= room_bytes:
        return
    process = f" ({batch // ranks} a process)" if ranks > 1 else ""
    advice = []
    if fits := _fewer(recipe, needed, room_bytes, ranks, precision):
        advice.append(f"A batch of {fits} would fit: --set optimiser.batch={fits}.")
    if not recipe.run.checkpointing:
        lean = replace(recipe, run=replace(recipe.run, checkpointing=True))
        if more := fitting_batch(lean, room_bytes, ranks, precision):
            also = "" if more == batch else f" and --set optimiser.batch={more}"
            as_well = " as well" if fits else ""
            advice.append(f"With --set run.checkpointing=true{also} it would fit{as_well}, in about a third more time.")
    if not advice:
        least = "one clip" if ranks == 1 else f"{ranks} clips, one a process,"
        advice.append(f"Not even {least} would fit: take a smaller encoder.architecture or clips.size.")
    raise InputError(
        f"A step of {recipe.encoder.architecture} on {batch} clips{process} of {recipe.clips.frames} frames at "
        f"{recipe.clips.size} pixels needs about {in_bytes(needed)} of memory; there are {in_bytes(room_bytes)}. "
        f"{' '.join(advice)}"
    )


def room(device: torch.device) -> int:
    """Return the bytes that this process can have.

    Of a GPU, what is free or already its own. Else an equal share for each training process here of what the machine has
    free, or of what is left of the limit that a container or a cluster's job sets.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    return free_memory() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # torchrun's


def mask_lengths(recipe: Recipe, batch: int) -> list[Lengths]:
    """Return the lengths of the masks of some steps: they change with the block drawn for a step.

    Masks are cut to the least of the batch. Of a large one the first `SAMPLES` clips are drawn: with all of them lengths
    would be the same or shorter.
    """
    drawn = min(batch, SAMPLES)
    steps = max(4, min(32, 1024 // drawn))
    draws = (
        draw_masks(_grid(recipe), recipe.masks, recipe.run.seed, step, np.arange(step * batch, step * batch + drawn))
        for step in range(steps)
    )
    return [[(mask.context.shape[1], mask.target.shape[1]) for mask in masks] for masks in draws]


class _Live(TorchDispatchMode):
    """Follows the bytes of all storages made under it, and the most that were alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._see(tensor.untyped_storage())
        return out

    def _see(self, storage: torch.UntypedStorage) -> None:
        if storage in self.known:
            return
        size = self.known[storage] = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.now -= size


def _dry_step(recipe: Recipe, clips: int, lengths: Lengths, precision: str) -> int:
    """Go forward and backward without memory or time; return the most bytes that would have been held."""
    vit = VITS[recipe.encoder.architecture]
    encoder, target = VisionTransformer(vit, seed=None), VisionTransformer(vit, seed=None)
    jepa = Jepa(encoder, Predictor(recipe.predictor, vit.dim, seed=None), target)
    for part in (jepa.encoder, jepa.predictor):
        part.checkpointing = recipe.run.checkpointing
    for module in jepa.modules():
        if isinstance(module, nn.LayerNorm):  # autocast leaves it in float32 on a GPU, but not on a CPU
            module.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))
    shapes = {name: tensor.shape for name, tensor in jepa.state_dict().items()}
    rope_tables.cache_clear()
    try:
        # Always as if on a CPU: what a GPU does can then be told on a machine that has none.
        with FakeTensorMode():
            jepa.load_state_dict({name: torch.empty(shape) for name, shape in shapes.items()}, assign=True)
            with _Live() as live:
                clip = torch.empty(clips, vit.channels, recipe.clips.frames, recipe.clips.size, recipe.clips.size)
                contexts = [torch.empty(clips, k, dtype=torch.int64) for k, _ in lengths]
                targets = [torch.empty(clips, m, dtype=torch.int64) for _, m in lengths]
                with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                    losses = jepa(clip, contexts, targets, torch.empty(clips))
                losses.loss.backward()
    finally:
        rope_tables.cache_clear()  # it remembers tables, and these have no content
    trained = sum(p.nbytes for p in jepa.parameters() if p.requires_grad)
    return sum(p.nbytes for p in jepa.parameters()) + 2 * trained + live.peak


def _grid(recipe: Recipe) -> tuple[int, int, int]:
    vit, clips = VITS[recipe.encoder.architecture], recipe.clips
    return clips.frames // vit.tubelet, clips.size // vit.patch, clips.size // vit.patch


def _precision(recipe: Recipe) -> str:
    return default_precision() if recipe.run.precision == "auto" else recipe.run.precision
