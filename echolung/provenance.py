"""How a file came about: the command line as it was given, versions, and the kind of machine; no secret, no name of a user."""

import os
import platform
import re
import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from echolung.machine import cores

PACKAGES = ("torch", "numpy", "scikit-learn", "optuna", "zarr", "pandas", "av", "timm")

SECRET = re.compile(r"(?<=://)[^/@\s]*:[^/@\s]*@")
"""User and password in a URL."""


def command_line(words: Sequence[str] | None = None) -> str:
    """Return what was typed, quoted so that it can be pasted into a shell.

    The folder of the user is written $HOME, and a folder that has the user's name /$USER/: the command repeats the run
    all the same, and can be shown. User and password in a URL are left out.

    Args:
        words: the command without its first word; None: that of this process.
    """
    return " ".join(["echolung", *(_shown(word) for word in (sys.argv[1:] if words is None else words))])


def _shown(word: str) -> str:
    word = SECRET.sub("", word)
    for name, pattern in _personal():
        head, found, tail = _split(word, pattern)
        if found:
            return f'{_quoted(head)}"${name}"{_quoted(tail)}'
    return shlex.quote(word)


def _personal() -> list[tuple[str, str]]:
    """Return (variable, regular expression of what it stands for in a path)."""
    home, user = os.environ.get("HOME", "").rstrip("/"), os.environ.get("USER", "")
    patterns = [("HOME", rf"(?:^|(?<=[=:])){re.escape(home)}(?=/|$)")] if home else []
    return [*patterns, ("USER", rf"(?<=/){re.escape(user)}(?=/|$)")] if user else patterns


def _split(word: str, pattern: str) -> tuple[str, bool, str]:
    match = re.search(pattern, word)
    return (word[: match.start()], True, word[match.end() :]) if match else (word, False, "")


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
    """Write a record of how the files beside it came about; `settings` as JSON has them."""
    import json
    from datetime import UTC, datetime

    record = {"at": datetime.now(UTC).isoformat(timespec="seconds"), **origin(device), "settings": settings}
    file.write_text(json.dumps(record, indent=1, ensure_ascii=False, default=str) + "\n", "utf-8")
