"""How much of a download is there: a bar in bytes on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from echolung.cli.terminal.console import EVERY, err, moving, say, say_above
from echolung.text import in_bytes

if TYPE_CHECKING:
    from rich.progress import Progress


class Bytes:
    """Bytes had, of a total (0: not known)."""

    def __init__(self, title: str, total: int, bar: "Progress | None") -> None:
        self.title, self.total, self.done, self.bar = title, total, 0, bar
        self.shown = time.monotonic()
        self.task = bar.add_task(title, total=total or None) if bar else None

    def advance(self, count: int) -> None:
        """Count bytes that came (negative: that were thrown away)."""
        self.done += count
        if self.bar and self.task is not None:
            self.bar.update(self.task, completed=self.done)
        elif time.monotonic() - self.shown > EVERY:
            self.shown = time.monotonic()
            say(f"{self.title}: {in_bytes(self.done)}" + (f" of {in_bytes(self.total)}" if self.total else ""))

    def log(self, text: str) -> None:
        """Say a sentence without disturbing the bar."""
        say_above(self.bar, text)


@contextmanager
def transfer(title: str, total: int = 0) -> Iterator[Bytes]:
    """Show progress while the block runs; give its `advance` and `log` to `fetch`."""
    if not moving():
        yield Bytes(title, total, None)
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err(), transient=True) as bar:
        yield Bytes(title, total, bar)
