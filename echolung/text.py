"""Small pieces of messages for people."""

import difflib
import math
import os
import shlex
import subprocess
from collections.abc import Iterable


def suggest(word: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the nearest known word, or an empty string."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""


def quoted(path: object) -> str:
    """Return a path as it can be pasted into a command: in quotes where it has blanks or the like."""
    return subprocess.list2cmdline([str(path)]) if os.name == "nt" else shlex.quote(str(path))


def in_bytes(count: int | float) -> str:
    """Return bytes as "3.20 GB", "51.4 MB" or "345 kB"."""
    if count >= 1e9:
        return f"{count / 1e9:.2f} GB"
    return f"{count / 1e6:.3g} MB" if count >= 1e6 else f"{count / 1e3:.3g} kB"


def counted(number: int, noun: str) -> str:
    """Return "1 video" or "2,000 videos"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listed(items: Iterable[object], most: int = 10) -> str:
    """Return "a, b, c", cut with "and 4 more" after `most` items."""
    names = [str(item) for item in items]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def sentence(parts: Iterable[str]) -> str:
    """Return "A; b." of a and b: the first letter large, the others as they are."""
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}."


def about(seconds: int | float) -> str:
    """Return a time as "a few seconds", "about 40 s", "about 12 min", "about 2.5 h" or "about 3 days": two digits at most."""
    if seconds < 10:
        return "a few seconds"
    if seconds < 90:
        return f"about {5 * round(seconds / 5)} s"
    units = {"min": (60, 90 * 60), "h": (3600, 48 * 3600), "days": (86400, math.inf)}
    unit = next(name for name, (_, most) in units.items() if seconds < most)
    count = seconds / units[unit][0]
    return f"about {round(count, 1) if count < 3 else round(count):g} {unit}"
