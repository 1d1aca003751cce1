"""What a protocol asks of probes, and what a kind of probe offers.

A protocol (echolung.evaluation) only deals in jobs: "this setting, learnt from these videos". What a kind does with them,
one bank for all or one scikit-learn fit each, is its own affair.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32

from echolung.probes.features import Features
from echolung.probes.hyper import Hyper

Setting = Mapping[str, Any]
"""Values of some of a kind's hyper-parameters; the rest are at their defaults."""

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Job:
    """One probe to fit.

    Attributes:
        setting: one of the kind's settings.
        train: [v] the videos it may learn from.
        keep: return the probe as it is after this epoch, after which it is not trained further; None: only its outputs
            are wanted.
        watch: [v] the videos whose outputs are wanted after each epoch; None: all. Others may come as NaN.
        group: jobs of one group are trained in one pass, so that their outputs after an epoch come in one call; None: alone.
        targets: [v] what it learns in the place of the task's targets, such as permuted ones; None: those.
    """

    setting: Setting
    train: Bool[np.ndarray, " v"]
    keep: int | None = None
    watch: Bool[np.ndarray, " v"] | None = None
    group: int | None = None
    targets: np.ndarray | None = None


@dataclass(frozen=True)
class Training:
    """What all jobs of a run have in common.

    Attributes:
        epochs: length of the schedule (1 for probes that do not learn in epochs).
        batch: videos a step.
        seed: of initial parameters, batches and views.
        device: "cpu", "cuda", …
        memory: bytes that parameters, optimiser state and activations of one bank may take; more jobs make more passes.
        videos: [v] those that batches are drawn from; None: those that any of the jobs learns from. A job learns the same
            whatever is trained beside it where this is given.
        precision: "float32" or "bfloat16", of the products over tokens; parameters and optimiser are float32 always.
        start: the arrays of a saved head that every job begins from; None: from random ones.
    """

    epochs: int
    batch: int = 16
    seed: int = 0
    device: str = "cpu"
    memory: float = 4e9
    precision: str = "float32"
    videos: Bool[np.ndarray, " v"] | None = None
    start: Arrays | None = None


def targets_of(jobs: Sequence[Job], targets: np.ndarray) -> np.ndarray:
    """Return the targets of some jobs: [v] where none has its own, else [jobs, v]."""
    if all(job.targets is None for job in jobs):
        return targets
    return np.stack([targets if job.targets is None else job.targets for job in jobs])


OnEpoch = Callable[[int, Sequence[int], Float32[np.ndarray, "p v c"]], Collection[int] | None]
"""(epoch from 1, indices of the jobs, their outputs for every video): logits, or numbers in the target's unit.

It may return indices of jobs that need no more training: these leave the bank, and no more calls come for them."""


@dataclass(frozen=True)
class ProbeKind:
    """A kind of probe.

    Attributes:
        title: what it is, in a line.
        pooled: learns from mean tokens; else from all of them.
        settings: what is chosen from. Where scores tie the earlier is taken, so the more cautious come first.
        epochs: default length of training.
        fit: (features, targets, outputs, jobs, training, on_epoch) -> arrays of each job (None unless to be kept).
        predict: (arrays, features, setting) -> outputs [v, c].
        estimate: (features, targets, outputs, jobs, training) -> seconds that `fit` will take.
        regression: can learn numbers.
        seed_settings: what the seed protocol chooses from.
        hyper: every hyper-parameter it has, by name.
        prepare: (features, settings, training) -> features made ready for many epochs, and the training that is left with
            the memory that this took. Not needed for `fit`, only faster.
        shapes: (setting, dim, outputs) -> the shape of each array that a saved probe must have.
    """

    title: str
    pooled: bool
    settings: tuple[Setting, ...]
    epochs: int
    fit: Callable[[Features, np.ndarray, int, Sequence[Job], Training, OnEpoch], list[Arrays | None]]
    predict: Callable[[Arrays, Features, Setting], Float32[np.ndarray, "v c"]]
    estimate: Callable[[Features, np.ndarray, int, Sequence[Job], Training], float]
    regression: bool = True
    seed_settings: tuple[Setting, ...] = ()
    hyper: Hyper = field(default_factory=dict)
    prepare: Callable[[Features, Sequence[Setting], Training], tuple[Features, Training]] = (
        lambda features, settings, training: (features, training)
    )
    shapes: Callable[[Setting, int, int], dict[str, tuple[int, ...]]] = lambda setting, dim, outputs: {"mean": (dim,)}
