"""A recipe as plain values: sections of keys, read from TOML and changed by key=value, every one of them checked."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any, ClassVar, TypeVar, get_args, get_origin, get_type_hints

from echolung.errors import InputError
from echolung.text import suggest


class Sections:
    """A frozen dataclass whose fields are sections, frozen dataclasses of plain values.

    Attributes:
        ranges: "section.key" -> smallest and largest value.
        choices: "section.key" -> what it may say.
    """

    ranges: ClassVar[Mapping[str, tuple[int | float, int | float]]] = {}
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def check(self) -> None:
        """Raise InputError where a value is out of its range, or none of its choices."""
        for key, value in self.flat().items():
            _check(key, value, self.ranges, self.choices)

    def flat(self) -> dict[str, Any]:
        """Return section.key -> value."""
        return {f"{part}.{key}": value for part, keys in self._tree().items() for key, value in keys.items()}

    def to_toml(self) -> str:
        """Return the recipe as a TOML text that reads back to the same."""
        parts = [
            "\n".join([f"[{part}]", *(f"{key} = {_toml(value)}" for key, value in keys.items())])
            for part, keys in self._tree().items()
        ]
        return "\n\n".join(parts) + "\n"

    def with_changes(self: "Made", changes: Sequence[str]) -> "Made":
        """Return the recipe with `section.key=value` texts applied, values in TOML (a bare word is a string).

        Raises:
            InputError: a text that is none, an unknown key, or a value out of range.
        """
        tree: dict[str, dict[str, Any]] = {}
        for change in changes:
            key, equals, text = (part.strip() for part in change.partition("="))
            part, _, name = key.partition(".")
            if not equals or not name or not text:
                raise InputError(f"--set {change} must be SECTION.KEY=VALUE, such as --set optimiser.lr=1e-4.")
            tree.setdefault(part, {})[name] = _value(text)
        return apply(self, tree, "--set")

    def _tree(self) -> dict[str, dict[str, Any]]:
        return asdict(self)  # type: ignore[call-overload]


Made = TypeVar("Made", bound=Sections)


def differences(one: Sections, other: Sections) -> list[str]:
    """Return "key: a, not b" for every key in which two recipes differ."""
    theirs = other.flat()
    return [f"{key}: {value!r}, not {theirs[key]!r}" for key, value in one.flat().items() if value != theirs[key]]


def apply(recipe: Made, tree: Mapping[str, Any], where: str) -> Made:
    """Return the recipe with section -> key -> value of a tree in the place of its own; InputError where one cannot be."""
    parts = {part.name: getattr(recipe, part.name) for part in fields(recipe)}  # type: ignore[arg-type]
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
        return type(recipe)(**parts)
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
    if hint is str and isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # one width: hidden=512
    if isinstance(value, bool) is not (hint is bool) or not isinstance(value, hint):
        what = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}[hint]
        raise InputError(f"{where}: {key} is {what}, not {value!r}.")
    return value


def _check(
    key: str, value: Any, ranges: Mapping[str, tuple[int | float, int | float]], choices: Mapping[str, tuple[str, ...]]
) -> None:
    for item in value if isinstance(value, tuple) else (value,):
        if key in ranges and not ranges[key][0] <= item <= ranges[key][1]:
            low, high = ranges[key]
            raise InputError(f"{key} = {item:g} must be from {low:g} to {high:g}.")
        if key in choices and item not in choices[key]:
            raise InputError(
                f"{key} = {item!r} must be one of {', '.join(choices[key])}.{suggest(str(item), choices[key])}"
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
