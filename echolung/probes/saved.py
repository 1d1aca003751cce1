"""A fitted probe and its file: safetensors for the numbers, the rest as JSON in the same file's header and beside it."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float32
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from echolung.cache import TokenStore
from echolung.errors import InputError
from echolung.probes.features import Features, load_features
from echolung.probes.kinds import PROBES
from echolung.probes.novelty import Reference, make_reference
from echolung.settings import home

REFERENCE = "reference"
"""How the names of a reference's arrays begin in the file, and its entry in the header."""


@dataclass(frozen=True)
class Probe:
    """A probe that is ready to use.

    Attributes:
        kind: a name in `PROBES`.
        classes: class names; empty for a regression.
        arrays: its numbers.
        about: what it was fitted on, and with which setting.
        reference: what tells how far new videos are from those it was fitted on; None where that is not known.
    """

    kind: str
    classes: tuple[str, ...]
    arrays: dict[str, np.ndarray]
    about: dict[str, Any]
    reference: Reference | None = None

    def predict(self, features: Features) -> Float32[np.ndarray, "v c"]:
        """Return the probability of each class [v, classes], or the predicted number [v, 1]."""
        outputs = PROBES[self.kind].predict(self.arrays, features, self.about.get("setting", {}))
        return softmax(outputs) if self.classes else outputs

    def save(self, folder: Path) -> None:
        """Write probe.safetensors and probe.json into `folder`."""
        header, arrays = {"kind": self.kind, "classes": list(self.classes), **self.about}, dict(self.arrays)
        if (reference := self.reference) is not None:
            header[REFERENCE] = {"k": reference.k, "unit": reference.unit}
            arrays[f"{REFERENCE}.embeddings"] = reference.embeddings
            arrays[f"{REFERENCE}.distances"] = reference.distances
        text = json.dumps(header, indent=2)
        save_file(
            {name: np.ascontiguousarray(value) for name, value in arrays.items()},
            folder / "probe.safetensors",
            metadata={"echolung.probe": text},
        )
        (folder / "probe.json").write_text(text + "\n")


def load_probe(path: Path | str) -> Probe:
    """Return the probe in a run folder or safetensors file; InputError where there is none that can be used."""
    path = Path(path)
    file = path / "probe.safetensors" if path.is_dir() else path
    if not file.exists() and (path / "record.json").is_file():
        raise InputError(
            f"The run {path} saved no probe: the seed protocol, curves of label efficiency and fine-tuning do not. Repeat it "
            "with another protocol (fine-tuning: with --keep NAME, for an encoder and its head)."
        )
    try:
        with safe_open(file, framework="numpy") as stream:
            header = json.loads((stream.metadata() or {})["echolung.probe"])
            arrays = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        kind, classes = header.pop("kind"), tuple(header.pop("classes"))
        reference = _split_off(arrays, header)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        why = "it is damaged, or another kind of file" if file.is_file() else "there is no such file"
        raise InputError(
            f"There is no saved probe at {file}: {why}. `echolung probe` saves one with each run; give that run's folder, "
            f"such as {home() / 'runs'}/NAME (echolung leaderboard lists them)."
        ) from error
    if kind not in PROBES:
        raise InputError(
            f"{file} holds a probe of the kind {kind!r}, and this version of echolung has {', '.join(PROBES)}."
        )
    return Probe(kind, classes, arrays, header, reference)


def _split_off(arrays: dict[str, np.ndarray], header: dict[str, Any]) -> Reference | None:
    """Return the reference, taken out of a file's arrays and header; None where there is none."""
    if (told := header.pop(REFERENCE, None)) is None:
        return None
    embeddings, distances = (arrays.pop(f"{REFERENCE}.{name}") for name in ("embeddings", "distances"))
    return Reference(embeddings, distances, told["k"], told["unit"])


def with_provenance(probe: Probe, store: TokenStore, videos: pd.DataFrame) -> Probe:
    """Return the probe with all that predicting new videos needs to know of the tokens that it was fitted on.

    Args:
        probe: as it was fitted.
        store: the tokens.
        videos: those it was fitted on: video_id, patient ("" where not known). One that comes twice counts once.
    """
    videos = videos.drop_duplicates("video_id")
    features = load_features(store, pooled=True)
    place = {video: row for row, video in enumerate(features.video_ids)}
    embeddings = features.held[[place[video] for video in videos["video_id"]], 0, 0]
    about = {
        **probe.about,
        "dataset": store.snapshot.dataset,
        "encoder": store.group.attrs.get("encoder"),
        "store_key": dict(store.key),
        "weights_tensors": store.group.attrs.get("weights_tensors"),
    }
    patients = videos["patient"].fillna("").astype(str).tolist()
    return replace(probe, about=about, reference=make_reference(embeddings, patients))


def softmax(logits: np.ndarray) -> Float32[np.ndarray, "*b c"]:
    """Return probabilities along the last axis."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return (shifted / shifted.sum(-1, keepdims=True)).astype(np.float32)
