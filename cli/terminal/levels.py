"""How much is said: results and errors alone, as usual, or more; one state for the whole command."""

import os

QUIET, USUAL, VERBOSE = -1, 0, 1

WORDS = {"quiet": QUIET, "usual": USUAL, "verbose": VERBOSE}
"""Values of ECHOLUNG_LEVEL."""

_level: int | None = None


def set_level(level: int | None) -> None:
    """Say so much from here on; None: as ECHOLUNG_LEVEL has it."""
    global _level
    _level = level


def level() -> int:
    """Return QUIET, USUAL or VERBOSE; a word in ECHOLUNG_LEVEL that is none of them counts as usual."""
    return WORDS.get(os.environ.get("ECHOLUNG_LEVEL", "").lower(), USUAL) if _level is None else _level
