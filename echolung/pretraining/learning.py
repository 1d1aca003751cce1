"""Whatever an objective brings to the loop: the networks that it trains, and what the loop asks of them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from echolung.pretraining.cost import fitting_batch, room
from echolung.pretraining.distributed import Group
from echolung.pretraining.labelled.labels import Labels
from echolung.pretraining.labelled.learner import LabelledLearner
from echolung.pretraining.learner import JepaLearner
from echolung.pretraining.loader import Batch
from echolung.pretraining.recipe import AnyRecipe, Recipe
from echolung.pretraining.start import start
from echolung.pretraining.update import Update

Judge = Callable[[Any], dict[str, float]]
"""What was learnt (of JEPA the target encoder, with labels the learner) -> scores; the best checkpoint has most of "score"."""


@runtime_checkable
class Learner(Protocol):
    """Networks and optimisers of one process.

    Attributes:
        notes: where the networks come from, sentences for people.
    """

    notes: tuple[str, ...]

    def update(self, batch: Batch, stop: bool) -> Update:
        """Do one step; `stop` is this process's wish to end the run, told to all."""
        ...

    def state(self) -> dict[str, Any]:
        """Return all that a killed run needs to go on."""
        ...

    def load(self, content: dict[str, Any]) -> None:
        """Go on from a state."""
        ...

    def save(self, path: Path) -> None:
        """Write the checkpoint that `echolung extract` takes."""
        ...

    def look(self, judge: Judge) -> dict[str, float]:
        """Return what a judge says."""
        ...


def begin(recipe: AnyRecipe, labels: Labels | None, group: Group, goes_on: bool) -> Learner:
    """Return the learner of a recipe.

    Args:
        recipe: what is learnt.
        labels: of a recipe that learns from them.
        group: this process among the run's.
        goes_on: weights are about to be replaced by a state's, and need not be read from where the run once began.

    Raises:
        InputError: the weights to start from are not there or do not fit.
    """
    if isinstance(recipe, Recipe):
        fresh = replace(recipe, encoder=replace(recipe.encoder, start="random")) if goes_on else recipe
        return JepaLearner(recipe, start(fresh), group)
    assert labels is not None  # the caller has read them
    return LabelledLearner(recipe, labels, group)


def no_memory(recipe: AnyRecipe, group: Group) -> str:
    """Return what to say where a GPU has too little memory for a batch."""
    torch.cuda.empty_cache()
    batch = recipe.optimiser.batch
    if not isinstance(recipe, Recipe):
        return f"{group.device} has too little memory for a batch of {batch} videos: try --set optimiser.batch={batch // 2 or 1}."
    fits = fitting_batch(recipe, room(group.device), group.ranks)
    advice = (
        f"a batch of {fits} would fit (--set optimiser.batch={fits})" if fits else "not even one clip a process fits"
    )
    more = "" if recipe.run.checkpointing else "; --set run.checkpointing=true takes far less"
    return f"{group.device} has too little memory for a batch of {batch}: {advice}{more}."
