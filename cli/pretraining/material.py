"""What a pretraining run learns from and is judged by: any videos and a probe, or labelled ones and their validation part."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from echolung.cli.pretraining.runs import Asked
from echolung.errors import InputError
from echolung.text import counted

if TYPE_CHECKING:
    from echolung.pretraining.labelled.labels import Labels
    from echolung.pretraining.labelled.recipe import LabelledRecipe
    from echolung.pretraining.learning import Judge
    from echolung.pretraining.pool import Pool
    from echolung.pretraining.recipe import AnyRecipe, Recipe

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Opened:
    """What the training loop is given.

    Attributes:
        pool: the videos.
        labels: of a recipe that learns from them.
        judge: says how good what was learnt is; None: nobody.
    """

    pool: "Pool"
    labels: "Labels | None"
    judge: "Judge | None"


def open_material(recipe: "AnyRecipe", asked: Asked, device: Any, reading: dict[str, Any], tell: Tell) -> Opened:
    """Return what a recipe learns from; tells what was left out or decided.

    Args:
        recipe: of the run.
        asked: which datasets.
        device: where it will be computed, for which there must be room.
        reading: decoder, workers and time_limit.
        tell: is told.

    Raises:
        InputError: the datasets are not there, or not what the recipe needs.
    """
    from echolung.pretraining.recipe import Recipe

    return (
        _unlabelled(recipe, asked, device, reading, tell)
        if isinstance(recipe, Recipe)
        else _labelled(recipe, asked, reading, tell)
    )


def _unlabelled(recipe: "Recipe", asked: Asked, device: Any, reading: dict[str, Any], tell: Tell) -> Opened:
    from echolung.cli.pretraining.judge import open_judge
    from echolung.cli.pretraining.pools import open_pool
    from echolung.pretraining.cost import check_room, room

    asked.sources.check([asked.probe.partition(":")[0]] if asked.probe else [])
    pool = open_pool(asked.sources, asked.all_splits, tell)
    for line in pool.describe():
        tell(f"Pool: {line}")
    check_room(recipe, room(device), int(os.environ.get("WORLD_SIZE", 1)))
    judge = open_judge(asked.probe, recipe, pool, sources=asked.sources, tell=tell, **reading) if asked.probe else None
    return Opened(pool, None, judge)


def _labelled(recipe: "LabelledRecipe", asked: Asked, reading: dict[str, Any], tell: Tell) -> Opened:
    from echolung.pretraining.labelled.material import gather
    from echolung.pretraining.labelled.validation import Validation, clip_plan

    sources = asked.sources
    for option, given in (("--all-splits", asked.all_splits), ("--probe", asked.probe)):
        if given:
            raise InputError(
                f"{option} goes with --objective jepa. With labels the training part is learnt from, and the validation part "
                "says which epoch is best."
            )
    if len(sources.weights) != 1:
        raise InputError(f"--objective {recipe.objective_name} learns from one dataset; {sources.mix} are several.")
    sources.check()
    name = next(iter(sources.weights))
    manifest = sources.open(name, drop_unlabelled=name.lower().endswith(".csv"))
    material = gather(manifest, recipe.objective.task, recipe.run.seed)
    for note in material.notes:
        tell(f"{manifest.name}: {note}")
    counts = [counted(len(part), "video") for part in (material.pool.videos, material.validation.videos)]
    tell(f"Learns {material.labels.task} from {counts[0]}; {counts[1]} for validation")
    judge = Validation(material.validation, material.truth, clip_plan(recipe), tell=tell, **reading)
    return Opened(material.pool, material.labels, judge)
