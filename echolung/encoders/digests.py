"""Content digests of weights, remembered so that a gigabyte is read once."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from echolung import settings
from echolung.errors import InputError

_remembering = True


def digest_of(value: Any) -> str:
    """Return the "sha256:…" of a JSON-able value."""
    return "sha256:" + hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def digest_file(path: Path) -> str:
    """Return the "sha256:…" of a file's content, from memory where path, size and mtime are those of last time.

    The memory is `ECHOLUNG_HOME/checkpoints/digests.json`; where it cannot be written, the file is read each time.

    Raises:
        InputError: the file cannot be read.
    """
    path = path.absolute()
    try:
        before = path.stat()
        stamp = [before.st_size, before.st_mtime_ns]
        known = _remembered()
        if known.get(str(path), [])[:2] == stamp:
            return known[str(path)][2]
        with path.open("rb") as file:
            digest = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"Cannot read the checkpoint {path}: {error.strerror}.") from error
    if _remembering:
        _remember(str(path), [*stamp, digest])
    return digest


@contextmanager
def unremembered() -> Iterator[None]:
    """Write no digest down while the block runs: for whoever promised to write nothing."""
    global _remembering
    before, _remembering = _remembering, False
    try:
        yield
    finally:
        _remembering = before


def digest_files(paths: list[Path]) -> str:
    """Return one "sha256:…" over several files, names and contents, in the order given."""
    return digest_of([[path.name, digest_file(path)] for path in paths])


def _memory() -> Path:
    return settings.home() / "checkpoints" / "digests.json"


def _remembered() -> dict[str, Any]:
    with suppress(OSError, ValueError):
        known = json.loads(_memory().read_text(encoding="utf-8"))
        if isinstance(known, dict):
            return known
    return {}


def _remember(path: str, entry: list[Any]) -> None:
    # Read again just before writing: another process may have added its own. Losing one costs a second reading, no more.
    with suppress(OSError):
        _memory().parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=_memory().parent, prefix=".digests-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump({**_remembered(), path: entry}, file, indent=1)
            Path(temporary).replace(_memory())
        except OSError:
            Path(temporary).unlink(missing_ok=True)
