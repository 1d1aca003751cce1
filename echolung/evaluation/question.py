"""What is asked of a store, and how probes learn to answer it: the arguments that every evaluation has in common."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from echolung.datasets.manifest import Manifest
from echolung.probes.start import Start


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked of a store, and how probes learn to answer it.

    Attributes:
        task: name of the task; None: the dataset's first.
        manifest: another table for the same videos, such as one with new labels; None: the store's own.
        probe: a name in `PROBES`.
        hyper: hyper-parameters, by name, that are not chosen or searched as usual: held at one value, or chosen from several.
        cv: number of outer folds.
        group: "patient", "source" or "video": what folds keep together; None: patients where known.
        epochs: length of training; None: the kind's.
        batch: videos a step.
        seed: of folds, initial parameters, batches, draws of patients, and samplers.
        device: where probes are trained.
        memory: bytes that tokens and one bank of probes may take together; tokens get half of it at most, and those that
            do not fit are read from the store in every epoch.
        precision: of the products over tokens: "float32", "bfloat16", or "auto": bfloat16 where the processor or GPU has it.
        fusion: "early" joins a video's segments along the token axis, "late" averages the outputs of each.
        start: the saved head that every probe begins from; its kind and shape go before `probe` and `hyper`. None: probes
            begin from random parameters.
        tell: is told what a long run is about to do.
    """

    task: str | None = None
    manifest: Manifest | None = None
    probe: str = "linear"
    hyper: Mapping[str, Any] = field(default_factory=dict)
    cv: int = 5
    group: str | None = None
    epochs: int | None = None
    batch: int = 16
    seed: int = 0
    device: str = "cpu"
    memory: float = 4e9
    precision: str = "float32"
    fusion: str = "early"
    start: Start | None = None
    tell: Callable[[str], None] = lambda text: None

    def __post_init__(self) -> None:
        """Let the saved head say what kind of probe it is, and of what shape."""
        if self.start is not None:
            object.__setattr__(self, "hyper", self.start.hyper(self.hyper))
            object.__setattr__(self, "probe", self.start.probe.kind)
