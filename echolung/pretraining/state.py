"""Checkpoints of a run: written whole or not at all, the last few kept."""

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from echolung import __version__
from echolung.errors import InputError, RunError

FOLDER = "states"


@dataclass(frozen=True)
class State:
    """Where a run stands; what it draws follows from the seed and the step alone.

    Attributes:
        step: updates done.
        pool: digest of the pool.
        best: highest score of the labelled probe so far; None: not probed yet.
        broken: videos that could not be read, and why.
    """

    step: int
    pool: str
    best: float | None
    broken: dict[str, str]


def save_state(folder: Path, state: State, learnt: dict[str, Any], keep: int) -> Path:
    """Write `states/step-<n>.pt` under a run's folder, then delete all but the `keep` newest; return its path.

    It holds what was `learnt` under its own keys (of JEPA those of V-JEPA 2's training checkpoints, so that whatever reads
    those reads this); `echolung` holds the rest as JSON, `random` torch's own generators.

    Raises:
        RunError: the disk is full or cannot be written to. Earlier checkpoints are untouched.
    """
    path = folder / FOLDER / f"step-{state.step:06d}.pt"
    content = {
        **learnt,
        "random": _random_state(),
        "echolung": json.dumps({"version": __version__, **state.__dict__}),
    }
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        kept = newest_state(folder)
        raise RunError(
            f"Cannot write the checkpoint {path}: {error}. "
            + (f"The last one, {kept.name}, is whole: free some space and go on with --resume." if kept else "")
        ) from error
    for old in _states(folder)[:-keep]:
        old.unlink(missing_ok=True)
    return path


def load_state(path: Path, load: Callable[[dict[str, Any]], None]) -> State:
    """Hand what a checkpoint holds to `load`, which takes its networks and optimisers there; return where that is.

    Raises:
        InputError: it cannot be read, or is of another model.
    """
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        state = json.loads(content["echolung"])
        load(content)
    except Exception as error:  # a pickle, zip or key error, depending on what is wrong with the file
        raise InputError(
            f"The checkpoint {path} cannot be continued ({type(error).__name__}: {str(error).splitlines()[0]}). Delete it to go "
            "on from the one before."
        ) from error
    torch.set_rng_state(content["random"]["cpu"])
    if "cuda" in content["random"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(content["random"]["cuda"])
    return State(state["step"], state["pool"], state["best"], state["broken"])


def newest_state(folder: Path) -> Path | None:
    """Return the latest checkpoint of a run, or None where there is none."""
    return found[-1] if (found := _states(folder)) else None


def _states(folder: Path) -> list[Path]:
    named = [path for path in (folder / FOLDER).glob("step-*.pt") if re.fullmatch(r"step-\d{6,}", path.stem)]
    return sorted(named, key=lambda path: int(path.stem.removeprefix("step-")))


def _random_state() -> dict[str, torch.Tensor]:
    state = {"cpu": torch.get_rng_state()}
    return {**state, "cuda": torch.cuda.get_rng_state()} if torch.cuda.is_initialized() else state
