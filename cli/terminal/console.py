"""Terminal output: results on stdout, everything said on the way on stderr."""

import json
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from echolung.cli.terminal import levels
from echolung.cli.terminal.narrow import fitting

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

EVERY = 10.0
"""Seconds between progress lines where there is no terminal."""

PIPED = 140
"""Columns of a table that goes to a file or a pipe, where COLUMNS does not say otherwise."""


def out() -> "Console":
    """Return the console for results. Piped, a table gets as much width as it needs."""
    return _console(sys.stdout)


def err() -> "Console":
    """Return the console for what is said on the way."""
    return _console(sys.stderr, highlight=False)


def _console(file: Any, **how: Any) -> "Console":
    from rich.console import Console

    class Lasting(Console):
        def print(self, *things: Any, **how: Any) -> None:
            """Print; a table that is too wide, row by row."""
            super().print(*(fitting(self, thing) for thing in things), **how)

        def on_broken_pipe(self) -> None:
            """Go on without a reader: `… | head -1` has seen enough, and the run is still to be saved."""
            hang_up(file)

    if not file.isatty():
        how["width"] = _columns() or PIPED
    return Lasting(file=file, **how)


def _columns() -> int | None:
    text = os.environ.get("COLUMNS", "")
    return int(text) if text.isdecimal() and int(text) else None


def hang_up(file: Any) -> None:
    """Let a stream whose reader has gone lead nowhere, so that writing to it and closing it do no harm."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, file.fileno())
        os.close(nowhere)
    except (OSError, ValueError):  # no file behind it
        return


def moving() -> bool:
    """Whether bars and panels can be drawn: a terminal that can move its cursor, and somebody who wants to see them."""
    dumb = os.environ.get("TERM", "").lower() in ("dumb", "unknown")
    return sys.stderr.isatty() and not dumb and levels.level() > levels.QUIET


def say(text: str) -> None:
    """Say a sentence on the way to a result; in a log with the time before it. Not where only results are wanted."""
    if levels.level() > levels.QUIET:
        _note(text)


def detail(text: str) -> None:
    """Say what only somebody wants to know who asked for more with --verbose."""
    if levels.level() >= levels.VERBOSE:
        _note(text)


def _note(text: str) -> None:
    from rich.markup import escape

    if sys.stderr.isatty():
        err().print(escape(text), style="dim")
    else:
        err().print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {escape(text)}", soft_wrap=True)


def complain(text: str) -> None:
    """Show an error as a paragraph."""
    from rich.markup import escape

    err().print(f"[bold red]Error:[/] {escape(text)}", soft_wrap=not sys.stderr.isatty())


def print_json(value: Any) -> None:
    """Print a result for programs; NaN, which JSON has not, as null."""
    text = json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        hang_up(sys.stdout)


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
        say_above(self.bar, text)


def say_above(bar: "Progress | None", text: str) -> None:
    """Say a sentence above a bar, or where there is none as any other."""
    from rich.markup import escape

    if bar:
        bar.console.print(escape(text), style="dim")
    else:
        say(text)


@contextmanager
def steps(title: str, unit: str, total: int = 0) -> Iterator[Steps]:
    """Show progress while the block runs."""
    if not moving():
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
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err()) as bar:
        yield Steps(title, unit, total, bar)
