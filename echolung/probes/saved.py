"""A fitted probe and its file: safetensors for the numbers, the rest as JSON in the same file's header and beside it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from echolung.errors import InputError
from echolung.probes.features import Features
from echolung.probes.kinds import PROBES


@dataclass(frozen=True)
class Probe:
    """A probe that is ready to use.

    Attributes:
        kind: a name in `PROBES`.
        classes: class names; empty for a regression.
        arrays: its numbers.
        about: what it was fitted on, and with which setting.
    """

    kind: str
    classes: tuple[str, ...]
    arrays: dict[str, np.ndarray]
    about: dict[str, Any]

    def predict(self, features: Features) -> Float32[np.ndarray, "v c"]:
        """Return the probability of each class [v, classes], or the predicted number [v, 1]."""
        outputs = PROBES[self.kind].predict(self.arrays, features, self.about.get("setting", {}))
        return softmax(outputs) if self.classes else outputs

    def save(self, folder: Path) -> None:
        """Write probe.safetensors and probe.json into `folder`."""
        header = {"kind": self.kind, "classes": list(self.classes), **self.about}
        text = json.dumps(header, indent=2)
        save_file(
            {name: np.ascontiguousarray(value) for name, value in self.arrays.items()},
            folder / "probe.safetensors",
            metadata={"echolung.probe": text},
        )
        (folder / "probe.json").write_text(text + "\n")


def load_probe(path: Path | str) -> Probe:
    """Return the probe in a run folder or safetensors file; InputError where there is none that can be used."""
    path = Path(path)
    file = path / "probe.safetensors" if path.is_dir() else path
    try:
        with safe_open(file, framework="numpy") as stream:
            header = json.loads((stream.metadata() or {})["echolung.probe"])
            arrays = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        kind, classes = header.pop("kind"), tuple(header.pop("classes"))
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise InputError(f"There is no saved probe at {file} ({type(error).__name__}: {error}).") from error
    if kind not in PROBES:
        raise InputError(
            f"{file} holds a probe of the kind {kind!r}, and this version of echolung has {', '.join(PROBES)}."
        )
    return Probe(kind, classes, arrays, header)


def softmax(logits: np.ndarray) -> Float32[np.ndarray, "*b c"]:
    """Return probabilities along the last axis."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return (shifted / shifted.sum(-1, keepdims=True)).astype(np.float32)
