"""The key of a store: everything that can change one number in it, as JSON that a person can read."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
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
        f"{field}: is {_short(a.get(field, missing))}, expected {_short(b.get(field, missing))}"
        for field in sorted(a.keys() | b.keys())
        if a.get(field, missing) != b.get(field, missing)
    ]


def _short(value: Any) -> str:
    """Return a value as Python writes it; of a digest its beginning, which tells it apart as well."""
    long = isinstance(value, str) and value.startswith("sha256:") and len(value) > 20
    return repr(f"{value[:19]}…" if long else value)


def apart(keys: Sequence[Key]) -> list[dict[str, Any]]:
    """Return of each key the fields in which they are not all equal, as "clips.size" -> value; left out where it has none."""
    flat = [dict(_flatten(json.loads(canonical(key)))) for key in keys]
    fields = dict.fromkeys(field for each in flat for field in each)
    unequal = [
        field
        for field in fields
        if any((field in each, each.get(field)) != (field in flat[0], flat[0].get(field)) for each in flat)
    ]
    return [{field: each[field] for field in unequal if field in each} for each in flat]


def _flatten(key: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(key, Mapping):
        for name, value in key.items():
            yield from _flatten(value, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, key
