"""A video file -> its frames. Always every frame in order, then index: seeking returns shifted frames without a word.

On the MPEG program streams of POCUS, all of one class, every library's seek is wrong; docs/protocol.md has the figures.
"""

import re
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

from echolung.clips.crop import cut, region_of
from echolung.clips.dicom import read_dicom
from echolung.clips.nifti import read_nifti
from echolung.clips.pyav import read_av
from echolung.clips.sample import BLACK, GREY
from echolung.contents import EMPTY, contents
from echolung.datasets.formats import IMAGE_SUFFIXES, NIFTI_SUFFIXES, is_dicom
from echolung.errors import DecodeError, EcholungError, InputError

Choose = Callable[[Float[np.ndarray, " t"]], Int[np.ndarray, " k"]]
"""Frame times in seconds -> indices of the frames wanted."""

DECORD_SUFFIXES = (".mp4", ".avi")
"""Containers that decord reads right when read from the start; it cannot read GIF and pads edit-list MOV with copies."""

LEVELS = {BLACK: 0, GREY: 33}
"""Grey level of the frames that no video has. 33: EchoNet-Dynamic's mean, 32.5 to 32.9 by channel (CoReEcho, dataset.py)."""

Span = tuple[int, int]
"""First and last frame of a file that are the video, from 0, inclusive; backwards where the last comes first."""

BLOCK = 32
"""Frames that decord hands over at once: bounds the memory of a long video."""


def decode(
    path: Path | str, decoder: str = "auto", span: Span | None = None, box: str = ""
) -> UInt8[np.ndarray, "t h w 3"]:
    """Return every frame of a video, in order, as RGB (a grey video has three equal channels).

    Args:
        path: a video file, a multi-frame DICOM file, a NIfTI sequence (see `read_nifti`), or a folder of frame images in
            the natural order of names.
        decoder: "av"; "auto": decord for MP4 and AVI where it is installed; "decord": the same, but it must be.
        span: which frames of the file are the video; None: all.
        box: which part of the picture is: "X,Y,W,H" in pixels; "": of a DICOM file its tissue region (see
            `tissue_region`), of others all; "none": all.

    Raises:
        DecodeError: the file is missing, empty, truncated or no video, or has no such frames, or no such box.
        InputError: the decoder cannot be imported.
    """
    return decode_chosen(path, lambda times: np.arange(len(times)), decoder, span, box)[0]


def decode_chosen(
    path: Path | str, choose: Choose, decoder: str = "auto", span: Span | None = None, box: str = ""
) -> tuple[UInt8[np.ndarray, "k h w 3"], Int[np.ndarray, " k"]]:
    """Return the chosen frames of a video, and their indices in the file; memory holds only those.

    Args:
        path: as in `decode`.
        choose: gets the time of every frame of the video in seconds (NaN where it has no clock), returns the indices
            wanted among these; an index may come twice, and `BLACK` and `GREY` give a frame of that level.
        decoder: as in `decode`.
        span: as in `decode`. Times then begin with 0, and ascend where it is read backwards, too.
        box: as in `decode`.

    Raises:
        DecodeError: as in `decode`.
    """
    path = Path(path)
    if not path.exists():
        raise DecodeError(f"There is no file {path}.")
    if path.is_file() and path.stat().st_size == 0:
        raise DecodeError(f"{path.name} cannot be decoded. {EMPTY}")
    reader = decoder_for(path, decoder)
    try:
        return _read(path, choose, reader, span, box)
    except DecodeError:
        # decord cannot read frames narrower than 64 pixels, nor some codecs. The key names both libraries' versions, so
        # which of them read a file is settled by the key and the file.
        if (reader, decoder) != ("decord", "auto"):
            raise
    return _read(path, choose, "av", span, box)


def _read(
    path: Path, choose: Choose, reader: str, span: Span | None, box: str
) -> tuple[UInt8[np.ndarray, "k h w 3"], Int[np.ndarray, " k"]]:
    try:
        times, frames_at = READERS[reader](path)
        if len(times) == 0:
            raise DecodeError(f"{path.name} holds no video frame.")
        indices = _choose(times, choose, span, path.name)
        # Where all are padding a frame is read all the same: it says how large they are.
        wanted = np.unique(indices[indices >= 0]) if (indices >= 0).any() else np.zeros(1, int)
        frames = cut(frames_at(wanted), region_of(path, box), path.name)
    except EcholungError:
        raise
    except ImportError as error:
        # Not the file's fault, so nothing for another decoder to step in for: its frames would differ from what the key says.
        raise InputError(f"{reader} is installed but cannot be imported ({error}). Install it anew.") from error
    except Exception as error:  # each library has its own kinds
        raise DecodeError(f"{path.name} cannot be decoded. {_reason(path, error)}") from error
    if len(frames) != len(wanted):
        raise DecodeError(f"{path.name} breaks off: {len(frames)} of the {len(wanted)} frames wanted could be decoded.")
    chosen = frames[np.searchsorted(wanted, np.maximum(indices, wanted[0]))]
    return filled(chosen, indices), indices


def _choose(times: Float[np.ndarray, " t"], choose: Choose, span: Span | None, name: str) -> Int[np.ndarray, " k"]:
    """Return the indices in the file of the frames wanted, where `span` says which of its frames are the video."""
    if span is None:
        return np.asarray(choose(times))
    first, last = span
    if max(span) >= len(times):
        raise DecodeError(
            f"Frames {first} to {last} of {name} were asked for (first_frame, last_frame, from 0), and it has {len(times)}."
        )
    places = np.arange(first, last + 1) if first <= last else np.arange(first, last - 1, -1)
    local = np.asarray(choose(np.abs(times[places] - times[first])))
    return np.where(local >= 0, places[np.maximum(local, 0)], local)


