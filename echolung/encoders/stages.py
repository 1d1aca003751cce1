"""A model in the order in which a clip goes through it, to train its last stages alone or to look between them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class Stage:
    """A stretch of a model.

    Attributes:
        name: "stem", "stage 1", "block 3", …, for people.
        modules: whose parameters are this stage's; over all stages each parameter of the model comes exactly once.
        run: the output of the stage before (the first takes normalised frames) -> its own. Convolutions hand on a
            feature map [b, d, t, h, w] (two streams a pair of them), transformers `Tokens`; the last stage returns what
            the model does, tokens [b, n, d] in the order of its grid, so that all stages one after another are the model.
    """

    name: str
    modules: tuple[nn.Module, ...]
    run: Callable[[Any], Any]


@dataclass(frozen=True)
class Tokens:
    """Tokens on their way.

    Attributes:
        values: t-major, then row, then column.
        grid: how many (t, h, w).
    """

    values: Float[Tensor, "b n d"]
    grid: tuple[int, int, int]


def stages_of(model: nn.Module) -> tuple[Stage, ...]:
    """Return the stages of any model; one that does not say (a class of the user's) is one stage."""
    own = getattr(model, "stages", None)
    return own() if callable(own) else (Stage("model", (model,), model),)
