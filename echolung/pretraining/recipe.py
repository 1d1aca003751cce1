"""What a pretraining run does, as plain values: a TOML recipe, of the package or the user's own, plus key=value changes."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from echolung.encoders.sizes import VITS
from echolung.errors import InputError
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
from echolung.text import suggest


@dataclass(frozen=True)
class Recipe:
    """All of a run's settings."""

    clips: ClipsPlan = field(default_factory=ClipsPlan)
    encoder: EncoderPlan = field(default_factory=EncoderPlan)
    predictor: PredictorPlan = field(default_factory=PredictorPlan)
    masks: MaskPlan = field(default_factory=MaskPlan)
    optimiser: OptimiserPlan = field(default_factory=OptimiserPlan)
    run: RunPlan = field(default_factory=RunPlan)

    def __post_init__(self) -> None:
        for key, value in self.flat().items():
            _check(key, value)
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

    def flat(self) -> dict[str, Any]:
        """Return section.key -> value."""
        return {f"{part}.{key}": value for part, keys in asdict(self).items() for key, value in keys.items()}

    def to_toml(self) -> str:
        """Return the recipe as a TOML text that `read_recipe` reads back to the same."""
        parts = [
            "\n".join([f"[{part}]", *(f"{key} = {_toml(value)}" for key, value in keys.items())])
            for part, keys in asdict(self).items()
        ]
        return "\n\n".join(parts) + "\n"

    def with_changes(self, changes: Sequence[str]) -> "Recipe":
        """Return the recipe with `section.key=value` texts applied, values in TOML (a bare word is a string).

        Raises:
            InputError: a text that is none, an unknown key, or a value out of range.
        """
        tree: dict[str, dict[str, Any]] = {}
        for change in changes:
            key, equals, text = (part.strip() for part in change.partition("="))
            part, _, name = key.partition(".")
            if not equals or not name or not text:
                raise InputError(f"--set {change} must be SECTION.KEY=VALUE, such as --set optimiser.steps=500.")
            tree.setdefault(part, {})[name] = _value(text)
        return _apply(self, tree, "--set")


def recipe_names() -> list[str]:
    """Return the names of the package's recipes."""
    folder = resources.files("echolung.pretraining") / "recipes"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def read_recipe(name: str | Path) -> Recipe:
    """Return a recipe of the package by its name, or the one in a TOML file; keys that it leaves out have their defaults.

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
    return _apply(Recipe(), tree, where)


def differences(one: Recipe, other: Recipe) -> list[str]:
    """Return "key: a, not b" for every key in which two recipes differ."""
    theirs = other.flat()
    return [f"{key}: {value!r}, not {theirs[key]!r}" for key, value in one.flat().items() if value != theirs[key]]


def _apply(recipe: Recipe, tree: Mapping[str, Any], where: str) -> Recipe:
    parts = {part.name: getattr(recipe, part.name) for part in fields(recipe)}
    known = list(recipe.flat())
    for part, keys in tree.items():
        if part not in parts:
            raise InputError(
                f"{where}: there is no section {part!r}; there are {', '.join(parts)}.{suggest(part, parts)}"
            )
        if not isinstance(keys, Mapping):
            raise InputError(f"{where}: {part} is a section; set one of its keys, such as {_first(known, part)}.")
        hints = get_type_hints(type(parts[part]))
        changes = {}
        for key, value in keys.items():
            if key not in hints:
                near = suggest(f"{part}.{key}", known)
                raise InputError(f"{where}: there is no key {part}.{key}; {part} has {', '.join(hints)}.{near}")
            changes[key] = _typed(f"{part}.{key}", value, hints[key], where)
        parts[part] = replace(parts[part], **changes)
    try:
        return Recipe(**parts)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _first(known: Sequence[str], part: str) -> str:
    return next(key for key in known if key.startswith(f"{part}."))


def _typed(key: str, value: Any, hint: Any, where: str) -> Any:
    """Return a value as its field has it; InputError where it is of another type."""
    if get_origin(hint) is tuple:
        inner = get_args(hint)
        items = value if isinstance(value, list) else [value]
        if len(inner) == 2 and inner[1] is not Ellipsis and len(items) != 2:
            raise InputError(f"{where}: {key} takes two numbers, such as [0.5, 1.0], not {value!r}.")
        return tuple(_typed(key, item, inner[0], where) for item in items)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, bool) is not (hint is bool) or not isinstance(value, hint):
        what = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}[hint]
        raise InputError(f"{where}: {key} is {what}, not {value!r}.")
    return value


def _check(key: str, value: Any) -> None:
    for item in value if isinstance(value, tuple) else (value,):
        if key in RANGES and not RANGES[key][0] <= item <= RANGES[key][1]:
            low, high = RANGES[key]
            raise InputError(f"{key} = {item:g} must be from {low:g} to {high:g}.")
        if key in CHOICES and item not in CHOICES[key]:
            raise InputError(
                f"{key} = {item!r} must be one of {', '.join(CHOICES[key])}.{suggest(str(item), CHOICES[key])}"
            )


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text  # a bare word: --set masks.truncate=first


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return repr(value)
