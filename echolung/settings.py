"""Where echolung keeps its files: `ECHOLUNG_HOME`, by default the platform's folder for user data."""

import os
from pathlib import Path

import platformdirs

from echolung.errors import InputError


def home() -> Path:
    """Return the folder that holds `data/`, `checkpoints/`, `stores/` and `runs/` (not created here)."""
    return Path(os.environ.get("ECHOLUNG_HOME") or platformdirs.user_data_dir("echolung")).expanduser().absolute()


def make_folder(path: Path) -> Path:
    """Create `path` with its parents and return it.

    Raises:
        InputError: the folder cannot be written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"Cannot create the folder {path}: {error.strerror}. echolung keeps its files under {home()}; set the "
            "environment variable ECHOLUNG_HOME to a folder that can be written to."
        ) from error
    if not os.access(path, os.W_OK):
        raise InputError(
            f"The folder {path} is read-only. Set ECHOLUNG_HOME to one that is not, or name another place."
        )
    return path
