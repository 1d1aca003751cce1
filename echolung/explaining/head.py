"""The head whose answer is explained, and the clips that it was trained on."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from echolung.clips.plan import ClipPlan
from echolung.errors import InputError
from echolung.pretraining.labelled.regressor import Regressor, from_probe
from echolung.probes.saved import Probe
from echolung.probes.start import load_start
from echolung.settings import home
from echolung.text import suggest

NAMED = frozenset(field.name for field in fields(ClipPlan))


@dataclass(frozen=True, eq=False)
class SavedHead:
    """A trained head.

    Attributes:
        network: mean token [b, d] -> numbers in the label's unit, or logits; in eval mode.
        classes: class names; () for a number.
        task: what it was trained on; "" where its file does not say.
        clips: settings of the clips that it was trained on, by their names in `ClipPlan`, as far as its file says.
        name: of its folder.
    """

    network: Regressor
    classes: tuple[str, ...]
    task: str
    clips: Mapping[str, Any]
    name: str

    def check(self, model: nn.Module) -> None:
        """Raise InputError where the head is not made for the model's tokens."""
        if (width := _width(self.network)) != model.dim:
            raise InputError(
                f"The head {self.name} takes tokens of width {width}, and the encoder's are {model.dim} wide: it was trained "
                "with another encoder. Name its own with --head."
            )

    def output(self, wanted: str | None, outputs: torch.Tensor) -> int:
        """Return which output is explained: that of the class asked for, else of the likeliest; a number's only one.

        Raises:
            InputError: no such class.
        """
        if not self.classes:
            if wanted is not None:
                raise InputError(f"The head {self.name} predicts a number, so there is no --class {wanted!r}.")
            return 0
        if wanted is None:
            return int(outputs.argmax())
        if wanted not in self.classes:
            raise InputError(
                f"The head {self.name} knows no class {wanted!r}; it knows {', '.join(self.classes)}."
                f"{suggest(wanted, self.classes)}"
            )
        return self.classes.index(wanted)


def load_head(place: Path | str) -> SavedHead:
    """Return the head at a place: a folder with probe.safetensors, that file, a run's name, or a checkpoint's.

    Raises:
        InputError: there is none, or one of a kind that does not work on mean tokens by layers.
    """
    start = load_start(place)
    probe = start.probe
    if probe.kind == "linear":  # an MLP without hidden layers
        probe = replace(probe, kind="mlp", about={**probe.about, "setting": {"hidden": "none", "norm": "layer"}})
    if probe.kind != "mlp" or "coral.bias" in probe.arrays:
        what = "trained with the loss coral" if "coral.bias" in probe.arrays else f"a probe of kind {probe.kind}"
        raise InputError(
            f"The head {start.name} is {what}. Heads that can be explained are linear and mlp probes with an output for "
            "each class or number. Attentive probes show their attention in their report (echolung report)."
        )
    return SavedHead(
        from_probe(probe).eval().requires_grad_(False),
        probe.classes,
        str(probe.about.get("task") or ""),
        _clips(probe, start.name),
        start.name,
    )


def _width(network: Regressor) -> int:
    return next(module.in_features for module in network if isinstance(module, nn.Linear))


def _clips(probe: Probe, name: str) -> dict[str, Any]:
    """Return the clips that a head was trained on: its store's, or those of the run that trained it with its encoder."""
    if "clips" in (key := probe.about.get("store_key") or {}):
        return {**key["clips"], "segments": 1, "views": 0, "starts": "", "window": "even"}
    recipe = home() / "pretraining" / name.removesuffix(".head") / "recipe.toml"
    if not recipe.is_file():
        return {}
    told = tomllib.loads(recipe.read_text("utf-8")).get("clips", {})
    found = {key: value for key, value in told.items() if key in NAMED and key != "window"}
    return {**found, "fps": found.get("fps") or None, "crop": "whole"}


def own_head(encoder: str) -> Path | None:
    """Return where the head that was trained with an encoder is: beside its checkpoint; None where there is none."""
    path = Path(encoder)
    places = [path.with_suffix(".head")] if path.suffix == ".safetensors" else []
    places.append(home() / "checkpoints" / f"{encoder}.head")
    return next((place for place in places if (place / "probe.safetensors").is_file()), None)
