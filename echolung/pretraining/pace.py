"""How a run goes on, whatever its networks learn."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """What the loop needs to know of a recipe.

    Attributes:
        steps: updates of the whole run.
        videos: videos a step, over all processes.
        views: clips of each of them.
        save_every: steps between checkpoints.
        judge_every: steps between looks at how good the encoder is.
    """

    steps: int
    videos: int
    views: int
    save_every: int
    judge_every: int
