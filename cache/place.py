"""Where a store lies: a folder, or a URL that fsspec can open. What asks or deletes files is the same for both from here on."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

import fsspec
import zarr
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from zarr.storage import FsspecStore

from echolung.errors import EcholungError, InputError, RunError

PATIENCE = {"connect_timeout": 10, "read_timeout": 15, "retries": {"total_max_attempts": 2}}
"""Seconds and attempts of botocore, whose own would wait for minutes; s3fs tries five times again where that may help."""


@dataclass(frozen=True, order=True)
class RemotePath:
    """A URL, with as much of `pathlib.Path` as a store asks for."""

    url: str

    def __str__(self) -> str:
        return _without_secrets(self.url)

    def __truediv__(self, name: str) -> "RemotePath":
        return RemotePath(f"{self.url}/{name}")

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.url.rpartition("/")[2]

    @property
    def parent(self) -> "RemotePath":
        """What the URL lies in."""
        return RemotePath(self.url.rpartition("/")[0])

    def with_name(self, name: str) -> "RemotePath":
        """Return a neighbour."""
        return self.parent / name

    @property
    def fs(self) -> Any:
        """The file system of fsspec behind the URL."""
        return _file_system(self)[0]

    @property
    def key(self) -> str:
        """The path that this file system knows it by."""
        return _file_system(self)[1]

    def exists(self) -> bool:
        """Whether there is a file, or something below."""
        with _reaching(self):
            return bool(self.fs.exists(self.key))

    def is_dir(self) -> bool:
        """Whether there is something below."""
        with _reaching(self):
            return bool(self.fs.isdir(self.key))

    def is_file(self) -> bool:
        """Whether there is a file."""
        with _reaching(self):
            return bool(self.fs.isfile(self.key))

    def read_bytes(self) -> bytes:
        """Return the content of a file; FileNotFoundError where it is not there."""
        with _reaching(self, FileNotFoundError):
            content: bytes = self.fs.cat_file(self.key)
            return content

    def write_bytes(self, content: bytes) -> None:
        """Write a file, whole or not at all."""
        with _reaching(self):
            self.fs.pipe_file(self.key, content)

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete a file."""
        if not missing_ok or self.exists():
            with _reaching(self):
                self.fs.rm_file(self.key)

    def glob(self, pattern: str) -> Iterator["RemotePath"]:
        """Yield what lies directly below under a name of the pattern; nothing where that may not be listed."""
        try:
            with _reaching(self, FileNotFoundError, PermissionError):
                names = [str(name).rstrip("/").rpartition("/")[2] for name in self.fs.ls(self.key, detail=False)]
        except (FileNotFoundError, PermissionError):
            return
        yield from (self / name for name in names if fnmatch(name, pattern))


Place = Path | RemotePath


class RemoteStore(FsspecStore):
    """What Zarr sees of a URL; whatever the network or the service says to it becomes an error in a sentence."""

    async def get(self, *args: Any, **options: Any) -> Any:
        """Read a file, or a part of it; None where it is not there."""
        with self._reaching():
            return await super().get(*args, **options)

    async def set(self, *args: Any, **options: Any) -> None:
        """Write a file."""
        with self._reaching():
            await super().set(*args, **options)

    async def delete(self, *args: Any, **options: Any) -> None:
        """Delete a file."""
        with self._reaching():
            await super().delete(*args, **options)

    async def exists(self, *args: Any, **options: Any) -> bool:
        """Whether there is a file."""
        with self._reaching():
            return await super().exists(*args, **options)

    def _reaching(self) -> Any:
        protocol = self.fs.protocol if isinstance(self.fs.protocol, str) else self.fs.protocol[0]
        return _reaching(RemotePath(f"{protocol}://{self.path.lstrip('/')}"), failure=RunError)


def as_place(where: Place | str) -> Place:
    """Return what a path or a URL stands for; a file:// URL is a folder like any other."""
    if not isinstance(where, str):
        return where
    protocol, found, _ = where.partition("://")
    if not found:
        return Path(where)
    return Path(LocalFileSystem._strip_protocol(where)) if protocol in LocalFileSystem.protocol else _remote(where)


def _remote(url: str) -> RemotePath:
    place = RemotePath(url.rstrip("/"))
    _file_system(place)
    return place


def _options(url: str) -> dict[str, Any]:
    # Zarr's file system and ours would each remember listings that the other has outdated.
    options: dict[str, Any] = {"use_listings_cache": False}
    if url.startswith(("s3://", "s3a://")) and "config_kwargs" not in fsspec.config.conf.get("s3", {}):
        options["config_kwargs"] = PATIENCE
    return options


