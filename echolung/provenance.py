"""How a file came about: the command line as it was given, versions, and the kind of machine; no secret, no name of a user."""

import os
import platform
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from echolung.machine import cores

PACKAGES = ("torch", "numpy", "scikit-learn", "optuna", "zarr", "pandas", "av", "timm")

SECRET = re.compile(r"(?<=://)[^/@\s]*:[^/@\s]*@")
"""User and password in a URL."""
QUERY = re.compile(r"(?<=://)([^?\s]*)\?\S*")
"""What follows a URL's question mark: often a token that opens it."""


def command_line(words: Sequence[str] | None = None) -> str:
    """Return what was typed, quoted so that it can be pasted into a shell.

    The folder of the user is written $HOME, and a folder that has the user's name /$USER/: the command repeats the run
    all the same, and can be shown. User and password in a URL, and what follows its question mark, are left out.

    Args:
        words: the command without its first word; None: that of this process.
    """
    return " ".join(["echolung", *(_shown(word) for word in (sys.argv[1:] if words is None else words))])


def _shown(word: str) -> str:
    """Return a word as a shell reads it, its personal parts as variables, which stand outside the single quotes."""
    pieces = _pieces(_without_secrets(word))
    return "".join(f'"${text}"' if personal else _quoted(text) for text, personal in pieces) or "''"


def impersonal(value: Any) -> Any:
    """Return settings without what `command_line` leaves out, too: their texts with $HOME and /$USER/."""
    if isinstance(value, dict):
        return {name: impersonal(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [impersonal(each) for each in value]
    if isinstance(value, str | os.PathLike):
        pieces = _pieces(_without_secrets(str(value)))
        return "".join(f"${text}" if personal else text for text, personal in pieces)
    return value


def _without_secrets(text: str) -> str:
    return QUERY.sub(r"\1", SECRET.sub("", text))


def _pieces(text: str) -> Iterator[tuple[str, bool]]:
    """Yield (piece, False) and (name of a variable, True) in turn, empty pieces left out."""
    home, user = os.environ.get("HOME", "").rstrip("/"), os.environ.get("USER", "")
    # Where a path begins: at the start, and behind what joins several into one word.
    known = [("HOME", rf"(?:^|(?<=[=:,])){re.escape(home)}(?=[/:,]|$)")] if home else []
    known += [("USER", rf"(?<=/){re.escape(user)}(?=[/:,]|$)")] if user else []
    done = 0
    for match in re.finditer("|".join(f"(?P<{name}>{pattern})" for name, pattern in known), text) if known else ():
        if text[done : match.start()]:
            yield text[done : match.start()], False
        yield str(match.lastgroup), True
        done = match.end()
    if text[done:]:
        yield text[done:], False


def _quoted(text: str) -> str:
    return shlex.quote(text) if text else ""


def versions() -> dict[str, str]:
    """Return the versions of echolung, Python and what numbers come from; "" where one is not installed."""
    from echolung import __version__

    found = {"echolung": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = ""
    return found


def machine(device: str = "") -> dict[str, Any]:
    """Return what kind of machine this is, not which one; `device` as it is known to torch, "cpu" or "cuda:0"."""
    kind: dict[str, Any] = {
        "system": platform.system(),
        "architecture": platform.machine(),
        "cores": cores(),
    }
    return {**kind, "device": _device_name(device)} if device else kind


def _device_name(device: str) -> str:
    """Return "cpu", or the model of the GPU; asks torch only where it is loaded."""
    torch = sys.modules.get("torch")
    if torch is not None and device.startswith("cuda") and torch.cuda.is_available():
        return str(torch.cuda.get_device_name(device))
    return device


def origin(device: str = "") -> dict[str, Any]:
    """Return command, versions and machine as the fields of a record."""
    return {"command": command_line(), "versions": versions(), "machine": machine(device)}


def write_origin(file: Path, settings: dict[str, Any], device: str = "") -> None:
    """Write a record of how the files beside it came about; `settings` as JSON has them, without personal folders."""
    import json
    from datetime import UTC, datetime

    record = {"at": datetime.now(UTC).isoformat(timespec="seconds"), **origin(device), "settings": impersonal(settings)}
    file.write_text(json.dumps(record, indent=1, ensure_ascii=False, default=str) + "\n", "utf-8")
