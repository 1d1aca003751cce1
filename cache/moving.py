"""Put something whole in a place: a new store, or what replaces another; a kill at any moment is put right by the next writer.

A folder is built beside its place and renamed. At a URL nothing can be renamed, only whole files be written, copied and
deleted. So there a group is there once its zarr.json is, which is written last and deleted first.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import zarr

from echolung.cache.place import Place, RemotePath, copy_files, file_sizes, remove, zarr_store
from echolung.errors import InputError

BUILDING = "building"
"""Attribute of a group at a URL while it is being laid out."""

WHOLE = "whole"
"""File in what is about to replace something at a URL: all of it is there."""


@contextmanager
def new_group(place: Place) -> Iterator[zarr.Group]:
    """Yield an empty group to lay a store out in; the last thing to do with it is to put all its attributes at once.

    Raises:
        InputError: there is something at the place already.
    """
    if isinstance(place, RemotePath):
        if place.exists() and BUILDING not in (_attributes(place) or {}):
            raise InputError(f"There is something at {place} already.")
        remove(place)
        yield zarr.create_group(zarr_store(place, writing=True), attributes={BUILDING: True})
        return
    if place.exists():
        raise InputError(f"There is something at {place} already.")
    place.parent.mkdir(parents=True, exist_ok=True)
    building = place.with_name(place.name + ".building")
    remove(building)
    yield zarr.create_group(building)
    building.rename(place)


def is_there(place: Place) -> bool:
    """Whether something is at a place; what a kill cut short at a URL, a layout or an exchange, does not count."""
    if isinstance(place, Path):
        return place.exists()
    attributes = _attributes(place)
    return attributes is not None and BUILDING not in attributes


def _attributes(place: RemotePath) -> dict[str, Any] | None:
    """Return the attributes of the group at a URL, None where there is none."""
    try:
        return dict(json.loads((place / "zarr.json").read_bytes()).get("attributes", {}))
    except FileNotFoundError:
        return None
    except (ValueError, AttributeError, TypeError):  # damaged, and yet somebody's
        return {}


def exchange(place: Place, new: str, old: str) -> None:
    """Put what is beside `place`, under its name and the suffix `new`, in its place; it is there whole.

    Args:
        place: what is replaced.
        new: suffix of what replaces it; gone afterwards.
        old: suffix of where the replaced one is for a moment (folders alone).
    """
    if isinstance(place, RemotePath):
        source = place.with_name(place.name + new)
        (source / WHOLE).write_bytes(b"")
        _move(source, place)
        return
    away = place.with_name(place.name + old)
    place.rename(away)
    place.with_name(place.name + new).rename(place)
    remove(away)


def recover(place: Place, new: str, old: str) -> None:
    """Put right what a killed `exchange` left; what was not whole yet is deleted. For whoever is alone."""
    source, away = place.with_name(place.name + new), place.with_name(place.name + old)
    if isinstance(place, RemotePath) and isinstance(source, RemotePath):
        if (source / WHOLE).exists():
            _move(source, place)
    elif isinstance(place, Path) and away.exists() and not place.exists():
        # The old one is only moved away once the new one is whole.
        place.with_name(place.name + (new if source.exists() else old)).rename(place)
    remove(source)
    remove(away)


def _move(source: RemotePath, place: RemotePath) -> None:
    """Copy `source`, which is whole, over `place`, and delete it; from the beginning where that was cut short."""
    remove(place)
    names = sorted(file_sizes(source).keys() - {WHOLE, "zarr.json"})
    copy_files(source, place, names)
    copy_files(source, place, ["zarr.json"])
    (source / WHOLE).unlink()  # what is left of it by now is not needed
    remove(source)
