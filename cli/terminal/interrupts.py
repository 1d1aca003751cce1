"""Ctrl-C, and SIGTERM as a cluster sends it: the first asks to stop, the next ends at once; no process stays behind."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from echolung.cli.terminal.console import complain
from echolung.provenance import command_line

INTERRUPTED = 130
"""Exit code of a command that was told to stop, whichever way."""

TWICE = 0.5
"""Seconds within which a second signal is the same wish: a terminal and a launcher may both pass it on."""

SAFE = {
    "extract": "Every clip that was encoded is kept.",
    "pretrain": "Nothing was learnt yet that could be lost.",
    "finetune": "Folds that are done are kept.",
    "demo": "What is done is kept.",
    "probe": "No run was saved; the store is as it was.",
    "study": "Every trial that was told is kept.",
    "data download": "Files that are whole are kept, and the rest goes on where it stopped.",
    "encoders download": "Files that are whole are kept, and the rest goes on where it stopped.",
    "data motion-mask": "Videos that are done are kept.",
    "cache verify": "The store is as it was.",
    "explain": "Nothing half-written is left.",
}
"""Command -> what has become of its work."""

AGAIN = dict.fromkeys(("probe", "cache verify", "explain"), "To begin again")
"""Command -> what the same command line does, where it does not go on."""


@contextmanager
def listening() -> Iterator[None]:
    """Within the block, turn the first SIGINT or SIGTERM into a KeyboardInterrupt, and end at once at the next one."""
    asked: list[float] = []

    def stop(number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if asked and now - asked[0] < TWICE:
            return
        if asked:
            end_at_once()
        asked.append(now)
        raise KeyboardInterrupt

    before = {}
    if threading.current_thread() is threading.main_thread():  # which alone may handle signals
        # One that is ignored stays so: a shell's background job.
        heard = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
        before = {number: signal.signal(number, stop) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def caused(error: BaseException | None) -> bool:
    """Whether an error came of an interrupt: of a library that was putting things in order when it was cut short."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def end_at_once() -> None:
    """End this process and those it started, without putting anything in order."""
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(INTERRUPTED)


def say_how_to_go_on(*more: str) -> None:
    """Say what became of the work, and the command that goes on with it: what was typed, and `more` behind it."""
    if "_ECHOLUNG_COMPLETE" in os.environ:  # Tab was pressed, and then Ctrl-C: nobody reads this
        return
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    name = next((n for n in (" ".join(words[:2]), words[0] if words else "") if n in SAFE), "")
    safe = SAFE.get(name, "Nothing half-written is left.")
    complain(f"Stopped. {safe} {AGAIN.get(name, 'To go on')}:\n  {command_line([*sys.argv[1:], *more])}")
