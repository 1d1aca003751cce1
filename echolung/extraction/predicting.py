"""New videos, and the key of the store that a probe was fitted on -> the plan of an extraction that makes their tokens alike."""

import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from echolung.cache import Key
from echolung.clips.plan import ClipPlan
from echolung.datasets import Manifest
from echolung.datasets.formats import CONTAINERS, DICOM_SUFFIXES, IMAGE_SUFFIXES, NIFTI_SUFFIXES, format_of
from echolung.errors import InputError
from echolung.extraction.plan import ExtractionPlan, make_plan
from echolung.extraction.rebuild import decoder_of, identity_of
from echolung.text import listed

VIDEO_SUFFIXES = frozenset({*CONTAINERS, *NIFTI_SUFFIXES, *DICOM_SUFFIXES})
"""What a folder is searched for, beside DICOM files without a suffix; a file that is named is tried whatever its suffix."""


def find_videos(paths: Sequence[Path]) -> Manifest:
    """Return the videos that are named, and those in folders that are, however deep; each once, in the order found.

    A video is called by its path below the deepest folder that holds all that was named, so that two of one name stay apart.
    A folder without any video but with images (PNG, JPEG, …) is a video's frames, and so is each such folder below it.

    Raises:
        InputError: a path is not there, or a folder holds no video.
    """
    if absent := [str(path) for path in paths if not path.exists()]:
        raise InputError(f"There is no video or folder at {listed(absent, 5)}.")
    # abspath, not resolve: a link keeps the name that a person gave it.
    named = [Path(os.path.abspath(path.expanduser())) for path in paths]  # noqa: PTH100
    found: dict[Path, None] = {}
    for path in named:
        found |= dict.fromkeys(_in_folder(path) if path.is_dir() else [path])
    root = Path(os.path.commonpath([path if path.is_dir() and path not in found else path.parent for path in named]))
    names = [path.relative_to(root).as_posix() for path in found]
    return Manifest(
        "new videos", root, pd.DataFrame({"video_id": names, "path": names, "patient": "", "source": ""}), {}
    )


def _in_folder(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not _hidden(path, folder))
    if videos := [path for path in files if format_of(path) in ("video", "nifti", "dicom")]:
        return videos
    if frames := sorted({path.parent for path in files if path.suffix.lower() in IMAGE_SUFFIXES}):
        return frames
    raise InputError(
        f"There is no video in the folder {folder} ({', '.join(sorted(VIDEO_SUFFIXES))}, or folders of images). A video with "
        "another suffix can be named itself."
    )


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def plan_like(
    key: Key,
    encoder: str,
    manifest: Manifest,
    path: Path,
    *,
    weights: str | None = None,
    decoder: str | None = None,
    pooled: bool = False,
) -> ExtractionPlan:
    """Return the plan that makes tokens of new videos as those of a store were made.

    Its key may still differ, by the weights found or by versions: that is for the caller to compare.

    Args:
        key: of that store.
        encoder: its encoder's name.
        manifest: the new videos.
        path: where their store will be.
        weights: where the encoder's weights are now, as `identify` takes it; default where its name says.
        decoder: "auto", "av" or "decord"; default what reads as the store's did.
        pooled: keep mean tokens only.

    Raises:
        InputError: the encoder is not there.
    """
    tokens = "none" if pooled or key["token_pool"] == "none" else "all"
    return make_plan(
        manifest,
        identity_of(encoder, key["encoder"], weights),
        # Predictions are made on the fixed windows; the random views were for training. Where the store's windows began as
        # a file said, those of new videos, which it does not know, are evenly spaced.
        ClipPlan.from_json({**key["clips"], "views": 0}),
        decoder=decoder or decoder_of(key["decoder"]),
        precision=key["precision"],
        path=path,
        tokens=tokens,
        token_pool=1 if tokens == "none" else key["token_pool"],
    )
