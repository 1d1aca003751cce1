"""An encoder cut in two: stages that stay as they are, computed once a clip, and stages above them, which learn."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from echolung.encoders.stages import Stage, stages_of
from echolung.finetuning.tuning import count_learnt

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True, eq=False)
class Cut:
    """An encoder cut in two.

    Attributes:
        model: the network, on its device.
        frozen: the stages that stay as they are, the lowest first.
        learnt: those above.
        start: state of the learnt stages before anything was learnt: every fold begins with it.
        precision: of the products, "float32" or "bfloat16".
    """

    model: Any
    frozen: tuple[Stage, ...]
    learnt: tuple[Stage, ...]
    start: list[dict[str, Tensor]]
    precision: str = "float32"

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def below(self, frames: Float[Tensor, "b c t h w"]) -> Any:
        """Return what the frozen stages make of clips; where none learns, the mean token [b, 1, d], which is all a head takes."""
        with torch.no_grad(), self._precision():
            value = run(self.frozen, frames)
            return value if self.learnt else value.float().mean(1, keepdim=True)

    def above(self, value: Any) -> Float[Tensor, "b n d"]:
        """Return the tokens that the learnt stages make of what is below."""
        with self._precision():
            return run(self.learnt, value).float()

    def restart(self) -> None:
        """Put the learnt stages back to where they began."""
        self.load(self.start)

    def load(self, states: list[dict[str, Tensor]]) -> None:
        """Put the learnt stages where `state` found them."""
        for stage, state in zip(self.learnt, states, strict=True):
            nn.ModuleList(stage.modules).load_state_dict(state)

    def state(self) -> list[dict[str, Tensor]]:
        """Return a copy of the learnt stages' parameters and statistics."""
        return [_state(stage) for stage in self.learnt]

    def set_modes(self, training: bool, batch_norm: str) -> None:
        """Put learnt stages into training mode, all else into that of predicting; BatchNorm only where it is "learnt"."""
        # What belongs to no stage, having no parameter (dropout between two of them), learns where all else does.
        self.model.train(training and not self.frozen)
        for stage in self.learnt:
            for module in stage.modules:
                module.train(training)
        if batch_norm == "fixed":
            for module in self.model.modules():
                if isinstance(module, BATCH_NORMS):
                    module.eval()

    def _precision(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16) if self.precision == "bfloat16" else nullcontext()


def cut_encoder(model: Any, unfreeze: str, precision: str = "float32") -> Cut:
    """Return the encoder cut as `unfreeze` says, its lower stages without gradients.

    Raises:
        InputError: no such number of stages.
    """
    stages = stages_of(model)
    learnt = count_learnt(unfreeze, [stage.name for stage in stages])
    model.eval().requires_grad_(False)
    parts = stages[: len(stages) - learnt], stages[len(stages) - learnt :]
    for stage in parts[1]:
        nn.ModuleList(stage.modules).requires_grad_(True)
    return Cut(model, *parts, [_state(stage) for stage in parts[1]], precision)


def run(stages: tuple[Stage, ...], value: Any) -> Any:
    """Return what the stages make of a value, one after the other."""
    for stage in stages:
        value = stage.run(value)
    return value


def map_tensors(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Return what one stage hands to the next with a function applied to each tensor in it, in tuples and dataclasses, too."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, tuple | list):
        parts = [map_tensors(part, function) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: map_tensors(getattr(value, f.name), function) for f in fields(value)})
    return value


def _state(stage: Stage) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in nn.ModuleList(stage.modules).state_dict().items()}
