"""What an extraction would write, and whether it is there already: decided from names, sizes and digests, without torch."""

import re
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from echolung.cache import Key, Snapshot, TokenStore, key_digest
from echolung.cache.moving import is_there
from echolung.cache.place import Place, as_place
from echolung.clips.decode import decoder_identity
from echolung.clips.plan import ClipPlan
from echolung.datasets import Manifest
from echolung.datasets.formats import is_dicom
from echolung.encoders.identity import EncoderIdentity
from echolung.errors import InputError
from echolung.settings import home

PRECISIONS = ("bfloat16", "float32")


@dataclass(frozen=True)
class ExtractionPlan:
    """One extraction, fully resolved.

    Attributes:
        manifest: the videos.
        identity: the encoder and its weights.
        clips: windows and crop.
        decoder: "auto", "av" or "decord".
        precision: "float32" or "bfloat16", the encoder's arithmetic.
        options: the dataset's own options, part of the key.
        path: where the store is or will be, a folder or a URL.
        token_pool: N for the mean over N × N neighbouring tokens, 1 for all tokens, "none" for pooled rows only.
        dicom: whether a video is a DICOM file.
    """

    manifest: Manifest
    identity: EncoderIdentity
    clips: ClipPlan
    decoder: str
    precision: str
    options: dict[str, Any]
    path: Place
    token_pool: int | str = 1
    dicom: bool = False

    @property
    def pool(self) -> int:
        """How many neighbours in height and width become one token."""
        return self.token_pool if isinstance(self.token_pool, int) else 1

    @property
    def key(self) -> Key:
        """Everything that can change one number in the store."""
        return make_key(
            self.manifest.name,
            self.options,
            self.identity,
            self.clips,
            self.decoder,
            self.precision,
            self.token_pool,
            self.dicom,
        )

    def rows(self) -> pd.DataFrame:
        """Return the store's rows: all clips of a video together, videos in the manifest's order."""
        slots = self.clips.slots()
        videos = self.manifest.videos
        repeated = {name: np.repeat(videos[name].to_numpy(), len(slots)) for name in ("video_id", "patient", "source")}
        segments, views = np.tile(np.array(slots, np.int64), (len(videos), 1)).T
        return pd.DataFrame({**repeated, "segment": segments, "view": views})

    def snapshot(self) -> Snapshot:
        """Return what the store keeps of the dataset, so that probing needs no videos."""
        tasks = {name: task.to_json() for name, task in self.manifest.tasks.items()}
        return Snapshot(self.manifest.name, self.manifest.videos, tasks)


def make_key(
    dataset: str,
    options: dict[str, Any],
    identity: EncoderIdentity,
    clips: ClipPlan,
    decoder: str,
    precision: str,
    token_pool: int | str = 1,
    dicom: bool = False,
) -> Key:
    """Return the key of a store: everything that can change one number in it."""
    return {
        "dataset": {"name": dataset, **{k: v for k, v in options.items() if v is not None}},
        "encoder": {"kind": identity.kind, **identity.config, "weights": identity.weights},
        "precision": precision,
        "clips": clips.to_json(),
        "resampling": f"bilinear, pillow {version('pillow')}",
        "normalisation": "imagenet",
        "decoder": decoder_identity(decoder, dicom),
        **({"flow": f"opencv {version('opencv-python-headless')}"} if clips.mask else {}),
        "layer": "last",
        "token_pool": token_pool,
    }


def make_plan(
    manifest: Manifest,
    identity: EncoderIdentity,
    clips: ClipPlan,
    *,
    decoder: str = "auto",
    precision: str = "auto",
    options: dict[str, Any] | None = None,
    path: Place | str | None = None,
    tokens: str = "all",
    token_pool: int = 1,
) -> ExtractionPlan:
    """Return the plan; "auto" precision takes what an existing store has, else what this machine's device is good at.

    Only where no store exists is torch imported, to ask for the device.

    Args:
        manifest: the videos.
        identity: the encoder.
        clips: windows and crop.
        decoder: "auto", "av" or "decord".
        precision: "auto", "float32" or "bfloat16".
        options: the dataset's own options.
        path: where the store is or will be, a folder or a URL; default a name of its own under ECHOLUNG_HOME/stores.
        tokens: "all", or "none" to keep the pooled rows only.
        token_pool: N keeps the mean over N × N neighbours in the token grid.

    Raises:
        InputError: one of them is not among those named, or `tokens` "none" leaves nothing to pool.
    """
    options = dict(options or {})
    if precision not in (*PRECISIONS, "auto"):
        raise InputError(f"There is no precision {precision!r}; there are auto, float32 and bfloat16.")
    kept = _kept_tokens(tokens, token_pool)
    for candidate in PRECISIONS if precision == "auto" else (precision,):
        plan = _resolve(manifest, identity, clips, decoder, candidate, options, path, kept)
        if precision != "auto" or (is_there(plan.path) and _same_precision(plan)):
            return plan
    from echolung.device import default_precision

    return _resolve(manifest, identity, clips, decoder, default_precision(), options, path, kept)


def _kept_tokens(tokens: str, token_pool: int) -> int | str:
    """Return the key's field `token_pool`."""
    if tokens not in ("all", "none"):
        raise InputError(f"--tokens {tokens} must be all, or none for pooled rows only.")
    if token_pool < 1:
        raise InputError(f"--token-pool {token_pool} must be 1 (all tokens) or more, such as 2.")
    if tokens == "none" and token_pool > 1:
        raise InputError(
            f"--tokens none keeps no token that --token-pool {token_pool} could pool. Leave one of them out."
        )
    return "none" if tokens == "none" else token_pool


def _resolve(
    manifest: Manifest,
    identity: EncoderIdentity,
    clips: ClipPlan,
    decoder: str,
    precision: str,
    options: dict[str, Any],
    path: Place | str | None,
    token_pool: int | str,
) -> ExtractionPlan:
    dicom = any(is_dicom(manifest.root / str(file)) for file in manifest.videos["path"])
    if path is None:
        key = make_key(manifest.name, options, identity, clips, decoder, precision, token_pool, dicom)
        words = [manifest.name, *(str(v) for v in options.values() if isinstance(v, str)), identity.name]
        slug = re.sub(r"[^A-Za-z0-9@._+-]+", "-", "--".join(Path(word).name or word for word in words))
        path = home() / "stores" / f"{slug}--{key_digest(key)[:10]}.zarr"
    return ExtractionPlan(manifest, identity, clips, decoder, precision, options, as_place(path), token_pool, dicom)


def _same_precision(plan: ExtractionPlan) -> bool:
    # With --store both candidates have one path, and the store itself says which it is.
    try:
        return TokenStore.open(plan.path, unfinished=True).key["precision"] == plan.precision
    except InputError:
        return True  # not a store that can be read: for whoever opens it to say
