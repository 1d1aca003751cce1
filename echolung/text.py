"""Small pieces of messages for people."""

import difflib
from collections.abc import Iterable


def suggest(word: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the nearest known word, or an empty string."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""


def in_bytes(count: int | float) -> str:
    """Return bytes as "3.20 GB" or "51.4 MB"."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"


def listed(items: Iterable[object], most: int = 10) -> str:
    """Return "a, b, c", cut with "and 4 more" after `most` items."""
    names = [str(item) for item in items]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def sentence(parts: Iterable[str]) -> str:
    """Return "A; b." of a and b: the first letter large, the others as they are."""
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}."
