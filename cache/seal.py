"""A digest of a group's attributes, kept among them: nothing else tells that a letter of a class name flipped."""

from collections.abc import Mapping
from typing import Any

from echolung.cache.key import key_digest

SEAL = "seal"

UNSEALED = (SEAL, "finished", "created_by")
"""Attributes that may change, or that change nothing: how far the extraction is, versions and dates."""


def seal_of(attributes: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a group's attributes but for those that the seal leaves out."""
    return key_digest({name: value for name, value in attributes.items() if name not in UNSEALED})


def sealed(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes with their seal."""
    return {**attributes, SEAL: seal_of(attributes)}
