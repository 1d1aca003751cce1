"""A multi-frame ultrasound DICOM file -> frames as RGB, one by one (docs/datasets/dicom.md)."""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from echolung.clips.dicom_levels import Levels
from echolung.clips.pyav import read_av
from echolung.datasets.dicom import PICTURE, frame_times, quiet, read_header
from echolung.errors import DecodeError

NATIVE = {
    "1.2.840.10008.1.2": "implicit VR, little endian",
    "1.2.840.10008.1.2.1": "explicit VR, little endian",
    "1.2.840.10008.1.2.1.99": "deflated",
    "1.2.840.10008.1.2.2": "explicit VR, big endian",
}
"""Transfer syntaxes of pixels as they are."""

PLUGINS = {
    "1.2.840.10008.1.2.4.50": "pillow",  # JPEG baseline
    "1.2.840.10008.1.2.4.51": "pillow",  # JPEG extended, of 8 bits
    "1.2.840.10008.1.2.4.57": "gdcm",  # lossless JPEG
    "1.2.840.10008.1.2.4.70": "gdcm",
    "1.2.840.10008.1.2.4.80": "gdcm",  # JPEG-LS
    "1.2.840.10008.1.2.4.81": "gdcm",
    "1.2.840.10008.1.2.4.90": "pillow",  # JPEG 2000
    "1.2.840.10008.1.2.4.91": "pillow",
    "1.2.840.10008.1.2.5": "pydicom",  # RLE
}
"""Which library decodes which, whatever else is installed: lossy codecs differ in a grey level between libraries."""

STREAMS = "1.2.840.10008.1.2.4.1"
"""How the transfer syntaxes of MPEG-2, MPEG-4 AVC and HEVC begin (…4.100 to …4.108)."""

LEVELS = ("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction")
PALETTES = tuple(
    f"{part}PaletteColorLookupTable{what}" for what in ("Descriptor", "Data") for part in ("Red", "Green", "Blue")
) + tuple(f"Segmented{part}PaletteColorLookupTableData" for part in ("Red", "Green", "Blue"))
PIXELS = ("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PlanarConfiguration")

Reader = tuple[Float[np.ndarray, " t"], Callable[[Int[np.ndarray, " k"]], UInt8[np.ndarray, "k h w 3"]]]


def read_dicom(path: Path) -> Reader:
    """Return the time of each frame, and what gives frames by ascending index: whole pictures, not cut to a region.

    Raises:
        DecodeError: it holds no picture (a DICOMDIR, a report, …), is encrypted, breaks off, or needs a codec that is not
            installed.
    """
    header = read_header(path, (*PICTURE, *PIXELS, *LEVELS, *PALETTES, "EncryptedAttributesSequence"))
    syntax = header.file_meta.get("TransferSyntaxUID")
    _check_picture(path, header, syntax)
    if str(syntax).startswith(STREAMS):
        stamps, of_stream = read_av(_stream(path), path.name)
        times = frame_times(header, len(stamps))
        return (stamps if np.isnan(times).all() else times), of_stream  # the video inside has a clock of its own
    _check_codec(path, header, syntax)
    frames = int(header.get("NumberOfFrames") or 1)
    levels = Levels.of(header, lambda: _stored(path, syntax, range(frames)))

    def frames_at(indices: Int[np.ndarray, " k"]) -> UInt8[np.ndarray, "k h w 3"]:
        return np.stack([levels.rgb(frame) for frame in _stored(path, syntax, indices.tolist())])

    return frame_times(header, frames), frames_at


def _stored(path: Path, syntax: Any, indices: Any) -> Iterator[np.ndarray]:
    """Yield frames as they are stored, but for YBR, which becomes RGB; memory holds one."""
    from pydicom import dcmread
    from pydicom.pixels.utils import iter_pixels

    # What was deflated as a whole has to be read as a whole.
    source = dcmread(path) if NATIVE.get(str(syntax)) == "deflated" else path
    frames = iter_pixels(source, indices=indices, decoding_plugin=PLUGINS.get(str(syntax), ""))
    at = 0
    while True:
        try:
            with quiet():
                frame = next(frames, None)
        except Exception as error:  # each codec's own
            raise DecodeError(
                f"{path.name} breaks off, or its pixels are damaged: frame {list(indices)[at]} (from 0) cannot be decoded "
                f"({_first_line(error)})."
            ) from error
        if frame is None:
            return
        yield frame
        at += 1


def _stream(path: Path) -> bytes:
    """Return the video stream that the file wraps, its fragments joined."""
    from pydicom import dcmread
    from pydicom.encaps import generate_fragments

    try:
        with quiet():
            data = dcmread(path).PixelData
            return b"".join(list(generate_fragments(data))[1:])  # the first is the table of offsets
    except Exception as error:
        raise DecodeError(f"{path.name} breaks off within its video stream ({_first_line(error)}).") from error


def _check_picture(path: Path, header: Any, syntax: Any) -> None:
    from pydicom.uid import UID

    kind = UID(str(header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID") or ""))
    if kind == "1.2.840.10008.1.3.10":
        raise DecodeError(
            f"{path.name} is a DICOMDIR, the index of a disc: name the files that it lists, or their folder."
        )
    if kind.startswith("1.2.840.10008.5.1.4.1.1.88"):
        raise DecodeError(f"{path.name} is a structured report (measurements or text): it holds no picture.")
    if "EncryptedAttributesSequence" in header and "Rows" not in header:
        raise DecodeError(f"{path.name} is encrypted. Export it without encryption.")
    if "Rows" not in header or "Columns" not in header:
        what = f" (it is {kind.name})" if kind and kind.name != kind else ""
        raise DecodeError(f"{path.name} is a DICOM file without pixel data{what}: it holds no picture.")
    if not syntax:
        raise DecodeError(f"{path.name} does not say how its pixels are coded (no TransferSyntaxUID). Export it again.")


def _check_codec(path: Path, header: Any, syntax: Any) -> None:
    known = NATIVE.keys() | PLUGINS.keys()
    if str(syntax) not in known:
        name = "" if syntax.name == syntax else f"{syntax.name}, "
        raise DecodeError(
            f"{path.name} is coded in a way that echolung does not read ({name}{syntax}). Convert it, for example "
            "with `gdcmconv --raw IN OUT`."
        )
    bits = int(header.get("BitsStored") or 8)
    if str(syntax) == "1.2.840.10008.1.2.4.51" and bits != 8:
        raise DecodeError(
            f"{path.name} is JPEG of {bits} bits a pixel, which Pillow does not read. Convert it, for example "
            "with `gdcmconv --raw IN OUT`."
        )
    if PLUGINS.get(str(syntax)) == "gdcm" and find_spec("gdcm") is None:
        raise DecodeError(
            f"{path.name} is {syntax.name}, which needs GDCM, the package python-gdcm: install it, and run this again."
        )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200]
