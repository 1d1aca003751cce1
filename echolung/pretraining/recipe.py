"""What a pretraining run does, as plain values: a TOML recipe, of the package or the user's own, plus key=value changes."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import ClassVar

from echolung.encoders.sizes import VITS
from echolung.errors import InputError
from echolung.pretraining.labelled.recipe import LabelledRecipe
from echolung.pretraining.pace import Pace
from echolung.pretraining.plans import (
    CHOICES,
    RANGES,
    ClipsPlan,
    EncoderPlan,
    MaskPlan,
    OptimiserPlan,
    PredictorPlan,
    RunPlan,
)
from echolung.pretraining.sections import Sections, apply, differences
from echolung.text import suggest

__all__ = ["AnyRecipe", "Recipe", "differences", "read_recipe", "recipe_names"]


@dataclass(frozen=True)
class Recipe(Sections):
    """All of a run's settings."""

    ranges: ClassVar[Mapping[str, tuple[int | float, int | float]]] = RANGES
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = CHOICES

    clips: ClipsPlan = field(default_factory=ClipsPlan)
    encoder: EncoderPlan = field(default_factory=EncoderPlan)
    predictor: PredictorPlan = field(default_factory=PredictorPlan)
    masks: MaskPlan = field(default_factory=MaskPlan)
    optimiser: OptimiserPlan = field(default_factory=OptimiserPlan)
    run: RunPlan = field(default_factory=RunPlan)

    def __post_init__(self) -> None:
        self.check()
        vit, clips, masks = VITS[self.encoder.architecture], self.clips, self.masks
        if clips.frames % vit.tubelet or clips.size % vit.patch:
            raise InputError(
                f"clips.frames = {clips.frames} and clips.size = {clips.size} must be multiples of {vit.tubelet} frames and "
                f"{vit.patch} pixels, the tubelets and patches of {self.encoder.architecture}."
            )
        if self.predictor.dim % (2 * self.predictor.heads):
            raise InputError(
                f"predictor.heads = {self.predictor.heads} do not divide predictor.dim = {self.predictor.dim} into an even "
                "number of channels each."
            )
        if not len(masks.blocks) == len(masks.scale) > 0:
            raise InputError(
                f"masks.blocks and masks.scale have one entry a generator; they have {len(masks.blocks)} and {len(masks.scale)}."
            )
        for key in ("clips.scale", "clips.aspect", "masks.aspect"):
            low, high = self.flat()[key]
            if low > high:
                raise InputError(f"{key} = [{low}, {high}] must be a smaller and a larger number.")
        if self.optimiser.warmup + self.optimiser.cooldown > 1:
            raise InputError(
                "optimiser.warmup and optimiser.cooldown are shares of the steps; together they are above 1."
            )

    @property
    def network(self) -> str:
        """What learns, for people."""
        return self.encoder.architecture

    @property
    def objective_name(self) -> str:
        """What is learnt."""
        return "jepa"

    def pace(self, videos: int) -> Pace:
        """Return how the run goes on; it does not depend on how many videos there are."""
        plan, run = self.optimiser, self.run
        return Pace(plan.steps, plan.batch, 1, run.save_every, run.judge_every)


AnyRecipe = Recipe | LabelledRecipe


def recipe_names() -> list[str]:
    """Return the names of the package's recipes."""
    folder = resources.files("echolung.pretraining") / "recipes"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def read_recipe(name: str | Path) -> AnyRecipe:
    """Return a recipe of the package by its name, or the one in a TOML file; keys that it leaves out have their defaults.

    One with a section [objective] learns from labels.

    Raises:
        InputError: no such recipe or file, no TOML, an unknown key, or a value that cannot be.
    """
    path = Path(name)
    if path.suffix == ".toml":
        if not path.is_file():
            raise InputError(f"There is no recipe {path}.")
        text, where = path.read_text("utf-8"), str(path)
    else:
        known = recipe_names()
        if str(name) not in known:
            raise InputError(
                f"There is no recipe {str(name)!r}; there are {', '.join(known)}, or name a .toml file."
                f"{suggest(str(name), known)}"
            )
        where = f"recipe {name}"
        text = (resources.files("echolung.pretraining") / "recipes" / f"{name}.toml").read_text("utf-8")
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{where} is no TOML: {error}.") from error
    empty: AnyRecipe = LabelledRecipe() if "objective" in tree else Recipe()
    return apply(empty, tree, where)
