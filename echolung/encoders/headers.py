"""What a safetensors file says of itself, read without torch."""

import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

LONGEST = 100_000_000
"""Bytes of a header; the format allows no more."""


def own_description(path: Path) -> dict[str, Any]:
    """Return what echolung wrote of the encoder into a safetensors file: its architecture and its config.

    Empty where it wrote nothing, and where the file cannot be read as safetensors: reading its tensors will say so.
    """
    with suppress(ValueError, AttributeError):
        described = json.loads(_header(path).get("__metadata__", {}).get("echolung", "{}"))
        return described if isinstance(described.get("config"), dict) else {}
    return {}


def numbers_in(path: Path) -> int:
    """Return how many numbers the tensors in a safetensors file hold; 0 where it cannot be read."""
    with suppress(AttributeError, KeyError, TypeError):
        return sum(math.prod(about["shape"]) for name, about in _header(path).items() if name != "__metadata__")
    return 0


def _header(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError), path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length <= LONGEST and isinstance(header := json.loads(file.read(length)), dict):
            return header
    return {}
