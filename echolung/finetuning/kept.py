"""Folds that are done, kept on disk until the whole is, so that a stopped fine-tuning goes on."""

import hashlib
import json
import shutil
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from jaxtyping import Float

from echolung.errors import InputError
from echolung.evaluation.selection import Choice
from echolung.settings import home, make_folder

ARRAYS = ("outputs", "train", "inner", "losses", "accuracies")


@dataclass(frozen=True)
class Tuned:
    """What one part found.

    Attributes:
        choice: the setting and epoch that it chose.
        outputs: what it predicts of its test videos; NaN for the others.
        train: what it says of the videos that it has learnt from.
        inner: what it predicted, when it chose, of the videos that it chose on; NaN for the others.
        losses: mean loss on these after each epoch of each setting.
        accuracies: of these likewise; NaN of numbers.
    """

    choice: Choice
    outputs: Float[np.ndarray, "v c"]
    train: Float[np.ndarray, "v c"]
    inner: Float[np.ndarray, "v c"]
    losses: Float[np.ndarray, "settings epochs"]
    accuracies: Float[np.ndarray, "settings epochs"]


class Folder:
    """Where the folds of one question are kept: a folder under ECHOLUNG_HOME/finetuning named by all that it was asked.

    One process at a time has it: from here until `with folder:` is left, it is dropped, or the process ends, however that
    comes.

    Args:
        asked: everything that can change a number, plain values.

    Raises:
        InputError: another process has it.
    """

    def __init__(self, asked: dict[str, Any]) -> None:
        text = json.dumps(asked, sort_keys=True, default=str)
        self.path = home() / "finetuning" / hashlib.sha256(text.encode()).hexdigest()[:16]
        # Beside the folder, which is removed while it is held. Its file stays: removed while another opens it, it would
        # let two in. Not of one thread: any may be the one that drops it.
        self._lock = FileLock(make_folder(self.path.parent) / f"{self.path.name}.lock", thread_local=False)
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise InputError(
                "Another echolung fine-tunes the same question now, and keeps its folds in the same folder, "
                f"{self.path}. Wait for it, or end it first."
            ) from error

    def __enter__(self) -> "Folder":
        return self

    def __exit__(self, *error: object) -> None:
        self._lock.release(force=True)

    def load(self, part: int) -> Tuned | None:
        """Return a part that is done; None where it is not, or its file is damaged."""
        file = self.path / f"part-{part}.npz"
        try:
            # Opened here, as numpy leaves a file open that is no whole zip.
            with file.open("rb") as opened, np.load(opened, allow_pickle=False) as found:
                setting, epoch = json.loads(str(found["setting"])), int(found["epoch"])
                arrays = {name: found[name] for name in ARRAYS}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        return Tuned(Choice(setting, epoch), **arrays)

    def save(self, part: int, tuned: Tuned) -> None:
        """Keep a part."""
        make_folder(self.path)
        file = self.path / f"part-{part}.npz"
        temporary = file.with_suffix(".partial.npz")
        arrays = {name: getattr(tuned, name) for name in ARRAYS}
        setting = json.dumps(dict(tuned.choice.setting))
        np.savez(temporary, setting=np.array(setting), epoch=np.array(tuned.choice.epoch), **arrays)
        temporary.replace(file)

    def place(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return an array on disk for frames that memory has no room for."""
        make_folder(self.path)
        return np.memmap(self.path / "frames", np.uint8, "w+", shape=shape)

    def remove(self) -> None:
        """Remove what is kept: the run's folder has it all now."""
        shutil.rmtree(self.path, ignore_errors=True)