def _file_system(place: RemotePath) -> tuple[Any, str]:
    try:
        return url_to_fs(place.url, **_options(place.url))  # fsspec keeps it, one for each thread
    except ImportError as error:
        needed = "s3fs" if place.url.startswith("s3") else str(error)
        raise InputError(
            f"{place} needs a package that is not installed: {needed}. Install it, and run this again."
        ) from error
    except ValueError as error:
        raise InputError(f"{place} is no URL that fsspec can open: {error}.") from error


@contextmanager
def _reaching(place: RemotePath, *let: type[Exception], failure: type[EcholungError] = InputError) -> Iterator[None]:
    """Turn what a file system raises into a `failure`, or an InputError where the URL must be wrong; `let` goes through."""
    try:
        yield
    except Exception as error:  # each file system has errors of its own
        if isinstance(error, (EcholungError, *let)):
            raise
        wrong = InputError if isinstance(error, FileNotFoundError | PermissionError) else failure
        reason = _without_secrets(" ".join(str(error).split())[:300]) or type(error).__name__
        hint = ""
        if place.url.startswith("s3"):
            hint = (
                " Where S3 is, and who asks: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or AWS_PROFILE."
            )
        raise wrong(f"{place} cannot be read or written: {reason.rstrip('.')}.{hint}") from error


def _without_secrets(text: str) -> str:
    return re.sub(r"(://[^/@:\s]*):[^/@\s]*@", r"\1:…@", text)


# ---- groups ----------------------------------------------------------------------------------------------------------


def zarr_store(place: Place, writing: bool = False) -> Path | RemoteStore:
    """Return what Zarr opens."""
    if isinstance(place, Path):
        return place
    store = RemoteStore.from_url(place.url, storage_options=_options(place.url), read_only=not writing)
    assert isinstance(store, RemoteStore)
    return store


def no_store(place: Place) -> str:
    """Return the sentence that there is no token store at a place, and how to see which there are."""
    return f"There is no token store at {place} (no Zarr group found). `echolung cache list` names those there are."


def check_there(place: RemotePath) -> None:
    """Raise InputError where there is nothing at a URL; it says whether the bucket is there."""
    if place.exists():
        return
    if (root := _root(place)).exists():
        raise InputError(no_store(place))
    raise InputError(f"There is no token store at {place}, nor is there anything at {root}.")


def open_group(place: Place, mode: Literal["r", "r+"] = "r") -> zarr.Group:
    """Return the group at a place.

    Raises:
        InputError: there is none.
    """
    if isinstance(place, RemotePath):
        check_there(place)
    try:
        return zarr.open_group(zarr_store(place, writing=mode == "r+"), mode=mode)
    except (FileNotFoundError, FileExistsError, NotADirectoryError, ValueError, KeyError) as error:
        raise InputError(no_store(place)) from error


def _root(place: RemotePath) -> RemotePath:
    """Return the bucket, or what is in its place."""
    protocol, _, path = place.url.rpartition("://")
    return RemotePath(f"{protocol}://{path.split('/')[0]}")


# ---- files -----------------------------------------------------------------------------------------------------------


def file_sizes(place: Place) -> dict[str, int]:
    """Return path below the place -> bytes, of every file."""
    if isinstance(place, Path):
        return {str(f.relative_to(place)): f.stat().st_size for f in place.rglob("*") if f.is_file()}
    try:
        with _reaching(place, FileNotFoundError):
            found = place.fs.find(place.key, detail=True)
    except FileNotFoundError:
        return {}
    return {name.removeprefix(place.key).lstrip("/"): int(about["size"] or 0) for name, about in found.items()}


def copy_files(place: RemotePath, to: RemotePath, names: list[str]) -> None:
    """Copy files below one URL to below another of the same service, without fetching them where it can do that itself."""
    with _reaching(to):
        if names:
            place.fs.copy([f"{place.key}/{name}" for name in names], [f"{to.key}/{name}" for name in names])


def remove(place: Place) -> None:
    """Delete a folder and all that is below, if it is there; at a URL the zarr.json before the rest."""
    if isinstance(place, Path):
        if place.exists():
            shutil.rmtree(place)
        return
    (place / "zarr.json").unlink(missing_ok=True)
    with _reaching(place):
        if place.fs.exists(place.key):
            place.fs.rm(place.key, recursive=True)
