"""Folds that are done, kept on disk until the whole is, so that a stopped fine-tuning goes on."""

import hashlib
import json
import shutil
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

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

    Args:
        asked: everything that can change a number, plain values.
    """

    def __init__(self, asked: dict[str, Any]) -> None:
        text = json.dumps(asked, sort_keys=True, default=str)
        self.path = home() / "finetuning" / hashlib.sha256(text.encode()).hexdigest()[:16]

    def load(self, part: int) -> Tuned | None:
        """Return a part that is done; None where it is not, or its file is damaged."""
        file = self.path / f"part-{part}.npz"
        try:
            with np.load(file, allow_pickle=False) as found:
                setting, epoch = json.loads(str(found["setting"])), int(found["epoch"])
                arrays = {name: found[name] for name in ARRAYS}
        except (OSError, ValueError, KeyError, EOFError):
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
