"""Which recipe `echolung pretrain` takes: the one named, else what suits the objective and the device."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from echolung.errors import InputError
from echolung.text import suggest

if TYPE_CHECKING:
    from echolung.pretraining.recipe import AnyRecipe

LARGE = 20e9
"""Bytes of GPU memory from which the published recipe is picked."""

OBJECTIVES = ("jepa", "coreecho", "echocotr", "supervised")


def pick_recipe(
    objective: str | None, name: str | None, changes: list[str], device: str, tell: Callable[[str], None]
) -> "tuple[str, AnyRecipe]":
    """Return (short name, recipe): the one named, else what suits; says which and why.

    Raises:
        InputError: no such objective or recipe, a recipe of another objective, or a change that cannot be.
    """
    from echolung.pretraining.recipe import read_recipe

    if objective is not None and objective not in OBJECTIVES:
        raise InputError(
            f"There is no objective {objective!r}; there are {', '.join(OBJECTIVES)}.{suggest(objective, OBJECTIVES)}"
        )
    why = ""
    if name is None:
        name, why = _labelled(objective, device) if objective not in (None, "jepa") else _jepa(device)
    recipe = read_recipe(name)
    if objective not in (None, recipe.objective_name):
        raise InputError(
            f"The recipe {name} is for --objective {recipe.objective_name}, not {objective}. Leave out one of the two."
        )
    recipe = recipe.with_changes(changes)
    tell(f"Recipe: {name}{why}: {describe(recipe)}")
    return Path(name).stem, recipe


def describe(recipe: "AnyRecipe") -> str:
    """Return a recipe in a line."""
    from echolung.pretraining.recipe import Recipe

    clips, plan = recipe.clips, recipe.optimiser
    if isinstance(recipe, Recipe):
        return (
            f"{recipe.encoder.architecture} from {recipe.encoder.start}, {recipe.optimiser.steps:,} steps of {plan.batch} clips "
            f"of {clips.frames} frames at {clips.fps:g} a second, {clips.size} px"
        )
    every = f"at {recipe.clips.fps:g} a second" if recipe.clips.fps else f"one in {recipe.clips.stride}"
    return (
        f"{recipe.objective_name} from {recipe.encoder.start}, {recipe.optimiser.epochs} epochs, {plan.batch} videos a batch, "
        f"{clips.frames} frames ({every}), {clips.size} px"
    )


def _labelled(objective: str | None, device: str) -> tuple[str, str]:
    """Return the name of a labelled objective's recipe, and why it was picked."""
    from echolung.device import pick_device

    if pick_device(device).type != "cuda":
        return f"{objective}-tiny-cpu", " (there is no GPU)" if device == "auto" else f" (for {device})"
    return {"supervised": "ef-resnet18"}.get(str(objective), str(objective)), ""


def _jepa(device: str) -> tuple[str, str]:
    """Return a recipe's name and why it was picked."""
    import torch

    from echolung.device import pick_device
    from echolung.encoders.identity import identify

    picked = pick_device(device)
    if picked.type != "cuda":
        return "tiny-cpu", " (there is no GPU)" if device == "auto" else f" (for {device})"
    size = torch.cuda.get_device_properties(picked).total_memory
    if size < LARGE:
        return "vits-112", f" (for a GPU of {size / 1e9:.0f} GB)"
    try:
        identify("vjepa2-vitl")
    except InputError:
        return "vits-112", " (the weights vjepa2-vitl, from which echojepa-vitl-224 goes on, are not here)"
    return "echojepa-vitl-224", f" (for a GPU of {size / 1e9:.0f} GB, and vjepa2-vitl is here)"
