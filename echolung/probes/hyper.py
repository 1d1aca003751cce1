"""Hyper-parameters of probes: what each may be, what it is where nobody says, and what a study searches."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from echolung.errors import InputError
from echolung.text import suggest


@dataclass(frozen=True)
class Number:
    """A number between `low` and `high`, both included.

    Attributes:
        default: what it is where nobody says.
        low: least allowed.
        high: greatest allowed.
        search: (low, high) that a study searches; None: a study leaves it at its default.
        log: a study searches it on a logarithmic scale.
        whole: only whole numbers.
        about: what it is, in a line.
    """

    default: int | float
    low: int | float
    high: int | float
    search: tuple[int | float, int | float] | None = None
    log: bool = False
    whole: bool = False
    about: str = ""

    def read(self, name: str, text: Any) -> int | float:
        """Return the value that a text (or number) stands for; InputError where it is none that is allowed."""
        try:
            value = float(text)
        except (TypeError, ValueError) as error:
            raise InputError(f"{name} must be a number, and {text!r} is none.") from error
        if not self.low <= value <= self.high or (self.whole and value != int(value)):
            what = "a whole number" if self.whole else "a number"
            raise InputError(f"{name} {text} must be {what} from {self.low:g} to {self.high:g}.")
        return int(value) if self.whole else value


@dataclass(frozen=True)
class Choice:
    """One of a few words.

    Attributes:
        default: what it is where nobody says.
        values: all that it may be; None: any text (the probe itself checks it).
        search: those that a study tries; empty: a study leaves it at its default.
        about: what it is, in a line.
    """

    default: str
    values: tuple[str, ...] | None
    search: tuple[str, ...] = ()
    about: str = ""

    def read(self, name: str, text: Any) -> str:
        """Return the value; InputError where it is none of those allowed."""
        value = str(text).lower()
        if self.values is not None and value not in self.values:
            raise InputError(f"{name} {text!r} must be one of {', '.join(self.values)}.{suggest(value, self.values)}")
        return value


Hyper = Mapping[str, Number | Choice]
"""Name -> what it may be, for one kind of probe."""


def read_setting(probe: str, hyper: Hyper, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return `given` with each value checked and converted.

    Raises:
        InputError: a name that this kind of probe does not have (says the nearest), or a value that is not allowed.
    """
    if unknown := [name for name in given if name not in hyper]:
        raise InputError(
            f"The probe {probe} has no hyper-parameter {unknown[0]!r}; it has {', '.join(hyper)}."
            f"{suggest(unknown[0], list(hyper))}"
        )
    return {name: hyper[name].read(name, value) for name, value in given.items()}
