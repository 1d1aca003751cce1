"""The sections of a recipe: what can be set, what it means, and from where to where."""

import math
from dataclasses import dataclass

from echolung.clips.grey import Draw
from echolung.encoders.sizes import VITS


@dataclass(frozen=True)
class ClipsPlan:
    """How a clip is cut out of a video.

    Attributes:
        frames: of a clip.
        fps: frames a second of a clip; a video without a clock (a folder of images) is taken frame by frame.
        size: height and width, pixels.
        scale: area of the random crop over that of the centred square (EchoJEPA; V-JEPA 2 has 0.3 to 1).
        aspect: width over height of the crop (EchoJEPA; V-JEPA 2 has 0.75 to 1.35).
        flip: mirror half of the clips. Off, as EchoJEPA has it: an echo's left and right mean something.
    """

    frames: int = 16
    fps: float = 8.0
    size: int = 224
    scale: tuple[float, float] = (0.5, 1.0)
    aspect: tuple[float, float] = (0.9, 1.1)
    flip: bool = False

    @property
    def limit(self) -> int:
        """The largest side, pixels, that a clip need have: its smallest crop still has `size`."""
        narrow = min(self.aspect[0], 1 / self.aspect[1])
        return math.ceil(self.size / math.sqrt(self.scale[0] * narrow))

    def draw(self, entropy: tuple[int, ...]) -> Draw:
        """Return the clip that is read, its window drawn from `entropy`."""
        return Draw(self.frames, self.fps, self.limit, entropy)


@dataclass(frozen=True)
class EncoderPlan:
    """The encoder and the weights it starts from.

    Attributes:
        architecture: a name in `VITS`.
        start: "random", or a checkpoint as `--encoder` names it; a training checkpoint brings predictor and target along.
    """

    architecture: str = "vit_large"
    start: str = "vjepa2-vitl"


@dataclass(frozen=True)
class PredictorPlan:
    """The predictor's shape.

    Attributes:
        dim: width.
        depth: blocks.
        heads: attention heads a block.
        mask_tokens: learned mask tokens. Only the first is used; released checkpoints hold 10.
    """

    dim: int = 384
    depth: int = 12
    heads: int = 12
    mask_tokens: int = 10


@dataclass(frozen=True)
class MaskPlan:
    """The generators of masks: entry i of each tuple is of generator i.

    Attributes:
        blocks: blocks that are hidden (they may overlap).
        scale: area of a block over that of a frame.
        aspect: height over width of a block, drawn uniformly.
        truncate: how visible and hidden tokens are cut to the least of the batch: "random", or "first" (as published: the
            lowest ids, so that late frames all but vanish).
    """

    blocks: tuple[int, ...] = (8, 2)
    scale: tuple[float, ...] = (0.15, 0.7)
    aspect: tuple[float, float] = (0.75, 1.5)
    truncate: str = "random"


@dataclass(frozen=True)
class OptimiserPlan:
    """Length and schedules. Shares are of `steps`.

    Attributes:
        batch: clips a step, over all processes.
        steps: updates.
        start_lr: learning rate of the first step; it rises linearly over the warm-up.
        lr: learning rate after the warm-up.
        final_lr: where a cosine leads from there; equal to `lr`: constant, as published.
        warmup: share.
        cooldown: share at the end over which the rate falls linearly to `cooldown_lr`, which the last step has.
        cooldown_lr: see `cooldown`.
        weight_decay: at the first step.
        final_weight_decay: at the last (a cosine leads there).
        ema: momentum of the target at the first step.
        final_ema: at the last (linear).
        clip: largest norm of the gradient; 0: not clipped, as published.
    """

    batch: int = 16
    steps: int = 30_000
    start_lr: float = 3e-6
    lr: float = 3e-5
    final_lr: float = 3e-5
    warmup: float = 0.4
    cooldown: float = 0.0
    cooldown_lr: float = 1e-6
    weight_decay: float = 0.04
    final_weight_decay: float = 0.04
    ema: float = 0.99925
    final_ema: float = 0.99925
    clip: float = 0.0


@dataclass(frozen=True)
class RunPlan:
    """How it is computed and watched; nothing here but `seed` and `precision` changes what is learnt.

    Attributes:
        seed: of everything drawn.
        precision: of the products: "auto" (bfloat16 where a GPU has it), "float32" or "bfloat16".
        checkpointing: compute activations again on the way back rather than keep them: about a third more time, far less memory.
        compile: let torch compile encoder and predictor: minutes at the start, faster steps on a GPU.
        save_every: steps between checkpoints.
        keep: checkpoints kept beside the best.
        gauge_every: steps between looks at the representation.
        judge_every: steps between probes of a labelled dataset, where one is given.
    """

    seed: int = 0
    precision: str = "auto"
    checkpointing: bool = False
    compile: bool = False
    save_every: int = 1000
    keep: int = 2
    gauge_every: int = 50
    judge_every: int = 5000


RANGES: dict[str, tuple[int | float, int | float]] = {
    "clips.frames": (2, 1024),
    "clips.fps": (0.1, 1000),
    "clips.size": (16, 1024),
    "clips.scale": (0.01, 1),
    "clips.aspect": (0.1, 10),
    "predictor.dim": (4, 8192),
    "predictor.depth": (1, 100),
    "predictor.heads": (1, 256),
    "predictor.mask_tokens": (1, 1000),
    "masks.blocks": (1, 100),
    "masks.scale": (0.001, 1),
    "masks.aspect": (0.05, 20),
    "optimiser.batch": (1, 1e6),
    "optimiser.steps": (1, 1e9),
    "optimiser.start_lr": (0, 1),
    "optimiser.lr": (0, 1),
    "optimiser.final_lr": (0, 1),
    "optimiser.warmup": (0, 1),
    "optimiser.cooldown": (0, 1),
    "optimiser.cooldown_lr": (0, 1),
    "optimiser.weight_decay": (0, 10),
    "optimiser.final_weight_decay": (0, 10),
    "optimiser.ema": (0, 1),
    "optimiser.final_ema": (0, 1),
    "optimiser.clip": (0, 1e9),
    "run.seed": (0, 2**31 - 1),
    "run.save_every": (1, 1e9),
    "run.keep": (1, 1e6),
    "run.gauge_every": (1, 1e9),
    "run.judge_every": (1, 1e9),
}
"""Key -> smallest and largest value."""

CHOICES: dict[str, tuple[str, ...]] = {
    "encoder.architecture": tuple(VITS),
    "masks.truncate": ("random", "first"),
    "run.precision": ("auto", "float32", "bfloat16"),
}
