"""The key of a store: everything that can change one number in it, as JSON that a person can read."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

Key = Mapping[str, Any]
"""Nested JSON values; equal keys promise equal tokens."""


def canonical(key: Key) -> str:
    """Return the key as JSON with sorted fields; TypeError or ValueError (NaN) where a value is not JSON."""
    return json.dumps(key, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def key_digest(key: Key) -> str:
    """Return the SHA-256 of the canonical key, in hexadecimal."""
    return hashlib.sha256(canonical(key).encode()).hexdigest()


def differences(held: Key, expected: Key) -> list[str]:
    """Return a line "field: is X, expected Y" for every field in which two keys differ."""
    # As JSON reads them back, so that a tuple is no other than the list it was stored as.
    a, b = (dict(_flatten(json.loads(canonical(key)))) for key in (held, expected))
    missing = "absent"
    return [
        f"{field}: is {a.get(field, missing)!r}, expected {b.get(field, missing)!r}"
        for field in sorted(a.keys() | b.keys())
        if a.get(field, missing) != b.get(field, missing)
    ]


def _flatten(key: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(key, Mapping):
        for name, value in key.items():
            yield from _flatten(value, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, key
