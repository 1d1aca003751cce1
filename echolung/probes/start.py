"""A saved head that probes begin from in the place of random parameters, or that is scored as it is."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from echolung.errors import InputError
from echolung.probes.jobs import ProbeKind
from echolung.probes.kinds import PROBES
from echolung.probes.saved import Probe, load_probe
from echolung.settings import home

SHAPING = ("depth", "queries", "hidden", "norm", "batch_norm")
"""Hyper-parameters that say which parameters a head has: they are the saved one's."""

KEPT = ("dropout", "input_dropout")
"""Hyper-parameters that are the saved head's where nothing else is asked for."""


@dataclass(frozen=True, eq=False)
class Start:
    """A saved head to begin from.

    Attributes:
        probe: the head.
        name: of the folder that it lies in.
        digest: SHA-256 of its file.
    """

    probe: Probe
    name: str
    digest: str

    @property
    def kind(self) -> ProbeKind:
        """What kind of probe it is."""
        return PROBES[self.probe.kind]

    @property
    def setting(self) -> dict[str, Any]:
        """Every hyper-parameter of the head, those that its file does not name at their defaults."""
        own = self.probe.about.get("setting", {})
        return {name: hyper.read(name, own.get(name, hyper.default)) for name, hyper in self.kind.hyper.items()}

    @property
    def seen(self) -> tuple[str, ...]:
        """Names of the datasets that it has learnt from, as far as its file tells."""
        about = self.probe.about
        own = about.get("dataset") or ()
        found = set() if about.get("as_is") else {own} if isinstance(own, str) else set(own)
        return tuple(sorted(found | set(about.get("start", {}).get("seen", ()))))

    def hyper(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the hyper-parameters of probes that begin from this head: its shape, and what is given.

        Raises:
            InputError: what is given makes another head, or this one did not learn in epochs.
        """
        if self.kind.epochs == 1:
            raise InputError(
                f"A {self.probe.kind} probe is fitted at once and cannot go on from {self.name}: score it with --as-is."
            )
        shape = {name: value for name, value in self.setting.items() if name in SHAPING}
        ordered = "coral.bias" in self.probe.arrays
        for name, own in shape.items():
            if any(self.kind.hyper[name].read(name, value) != own for value in _several(given.get(name, own))):
                raise InputError(f"--set {name}={given[name]}: the head {self.name} has {name} {own}. Leave it out.")
        if any((loss == "coral") != ordered for loss in _several(given.get("loss", "coral" if ordered else "auto"))):
            raise InputError(
                f"loss {given['loss']}: the head {self.name} was {'' if ordered else 'not '}trained with coral, whose one "
                "output is none of the others'. Leave out --loss."
            )
        kept = {name: value for name, value in self.setting.items() if name in KEPT}
        return {**kept, **shape, **({"loss": "coral"} if ordered else {}), **given}

    def check_shapes(self, dim: int, outputs: int) -> None:
        """Raise InputError where the head is not made for tokens of width `dim` and so many outputs."""
        own = {name: value.shape for name, value in self.probe.arrays.items()}
        setting = {**self.setting, **({"loss": "coral"} if "coral.bias" in own else {})}
        for name, shape in self.kind.shapes(setting, dim, outputs).items():
            if own.get(name) != shape:
                raise InputError(
                    f"The head {self.name} does not fit: its {name} is {_shape(own.get(name))}, and for tokens of width {dim} "
                    f"and {outputs} output{'s' if outputs > 1 else ''} it would be {_shape(shape)}. Take a store by the encoder "
                    f"that it was trained with{', and a task with as many classes' if self.probe.classes else ''}."
                )

    def to_json(self) -> dict[str, Any]:
        """Return plain values, for the record."""
        told = {"name": self.name, "digest": self.digest, "seen": list(self.seen)}
        return {**told, "task": self.probe.about.get("task")}


def load_start(place: Path | str) -> Start:
    """Return the head at a place: a folder with probe.safetensors, that file, a run's name, or a checkpoint's.

    Raises:
        InputError: there is none; says where it was looked for.
    """
    path = Path(place)
    beside = path.with_suffix(".head")  # of a checkpoint's file
    places = [beside, path] if path.suffix == ".safetensors" else [path]
    places += [home() / "runs" / path, home() / "checkpoints" / f"{place}.head"]
    found = next((place for place in places if place.exists()), None)
    if found is None:
        raise InputError(
            f"There is no head {place}: neither a folder with probe.safetensors, nor a run under {home() / 'runs'}, nor a "
            f"checkpoint with a head, {home() / 'checkpoints' / f'{place}.head'}."
        )
    probe = load_probe(found)
    file = found / "probe.safetensors" if found.is_dir() else found
    return Start(probe, file.parent.name, hashlib.sha256(file.read_bytes()).hexdigest())


def _several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _shape(shape: tuple[int, ...] | None) -> str:
    return "not there" if shape is None else " × ".join(map(str, shape))
