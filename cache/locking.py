"""Who writes a store: a lock file beside it for each writer, and one for the gate through which writers begin and end.

Behind the gate a writer is alone with the question who else is at work; only there are leftovers cleared, stores laid out
and small arrays compacted. The operating system gives up a lock with the process that held it, however that ended.
At a URL nothing can be locked: there everybody is let through.
"""

import glob
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from echolung.cache.place import Place
from echolung.errors import InputError


@contextmanager
def gate(path: Place, wait: bool = False, log: Callable[[str], None] = lambda text: None) -> Iterator[None]:
    """Keep others from beginning or ending to write the store at `path`; InputError where one does just now (or `wait`)."""
    if not isinstance(path, Path):
        yield
        return
    # Its file stays: removing one that another process has open would let two hold the lock.
    lock = FileLock(path.with_name(path.name + ".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        if not wait:
            raise InputError(_busy(path)) from error
        log(f"Waiting for another process that opens or finishes {path.name}.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def writers(path: Place) -> list[str]:
    """Return who writes the store at `path` just now, as "1-of-1" or "2-of-8". To be asked behind the gate."""
    if not isinstance(path, Path):
        return []
    busy = []
    for file in sorted(path.parent.glob(f"{glob.escape(path.name)}.part-*.lock")):
        try:
            FileLock(file).acquire(timeout=0).lock.release()
        except Timeout:
            busy.append(file.name.removeprefix(f"{path.name}.part-").removesuffix(".lock"))
        else:
            file.unlink()  # nobody has it open: that is done behind the gate alone
    return busy


class WriterLock:
    """The hold of one writer, part `index` (from 1) of `count`, on the store at `path`; entered and left behind the gate."""

    def __init__(self, path: Place, index: int = 1, count: int = 1) -> None:
        self.path, self.count, self.name = path, count, f"{index}-of-{count}"
        file = path.with_name(f"{path.name}.part-{self.name}.lock")
        self._lock = FileLock(file) if isinstance(file, Path) else None

    def enter(self) -> bool:
        """Take the hold; return whether nobody else has one.

        Raises:
            InputError: another process writes this part, or parts of another number (which would share blocks with it).
        """
        others = writers(self.path)
        if alike := [name for name in others if name == self.name or not name.endswith(f"-of-{self.count}")]:
            raise InputError(_busy(self.path, alike[0]))
        if self._lock:
            self._lock.acquire(timeout=0)
        return not others

    def leave(self) -> bool:
        """Give the hold up; return whether nobody else has one."""
        self.__exit__()
        return not writers(self.path)

    def __enter__(self) -> "WriterLock":
        return self

    def __exit__(self, *error: object) -> None:
        if self._lock:
            self._lock.release()


def _busy(path: Place, name: str = "1-of-1") -> str:
    part = "" if name == "1-of-1" else f" (part {name.replace('-of-', '/')})"
    return f"Another process is writing {path.name}{part}. Wait for it, or end it first."
