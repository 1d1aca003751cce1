"""What a check of the doctor comes to."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["pass", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """The answer of one check.

    Attributes:
        name: what was looked at, a word or two.
        level: "pass", "warn" (works, but look at it), "fail" (something of echolung will not work).
        what: what was found, a phrase.
        fix: what to do; "" where nothing has to be done.
    """

    name: str
    level: Level
    what: str
    fix: str = ""
