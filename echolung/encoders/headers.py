"""What a safetensors file says of itself, read without torch."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

LONGEST = 100_000_000
"""Bytes of a header; the format allows no more."""


def own_description(path: Path) -> dict[str, Any]:
    """Return what echolung wrote of the encoder into a safetensors file: its architecture and its config.

    Empty where it wrote nothing, and where the file cannot be read as safetensors: reading its tensors will say so.
    """
    with suppress(OSError, ValueError, AttributeError), path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length <= LONGEST:
            header = json.loads(file.read(length))
            described = json.loads(header.get("__metadata__", {}).get("echolung", "{}"))
            return described if isinstance(described.get("config"), dict) else {}
    return {}
