"""What a run that learns from labels does, as plain values."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from echolung.errors import InputError
from echolung.pretraining.labelled.plans import (
    CHOICES,
    RANGES,
    ClipsPlan,
    EncoderPlan,
    ObjectivePlan,
    OptimiserPlan,
    RunPlan,
)
from echolung.pretraining.pace import Pace
from echolung.pretraining.sections import Sections


@dataclass(frozen=True)
class LabelledRecipe(Sections):
    """All of a run's settings."""

    ranges: ClassVar[Mapping[str, tuple[int | float, int | float]]] = RANGES
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = CHOICES

    clips: ClipsPlan = field(default_factory=ClipsPlan)
    encoder: EncoderPlan = field(default_factory=EncoderPlan)
    objective: ObjectivePlan = field(default_factory=ObjectivePlan)
    optimiser: OptimiserPlan = field(default_factory=OptimiserPlan)
    run: RunPlan = field(default_factory=RunPlan)

    def __post_init__(self) -> None:
        self.check()
        hidden = self.objective.hidden
        if not re.fullmatch(r"none|[1-9]\d*(x[1-9]\d*)*", hidden):
            raise InputError(
                f"objective.hidden = {hidden!r} must be widths of layers, such as 512 or 512x128, or none."
            )

    @property
    def network(self) -> str:
        """What learns, for people."""
        return self.encoder.start

    @property
    def objective_name(self) -> str:
        """What is learnt."""
        return self.objective.name

    @property
    def views(self) -> int:
        """Clips of each video in a step: Rank-N-Contrast compares two."""
        return 2 if self.objective.name == "coreecho" else 1

    def epoch(self, videos: int) -> int:
        """Return the steps of one pass over so many training videos."""
        return max(1, videos // self.optimiser.batch)

    def pace(self, videos: int) -> Pace:
        """Return how a run on so many training videos goes on."""
        epoch, plan, run = self.epoch(videos), self.optimiser, self.run
        return Pace(plan.epochs * epoch, plan.batch, self.views, run.save_every * epoch, run.judge_every * epoch)
