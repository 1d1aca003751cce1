"""Which blocks of a store one of several processes writes: dealt in turn, part i of n takes the blocks k with k % n = i - 1."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from echolung.errors import InputError


@dataclass(frozen=True)
class Part:
    """Part `index` (from 1) of `count`; 1 of 1 is the whole."""

    index: int = 1
    count: int = 1

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def clips(self, clips: int, block: int) -> Bool[np.ndarray, " clips"]:
        """Return which of a store's clips are this part's; no block is divided."""
        return np.arange(clips) // block % self.count == self.index - 1


WHOLE = Part()


def parse_part(text: str) -> Part:
    """Return the part that "i/n" names; InputError where it names none."""
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip())
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise InputError(f"--part {text} must be i/n with i from 1 to n, such as --part 1/4 (up to --part 4/4).")
    return Part(int(found[1]), int(found[2]))


def choose_part(text: str | None, environment: Mapping[str, str]) -> Part:
    """Return the part named by `text`, else the one that torchrun's RANK and WORLD_SIZE give this process.

    Raises:
        InputError: `text` names no part, or both are there, so that all of torchrun's processes would write one part.
    """
    launched = int(environment.get("WORLD_SIZE", 1)) > 1
    if text is not None:
        if launched:
            raise InputError(
                f"--part {text} was given to a process that torchrun started (WORLD_SIZE is {environment['WORLD_SIZE']}), "
                "which deals out the parts itself. Leave --part out, or run without torchrun."
            )
        return parse_part(text)
    if not launched:
        return WHOLE
    return Part(int(environment.get("RANK", 0)) + 1, int(environment["WORLD_SIZE"]))


def choose_device(name: str, environment: Mapping[str, str]) -> str:
    """Return the device of this process: of a GPU of which all were offered, the one that torchrun's LOCAL_RANK gives it."""
    if name not in ("auto", "cuda") or int(environment.get("WORLD_SIZE", 1)) <= 1:
        return name
    import torch

    return f"cuda:{environment.get('LOCAL_RANK', 0)}" if name == "cuda" or torch.cuda.is_available() else name
