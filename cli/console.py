"""Terminal output: results on stdout, everything said on the way on stderr."""

import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

EVERY = 10.0
"""Seconds between progress lines where there is no terminal."""


def out() -> "Console":
    """Return the console for results. Piped, a table gets as much width as it needs."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=140)


def err() -> "Console":
    """Return the console for what is said on the way."""
    from rich.console import Console

    return (
        Console(stderr=True, highlight=False)
        if sys.stderr.isatty()
        else Console(stderr=True, width=140, highlight=False)
    )


def say(text: str) -> None:
    """Say a sentence on the way to a result."""
    from rich.markup import escape

    err().print(escape(text), style="dim" if sys.stderr.isatty() else "", soft_wrap=not sys.stderr.isatty())


def complain(text: str) -> None:
    """Show an error as a paragraph."""
    from rich.markup import escape

    err().print(f"[bold red]Error:[/] {escape(text)}", soft_wrap=not sys.stderr.isatty())


def counted(number: int, noun: str) -> str:
    """Return "1 video" or "2,000 videos"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def print_json(value: Any) -> None:
    """Print a result for programs; NaN, which JSON has not, as null."""
    sys.stdout.write(json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Steps:
    """A count towards a total, shown as a bar on a terminal and as a line now and then elsewhere."""

    def __init__(self, title: str, unit: str, total: int, bar: "Progress | None") -> None:
        self.title, self.unit, self.total, self.done, self.before = title, unit, total, 0, 0
        self.began = self.shown = time.monotonic()
        self.bar = bar
        self.task = bar.add_task(title, total=total, rate="") if bar else None

    def start(self, done: int, total: int) -> None:
        """Set how much is done already, and the total."""
        self.done = self.before = done
        self.total, self.began = total, time.monotonic()
        if self.bar and self.task is not None:
            self.bar.update(self.task, completed=done, total=total)

    def advance(self, count: int = 1) -> None:
        """Count on."""
        self.done += count
        now = time.monotonic()
        rate = (self.done - self.before) / max(now - self.began, 1e-9)
        if self.bar and self.task is not None:
            self.bar.update(self.task, completed=self.done, rate=f"{rate:.1f} {self.unit}/s")
        elif now - self.shown > EVERY or self.done == self.total:
            self.shown = now
            left = (self.total - self.done) / max(rate, 1e-9)
            say(f"{self.title}: {self.done}/{self.total} {self.unit}, {rate:.1f} {self.unit}/s, {left:.0f} s left")

    def log(self, text: str) -> None:
        """Say a sentence without disturbing the bar."""
        from rich.markup import escape

        if self.bar:
            self.bar.console.print(escape(text), style="dim")
        else:
            say(text)


@contextmanager
def steps(title: str, unit: str, total: int = 0) -> Iterator[Steps]:
    """Show progress while the block runs."""
    if not sys.stderr.isatty():
        yield Steps(title, unit, total, None)
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err()) as bar:
        yield Steps(title, unit, total, bar)
