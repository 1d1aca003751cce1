"""The heads that are trained with an encoder: embeddings to numbers or logits, kept as saved probes of kind mlp."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from echolung.errors import InputError
from echolung.probes.kinds import PROBES
from echolung.probes.saved import Probe

NORMS = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}

NAMES = {"running_mean": "mean", "running_var": "var"}
"""Of BatchNorm's statistics: torch's -> a probe's."""

HYPER = ("hidden", "norm", "batch_norm", "dropout", "input_dropout")
"""Hyper-parameters of a probe of kind mlp that say which modules a head has."""


class Regressor(nn.Sequential):
    """A norm, dropout, hidden layers (linear, BatchNorm, GELU, dropout), a linear layer: [b, dim] -> [b, outputs].

    By default no more than the linear layer. The places of the modules are those of CoReEcho's F_R, whose tensors load as
    they are.

    Args:
        dim: width of an embedding.
        outputs: numbers, or classes.
        hidden: widths of the hidden layers, such as "512" or "512x128"; "none".
        norm: of the embedding: "batch", "layer" or "none".
        batch_norm: "yes": after each hidden linear layer.
        dropout: after each hidden activation.
        input_dropout: before the first linear layer.

    Attributes:
        setting: all but the first two: hyper-parameters of a probe of kind mlp.
        parts: each module's name in such a probe, "" where it has no numbers.
    """

    def __init__(
        self,
        dim: int,
        outputs: int,
        *,
        hidden: str = "none",
        norm: str = "none",
        batch_norm: str = "no",
        dropout: int | float = 0.0,
        input_dropout: int | float = 0.0,
    ) -> None:
        widths = [dim] if hidden == "none" else [dim, *map(int, hidden.split("x"))]
        parts: list[tuple[str, nn.Module]] = [("norm", NORMS[norm](dim))] if norm != "none" else []
        parts.append(("", nn.Dropout(input_dropout)))
        for i, (before, after) in enumerate(pairwise(widths)):
            parts.append((f"hidden{i}", nn.Linear(before, after)))
            if batch_norm == "yes":
                parts.append((f"hidden{i}.bn", nn.BatchNorm1d(after)))
            parts += [("", nn.GELU()), ("", nn.Dropout(dropout))]
        parts.append(("linear", nn.Linear(widths[-1], outputs)))
        super().__init__(*(module for _, module in parts))
        self.parts = [name for name, _ in parts]
        self.setting = {
            "hidden": hidden, "norm": norm, "batch_norm": batch_norm, "dropout": dropout, "input_dropout": input_dropout,
        }  # fmt: skip

    @property
    def compares(self) -> bool:
        """Whether a clip's output depends, in training, on the others of its batch, of which there must be some."""
        return any(isinstance(module, nn.BatchNorm1d) for module in self)

    @property
    def last(self) -> nn.Linear:
        """The layer whose outputs are the head's."""
        layer = self[-1]
        assert isinstance(layer, nn.Linear)
        return layer

    def begin_at(self, value: int | float) -> None:
        """Let the last layer's bias be this number."""
        nn.init.constant_(self.last.bias, value)


def to_probe(head: Regressor, classes: tuple[str, ...], about: Mapping[str, Any]) -> Probe:
    """Return the head as a probe that says the same of mean tokens: probabilities, or numbers in the target's own unit.

    Args:
        head: the head.
        classes: class names; () where it gives numbers.
        about: what it was trained on.
    """
    arrays = {
        f"{part}.{NAMES.get(name, name)}": tensor.detach().cpu().numpy().copy()
        for part, module in zip(head.parts, head, strict=True)
        for name, tensor in module.state_dict().items()
        if name != "num_batches_tracked"  # the momentum is fixed
    }
    return Probe("mlp", classes, arrays, {**about, "probe": "mlp", "setting": dict(head.setting)})


def from_probe(probe: Probe) -> Regressor:
    """Return the head that a probe of kind mlp is, its numbers in the target's own unit.

    Raises:
        InputError: a probe of another kind, or numbers that are not those of its setting.
    """
    if probe.kind != "mlp":
        raise InputError(f"The head of an encoder is a probe of kind mlp, and this one is of kind {probe.kind}.")
    setting = {key: probe.about["setting"].get(key, PROBES["mlp"].hyper[key].default) for key in HYPER}
    arrays = {name: torch.from_numpy(array) for name, array in probe.arrays.items()}
    first = next(arrays[name] for name in ("hidden0.weight", "linear.weight") if name in arrays)
    head = Regressor(first.shape[1], len(arrays["linear.bias"]), **setting)
    theirs = {theirs: own for own, theirs in NAMES.items()}
    tensors = {}
    for name, tensor in arrays.items():
        part, _, last = name.rpartition(".")
        if part != "target":
            tensors[f"{head.parts.index(part)}.{theirs.get(last, last)}"] = tensor
    _fill(head, tensors)
    if "target.scale" in arrays:
        with torch.no_grad():
            head.last.weight.mul_(arrays["target.scale"])
            head.last.bias.mul_(arrays["target.scale"]).add_(arrays["target.shift"])
    return head


def _fill(head: Regressor, tensors: Mapping[str, Tensor]) -> None:
    """Load tensors; torch's count of batches need not be among them."""
    counts = {name: tensor for name, tensor in head.state_dict().items() if name.endswith("num_batches_tracked")}
    try:
        head.load_state_dict({**counts, **tensors})
    except RuntimeError as error:
        what = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in tensors.items())
        raise InputError(f"These tensors do not make up the head {head.setting}: {what}.") from error
