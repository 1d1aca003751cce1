"""Which store is meant, whether somebody writes it, how large it is."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from echolung.cli.terminal.console import say
from echolung.errors import InputError
from echolung.text import suggest

if TYPE_CHECKING:
    from echolung.cache import TokenStore
    from echolung.cache.place import Place


def stores_folder() -> Path:
    """Return the folder in which stores are kept by default."""
    from echolung.settings import home

    return home() / "stores"


def find_store(name: str | None) -> "Place":
    """Return the place of the store of this path, URL or name (`.zarr` may be left out), or of the only one, damaged or not."""
    from echolung.cache.place import RemotePath, as_place, check_there, no_store

    if name is None:
        there = sorted(stores_folder().glob("*.zarr"))
        if not there:
            raise InputError(f"There is no token store under {stores_folder()}. Name one by its path.")
        if len(there) > 1:
            names = "\n  ".join(path.name for path in there)
            raise InputError(f"There are several stores; name one, or its path:\n  {names}")
        say(f"Store: {there[0].name}")
        return there[0]
    if "://" in name:
        place = as_place(name)
        if isinstance(place, RemotePath):
            check_there(place)
        elif not place.is_dir():
            raise InputError(no_store(place))
        return place
    for path in (Path(name).expanduser(), stores_folder() / name, stores_folder() / f"{name}.zarr"):
        if path.is_dir():
            return path.absolute()
    near = suggest(name, (path.name for path in stores_folder().glob("*.zarr")))
    raise InputError(
        f"There is no token store at {name}, and none of that name under {stores_folder()}: `echolung cache list` names those "
        f"there are, `echolung extract` makes one.{near}"
    )


OPTIONS = {"clips.box": "crop", "clips.crop": "square"}
"""Field of a key -> the option of `extract` that sets it, where they are called differently."""


def told_apart(stores: "Sequence[TokenStore]") -> list[str]:
    """Return of each what sets it apart from others of the same dataset and encoder: "size 112, crop 9,9,80,80"; else ""."""
    from echolung.cache.key import apart

    alike: dict[tuple[str, str], list[int]] = {}
    for index, store in enumerate(stores):
        alike.setdefault((store.snapshot.dataset, str(store.group.attrs.get("encoder"))), []).append(index)
    told = [""] * len(stores)
    for group in alike.values():
        for index, fields in zip(group, apart([stores[i].key for i in group]), strict=True):
            named = {OPTIONS.get(name, name.removeprefix("clips.")): value for name, value in fields.items()}
            told[index] = ", ".join(f"{name} {value}" for name, value in named.items())
    return told


def is_store(path: "Place") -> bool:
    """Whether a folder, or what lies at a URL, is a token store, sound or not."""
    from echolung.cache.metadata import read_document

    attributes = (read_document(path) or {}).get("attributes")
    named = isinstance(attributes, dict) and "schema_version" in attributes
    return named or all((path / name / "zarr.json").is_file() for name in ("complete", "pooled", "rows"))


def refuse_busy(path: "Place") -> None:
    """Raise InputError where another process is writing the store."""
    from echolung.cache.locking import gate

    try:
        with gate(path):
            refuse_writers(path)
    except OSError:  # where no lock can be taken, nobody writes
        return


def refuse_writers(path: "Place") -> None:
    """Raise InputError where another process is writing the store; to be asked behind the gate."""
    from echolung.cache.locking import writers

    if writers(path):
        raise InputError(f"Another process is writing {path.name}. Wait for it, or end it first.")
