"""The sections of a recipe that learns from labels: what can be set, what it means, and from where to where.

The defaults are those of CoReEcho (arXiv 2403.10164; BioMedIA-MBZUAI/CoReEcho, README and train_first_stage.py).
"""

from dataclasses import dataclass

from echolung.clips.grey import Draw


@dataclass(frozen=True)
class ClipsPlan:
    """How a clip is cut out of a video.

    Attributes:
        frames: of a clip.
        stride: source frames from one frame of a clip to the next; not looked at where `fps` is above 0.
        fps: frames a second of a clip; 0: count source frames, as published.
        size: height and width, pixels: the central square of the video, resized.
        shift: pixels of black on each side, of which a random crop of `size` is taken; 0: none.
        pad: what a video shorter than a clip ends with: "repeat" its last frame, "loop", "black" (CoReEcho: before
            normalising) or "grey" (EchoNet, EchoCoTr: zeros after normalising).
        window: where a clip begins: "random", or "first" (the seed's classifiers: the first frame).
    """

    frames: int = 36
    stride: int = 4
    fps: float = 0.0
    size: int = 112
    shift: int = 6
    pad: str = "black"
    window: str = "random"

    @property
    def limit(self) -> int:
        """The largest side, pixels, that a clip need have: it is resized whole."""
        return self.size

    def draw(self, entropy: tuple[int, ...]) -> Draw:
        """Return the clip that is read, its window drawn from `entropy`."""
        stride = 0 if self.fps else self.stride
        return Draw(self.frames, self.fps, self.limit, entropy, stride, self.pad, self.window)


@dataclass(frozen=True)
class EncoderPlan:
    """The encoder and the weights it starts from.

    Attributes:
        start: any encoder as `--encoder` names it: random:uniformer_small@0, uniformer_small@FILE, vjepa2-vitl, …
        statistics: mean and standard deviation that frames are normalised with: "own" (as the weights came), "echonet",
            "kinetics" or "imagenet". Of video networks; others have "own".
        dropout: of the encoder's own dropout layers, where it has any (CoReEcho: 0.1).
    """

    start: str = "uniformer_small@uniformer_small_k400_16x8.pth"
    statistics: str = "own"
    dropout: float = 0.1


@dataclass(frozen=True)
class ObjectivePlan:
    """What is learnt, and the head that learns it. The head is kept as a saved probe of kind mlp.

    Attributes:
        name: "coreecho" (Rank-N-Contrast on embeddings, the head on detached ones), "echocotr" or "supervised" (both end to
            end).
        task: of the dataset; "": its first.
        loss: of the head: "auto" (l1 for coreecho, mse for echocotr, else smooth-l1 or cross-entropy), l1, mse, smooth-l1,
            cross-entropy.
        temperature: of Rank-N-Contrast.
        class_weights: "none", or "balanced": n / (C · n_c).
        hidden: widths of the head's hidden layers, such as "512"; "none".
        norm: of the embedding: "batch", "layer" or "none".
        batch_norm: "yes": after each hidden layer.
        head_dropout: after the norm and after each hidden layer.
        bias: of the last layer at first; 0: the mean of the training labels (numbers only).
    """

    name: str = "coreecho"
    task: str = ""
    loss: str = "auto"
    temperature: float = 1.0
    class_weights: str = "none"
    hidden: str = "512"
    norm: str = "batch"
    batch_norm: str = "yes"
    head_dropout: float = 0.4
    bias: float = 0.0


@dataclass(frozen=True)
class OptimiserPlan:
    """Length and schedule of AdamW.

    Attributes:
        batch: videos a step, over all processes; coreecho takes two clips of each.
        epochs: passes over the training videos.
        lr: learning rate.
        warmup: epochs over which it rises linearly from nothing; 0: none, as published. From random weights Rank-N-Contrast
            needs one: its first steps only shrink the embeddings, and large ones shrink them to a point.
        weight_decay: on every parameter.
        decay_epoch: epochs after which the rate is multiplied with `decay_rate`; once (coreecho), or each time so many have
            passed (the others).
        decay_rate: see there.
        clip: largest norm of the gradient; 0: not clipped, as published.
    """

    batch: int = 16
    epochs: int = 26
    lr: float = 1e-4
    warmup: float = 0.0
    weight_decay: float = 1e-4
    decay_epoch: int = 15
    decay_rate: float = 0.1
    clip: float = 0.0


@dataclass(frozen=True)
class RunPlan:
    """How it is computed and watched; nothing here but `seed` and `precision` changes what is learnt.

    Attributes:
        seed: of everything drawn.
        precision: of the products: "auto" (bfloat16 where a GPU has it), "float32" or "bfloat16".
        save_every: epochs between checkpoints.
        keep: checkpoints kept beside the best.
        gauge_every: steps between looks at the parts of the loss.
        judge_every: epochs between looks at the validation videos.
        validation_clips: fixed clips of each validation video, evenly spaced, whose predictions are averaged.
    """

    seed: int = 0
    precision: str = "auto"
    save_every: int = 1
    keep: int = 2
    gauge_every: int = 10
    judge_every: int = 1
    validation_clips: int = 3


RANGES: dict[str, tuple[int | float, int | float]] = {
    "clips.frames": (2, 1024),
    "clips.stride": (1, 1000),
    "clips.fps": (0, 1000),
    "clips.size": (16, 1024),
    "clips.shift": (0, 512),
    "encoder.dropout": (0, 0.95),
    "objective.temperature": (1e-6, 1e6),
    "objective.head_dropout": (0, 0.95),
    "objective.bias": (-1e9, 1e9),
    "optimiser.batch": (1, 1e6),
    "optimiser.epochs": (1, 1e6),
    "optimiser.lr": (0, 1),
    "optimiser.warmup": (0, 1e6),
    "optimiser.weight_decay": (0, 10),
    "optimiser.decay_epoch": (1, 1e6),
    "optimiser.decay_rate": (0, 1),
    "optimiser.clip": (0, 1e9),
    "run.seed": (0, 2**31 - 1),
    "run.save_every": (1, 1e6),
    "run.keep": (1, 1e6),
    "run.gauge_every": (1, 1e9),
    "run.judge_every": (1, 1e6),
    "run.validation_clips": (1, 100),
}
"""Key -> smallest and largest value."""

OBJECTIVES = ("coreecho", "echocotr", "supervised")

CHOICES: dict[str, tuple[str, ...]] = {
    "clips.pad": ("repeat", "loop", "black", "grey"),
    "clips.window": ("random", "first"),
    "encoder.statistics": ("own", "echonet", "kinetics", "imagenet"),
    "objective.name": OBJECTIVES,
    "objective.loss": ("auto", "l1", "mse", "smooth-l1", "cross-entropy"),
    "objective.class_weights": ("none", "balanced"),
    "objective.norm": ("batch", "layer", "none"),
    "objective.batch_norm": ("yes", "no"),
    "run.precision": ("auto", "float32", "bfloat16"),
}
