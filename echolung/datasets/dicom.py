"""The header of a DICOM file: what it shows, when, where in the picture, and of whom. Its pixels are not read here."""

import hashlib
import logging
import os
import secrets
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from echolung.errors import DecodeError, InputError
from echolung.settings import home, make_folder

TISSUE, TWO_D = 1, 1
"""RegionDataType and RegionSpatialFormat of a grey picture of tissue (DICOM PS3.3, C.8.5.5.1)."""

SLACK = 1
"""Pixels that a region may reach past its picture: some scanners name the first pixel behind it."""

PICTURE = (
    "SOPClassUID",
    "Modality",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "FrameTimeVector",
    "FrameTime",
    "RecommendedDisplayFrameRate",
    "CineRate",
    "BurnedInAnnotation",
    "SequenceOfUltrasoundRegions",
)
"""What is read of a header: nothing that names anybody."""

COUNTS = ("NumberOfFrames", "Rows", "Columns")
"""What of it is counted with. pydicom hands over text where such a value is no number."""

Box = tuple[int, int, int, int]
"""left, top, width, height in pixels."""


@contextmanager
def quiet() -> Iterator[None]:
    """Keep pydicom's remarks on odd values off the terminal: what matters comes back as an error."""
    logger = logging.getLogger("pydicom")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def read_header(path: Path, tags: tuple[str, ...] = PICTURE) -> Any:
    """Return the tags named of a DICOM file, as a pydicom Dataset; the pixels are left on disk.

    Raises:
        DecodeError: it is no DICOM file, or its header breaks off, or one of these tags is damaged.
    """
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        with quiet():
            header = dcmread(path, stop_before_pixels=True, specific_tags=list(tags))
            # pydicom converts a value when it is first asked for: here, where what it raises and remarks is caught.
            for tag in tags:
                value = header.get(tag)
                if tag in COUNTS:
                    int(value or 0)
            return header
    except InvalidDicomError:
        raise DecodeError(
            f"{path.name} has the name of a DICOM file, and not its content (no DICM after the first 128 bytes): something else, "
            "or encrypted."
        ) from None
    except OSError as error:
        raise DecodeError(f"{path.name} cannot be read: {error.strerror or error}.") from error
    except Exception as error:  # pydicom's parser raises whatever a damaged value leads to
        raise DecodeError(
            f"The header of {path.name} is damaged or breaks off ({type(error).__name__}). Copy the file anew."
        ) from error


def frame_times(header: Any, frames: int) -> Float[np.ndarray, " t"]:
    """Return when each of `frames` frames is shown, seconds; NaN where the file does not say.

    From, in this order, FrameTimeVector (ms between frames, the first 0), FrameTime (ms), RecommendedDisplayFrameRate and
    CineRate (frames a second); a value that no clock can have (0, the wrong number of steps) is passed over.
    """
    steps = _numbers(header, "FrameTimeVector")
    if len(steps) == frames > 1 and all(step > 0 for step in steps[1:]):
        return np.concatenate([[0.0], np.cumsum(steps[1:])]) / 1000
    for tag, per_second in (("FrameTime", False), ("RecommendedDisplayFrameRate", True), ("CineRate", True)):
        found = _numbers(header, tag)
        if len(found) == 1 and found[0] > 0:
            return np.arange(frames) * (1 / found[0] if per_second else found[0] / 1000)
    return np.full(frames, np.nan)


def _numbers(header: Any, tag: str) -> list[float]:
    try:
        value = header.get(tag)
        values = [] if value in (None, "") else [value] if isinstance(value, str | int | float) else list(value)
        numbers = [float(number) for number in values]
    except (TypeError, ValueError):  # no number, though the tag is one of numbers
        return []
    return numbers if np.isfinite(numbers).all() else []


def tissue_region(header: Any) -> tuple[Box | None, str]:
    """Return the part of the picture that shows tissue, and a phrase why there is none ("" where there is).

    It is the largest region of SequenceOfUltrasoundRegions that is two-dimensional and tissue; where none is tissue, the
    largest that is two-dimensional (some scanners call a picture with colour flow "colour"). Colour flow inside it stays.
    A file with a region that reaches past its picture was resized after the regions were written: none is believed.
    """
    regions = list(header.get("SequenceOfUltrasoundRegions") or [])
    if not regions:
        return None, "it names no ultrasound region"
    height, width = int(header.get("Rows") or 0), int(header.get("Columns") or 0)
    found: list[tuple[bool, int, Box]] = []
    for region in regions:
        edges = [_numbers(region, f"RegionLocation{edge}") for edge in ("MinX0", "MinY0", "MaxX1", "MaxY1")]
        if any(len(edge) != 1 for edge in edges):
            continue
        left, top, right, bottom = (int(edge[0]) for edge in edges)
        if right > width - 1 + SLACK or bottom > height - 1 + SLACK:
            return None, f"its ultrasound region (to {right}, {bottom}) is larger than its picture ({width} × {height})"
        box = (left, top, min(right + 1, width) - left, min(bottom + 1, height) - top)
        if region.get("RegionSpatialFormat") == TWO_D and min(left, top) >= 0 and min(box[2:]) > 0:
            found.append((region.get("RegionDataType") == TISSUE, box[2] * box[3], box))
    if not found:
        return None, "none of its ultrasound regions is a two-dimensional picture"
    # The first of equally large ones.
    return max(found, key=lambda entry: entry[:2])[2], ""


# ---------------------------------------------------------------------------------------------- of whom


def pseudonym(path: Path, key: bytes | None = None) -> str:
    """Return twelve hexadecimal digits that stand for the patient of a DICOM file; "" where it names none.

    They are BLAKE2b of the PatientID under a secret key. A hash without a key hides nothing: hospital numbers are few
    enough to try them all. The PatientName is not read.

    Args:
        path: the file.
        key: the secret; default that of ECHOLUNG_HOME, see `patient_key`.

    Raises:
        DecodeError: the file is not DICOM, or its header breaks off.
    """
    header = read_header(path, ("PatientID", "IssuerOfPatientID"))
    number = str(header.get("PatientID") or "").strip()
    if not number:
        return ""
    # Two hospitals may give one number to two people.
    text = f"{str(header.get('IssuerOfPatientID') or '').strip()}\0{number}"
    return hashlib.blake2b(text.encode(), digest_size=6, key=patient_key() if key is None else key).hexdigest()


def patient_key() -> bytes:
    """Return the secret of ECHOLUNG_HOME/patient.key, made at its first use, for its owner's eyes only (mode 600).

    The same key gives the same pseudonyms, another one others; without it nobody can try numbers.

    Raises:
        InputError: ECHOLUNG_HOME cannot be written to, or the file is empty.
    """
    path = make_folder(home()) / "patient.key"
    if not path.is_file():
        _make_key(path)
    secret = path.read_bytes().strip()
    if not secret:
        raise InputError(
            f"{path} is empty. Put back the secret that was in it; or remove it, and pseudonyms are others."
        )
    return hashlib.blake2b(secret).digest()  # of the length that a key may have


def _make_key(path: Path) -> None:
    """Write a new secret to `path`, unless another process has."""
    secret = secrets.token_hex(32) + "\n"
    # Written aside and linked, so that two processes that start at once end with one key, and nobody reads half of it.
    descriptor, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secret)
        try:
            os.link(partial, path)
        except FileExistsError:
            pass
        except OSError:
            # Some disks (exFAT, some shares) have no hard links. There, too, the first to come makes the key.
            with (
                suppress(FileExistsError),
                os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream,
            ):
                stream.write(secret)
    finally:
        Path(partial).unlink(missing_ok=True)