def filled(frames: UInt8[np.ndarray, "k ..."], indices: Int[np.ndarray, " k"]) -> UInt8[np.ndarray, "k ..."]:
    """Return `frames` with those that no video has (`BLACK`, `GREY`) set to their level, in place."""
    for index, level in LEVELS.items():
        frames[indices == index] = level
    return frames


def frame_rate(times: Float[np.ndarray, " t"]) -> float:
    """Return frames a second from the time of every frame; NaN of a single frame, and of images without a clock."""
    span = float(times[-1] - times[0]) if len(times) > 1 else 0.0
    return (len(times) - 1) / span if span > 0 else float("nan")


def decoder_for(path: Path, decoder: str = "auto") -> str:
    """Return which reader takes `path`: "images" (folders), "nifti", "dicom", "decord" or "av".

    decord takes MP4 and AVI, where it is installed and `decoder` is not "av"; PyAV all that the others do not.

    Raises:
        InputError: there is no such decoder, or "decord" was asked for and is not installed.
    """
    if decoder not in ("auto", "av", "decord"):
        raise InputError(f"There is no decoder {decoder!r}; there are auto, av and decord.")
    if path.is_dir():
        return "images"
    if path.name.lower().endswith(NIFTI_SUFFIXES):
        return "nifti"
    if is_dicom(path):
        return "dicom"
    if decoder == "decord" and not _version("decord"):
        raise InputError(
            "decord is not installed (it has wheels for Linux and Windows on x86-64 only); use av or auto."
        )
    return "decord" if decoder != "av" and path.suffix.lower() in DECORD_SUFFIXES and _version("decord") else "av"


def decoder_identity(decoder: str = "auto", dicom: bool = False) -> dict[str, str]:
    """Return which library and version reads what, for a store's key: versions differ in a grey level here and there.

    pydicom is among them where there are DICOM files (`dicom`), so that other stores keep their keys; of the libraries that
    it calls, Pillow and PyAV are there, and GDCM decodes without loss. nibabel is not among them: NIfTI holds plain numbers,
    which its versions cannot read differently, and an entry would change the key of every store there is.
    """
    by_suffix = {suffix: decoder_for(Path("x" + suffix), decoder) for suffix in (*DECORD_SUFFIXES, "other")}
    identity = {suffix: f"{name} {_version(name)}" for suffix, name in by_suffix.items()}
    identity["images"] = f"pillow {_version('pillow')}"
    return {**identity, "dicom": f"pydicom {_version('pydicom')}"} if dicom else identity


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _reason(path: Path, error: Exception) -> str:
    """Return why a file cannot be read, for a person: by what it is where its first bytes tell, else in the library's words."""
    if isinstance(error, PermissionError):
        return "This user may not read it: change its permissions."
    if (what := contents(path)) or ((said := _one_line(error)) and "Invalid data found" not in said):
        return what or said
    return "Damaged, cut off, or no video at all: copy or fetch it again, and see whether another program plays it."


def _one_line(error: Exception) -> str:
    # decord's messages end in a C++ stack trace, PyAV's begin with FFmpeg's number of the error
    text = re.sub(r"^\[Errno -?\d+\]", "", str(error).split("Stack trace")[0])
    return re.sub(r"\s+", " ", text).strip()[:300] or type(error).__name__


# Each reader returns the time of every frame and a function that fetches frames by ascending index.
Reader = tuple[Float[np.ndarray, " t"], Callable[[Int[np.ndarray, " k"]], UInt8[np.ndarray, "k h w 3"]]]


def _decord(path: Path) -> Reader:
    import decord

    # One thread, one reader, dropped after use: an idle reader keeps decoding into memory, a shared one aborts.
    reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
    count = len(reader)
    times = np.asarray(reader.get_frame_timestamp(range(count)), np.float64).reshape(count, -1)[:, 0]

    def frames_at(indices: Int[np.ndarray, " k"]) -> UInt8[np.ndarray, "k h w 3"]:
        kept = []
        for start in range(0, int(indices[-1]) + 1, BLOCK):  # contiguous from 0, so that decord never seeks
            block = reader.get_batch(range(start, min(start + BLOCK, count))).asnumpy()
            kept.append(block[indices[(indices >= start) & (indices < start + BLOCK)] - start])
        return np.concatenate(kept)

    return times, frames_at


def _av(path: Path) -> Reader:
    return read_av(str(path), path.name)


def _images(folder: Path) -> Reader:
    files = sorted((f for f in folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES), key=lambda f: _natural(f.name))
    if not files:
        raise DecodeError(f"The folder {folder.name} holds no image ({', '.join(IMAGE_SUFFIXES)}).")

    def frames_at(indices: Int[np.ndarray, " k"]) -> UInt8[np.ndarray, "k h w 3"]:
        frames = [_rgb(files[i]) for i in indices]
        if odd := {f.shape for f in frames} - {frames[0].shape}:
            raise DecodeError(f"The images in {folder.name} differ in size: {frames[0].shape[:2]} and {odd.pop()[:2]}.")
        return np.stack(frames)

    return np.full(len(files), np.nan), frames_at


def _rgb(file: Path) -> UInt8[np.ndarray, "h w 3"]:
    from PIL import Image

    with Image.open(file) as image:
        if image.mode[0] in "IF":  # Pillow would cut such values off at 255
            raise DecodeError(f"{file.parent.name}/{file.name} has more than 8 bits a pixel; save it with 8.")
        return np.asarray(image.convert("RGB"))


READERS: dict[str, Callable[[Path], Reader]] = {
    "decord": _decord,
    "av": _av,
    "images": _images,
    "nifti": read_nifti,
    "dicom": read_dicom,
}


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a sort key that puts frame_2 before frame_10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
