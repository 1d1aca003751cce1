"""What to do with an encoder once it has learnt: the commands that come next."""

from typing import TYPE_CHECKING

from echolung.cli.pretraining.runs import Asked
from echolung.text import quoted

if TYPE_CHECKING:
    from echolung.pretraining.labelled.recipe import LabelledRecipe
    from echolung.pretraining.recipe import AnyRecipe, Recipe


def what_next(recipe: "AnyRecipe", asked: Asked, name: str) -> list[str]:
    """Return lines for people; `name` is the checkpoint's."""
    from echolung.pretraining.recipe import Recipe

    return _unlabelled(recipe, asked, name) if isinstance(recipe, Recipe) else _labelled(recipe, asked, name)


def _unlabelled(recipe: "Recipe", asked: Asked, name: str) -> list[str]:
    clips = recipe.clips
    probed = quoted((asked.probe or "").partition(":")[0] or "DATASET")
    windows = f"--frames {clips.frames} --fps {clips.fps:g} --size {clips.size}"
    return [
        "Next, with any labelled dataset (any other windows do, too; these are what it was trained on):",
        f"  echolung extract --dataset {probed} {windows}",
        f"  echolung extract --dataset {probed} {windows} --encoder random:{recipe.encoder.architecture}",
        f"  echolung probe --dataset {probed} --encoder {name}",
    ]


def _labelled(recipe: "LabelledRecipe", asked: Asked, name: str) -> list[str]:
    clips, task = recipe.clips, recipe.objective.task
    step = f"--fps {clips.fps:g}" if clips.fps else f"--stride {clips.stride}"
    where = "--window first --segments 1" if clips.window == "first" else "--segments 3"
    windows = f"{where} --frames {clips.frames} {step} --size {clips.size} --square whole --pad {clips.pad}"
    dataset = quoted(
        (asked.dataset or "DATASET").partition(",")[0].partition(":")[0]
    )  # of a mix the first, without weight
    probe = f"echolung probe --dataset {dataset} --encoder {name} {f'--task {task} ' if task else ''}--probe mlp"
    return [
        "Next: its embeddings of every video, then its own head as it is, and trained on (a second stage):",
        f"  echolung extract --dataset {dataset} --encoder {name} {windows} --views 8 --tokens none",
        f"  {probe} --split official --fusion late --start-from {name} --as-is",
        f"  {probe} --split official --fusion late --start-from {name}",
    ]
