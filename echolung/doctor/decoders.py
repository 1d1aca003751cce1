"""Whether videos can be read: small ones of known content are made, and decoded as any would be, in a process of their own."""

import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from echolung.clips.decode import decode, decoder_for
from echolung.clips.workers import run_in_workers
from echolung.doctor.finding import Finding
from echolung.errors import DecodeError, InputError

Frames = UInt8[np.ndarray, "t h w 3"]

FRAMES, HEIGHT, WIDTH, FPS = 12, 96, 128, 25

TOLERANCE = 14.0
"""Grey levels by which the mean of a half of a frame may differ: what lossy codecs do, and less than two frames are apart."""

LIBRARIES = {"decord": "decord", "av": "av", "dicom": "pydicom", "images": "pillow", "nifti": "nibabel"}
"""Reader -> package."""

CALLED = {"av": "PyAV"}


def check_decoders() -> list[Finding]:
    """Decode a generated video of each format; a wrong frame count or content is a failure, as is an error."""
    findings = []
    with tempfile.TemporaryDirectory(prefix="echolung-doctor-") as folder:
        files = {}
        for name, (file, write) in FORMATS.items():
            try:
                write(Path(folder) / file)
            except Exception as error:  # a library that is missing or broken
                findings.append(Finding(name, "fail", f"no test video could be written: {_said(error)}", _fix("av")))
            else:
                files[name] = Path(folder) / file
        for name, result in run_in_workers(_look, files, lambda name: (files[name],), workers=1, time_limit=30.0):
            findings.append(_judge(name, files[name], result))
    return findings


def _judge(name: str, file: Path, result: Any) -> Finding:
    try:
        reader = decoder_for(file)
    except InputError as error:
        return Finding(name, "fail", str(error), _fix("av"))
    library = f"{CALLED.get(reader, LIBRARIES.get(reader, reader))} {_version(reader)}"
    if isinstance(result, DecodeError):
        return Finding(name, "fail", f"{library}: {result}", _fix(reader))
    if result:
        return Finding(name, "fail", f"{library} reads it wrongly: {result}", _fix(reader))
    return Finding(name, "pass", f"{library}: {FRAMES} of {FRAMES} frames, colours right")


def _look(file: Path) -> str:
    """Return what is wrong with the decoded frames; "" where nothing is."""
    # By name, where it is decord's: "auto" would let another step in, and a broken one would never be found.
    reader = "decord" if decoder_for(file) == "decord" else "auto"
    frames, wanted = decode(file, reader), picture()
    if len(frames) != len(wanted):
        return f"{len(frames)} frames of {len(wanted)}"
    halves, expected = (_halves(video) for video in (frames, wanted))
    off = np.abs(halves - expected).max(axis=(1, 2))
    if off.max() > TOLERANCE:
        return f"frame {int(off.argmax())} is {off.max():.0f} grey levels off"
    return ""


def picture() -> Frames:
    """Return the frames: a left half that is brighter from frame to frame, a right half of one red."""
    frames = np.empty((FRAMES, HEIGHT, WIDTH, 3), np.uint8)
    frames[:, :, : WIDTH // 2] = np.linspace(30, 225, FRAMES).round().astype(np.uint8)[:, None, None, None]
    frames[:, :, WIDTH // 2 :] = (180, 60, 60)
    return frames


def _halves(frames: Frames) -> np.ndarray:
    """Return the mean colour of the middle of each half: [frames, 2, 3]."""
    h, w = frames.shape[1] // 8, frames.shape[2] // 2
    parts = [frames[:, h:-h, start + w // 8 : start + w - w // 8] for start in (0, w)]
    return np.stack([part.mean(axis=(1, 2)) for part in parts], axis=1)


def _video(codec: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        import av

        with av.open(str(path), "w") as container:
            stream: Any = container.add_stream(codec, rate=FPS)
            stream.height, stream.width, stream.pix_fmt, stream.bit_rate = HEIGHT, WIDTH, "yuv420p", 4_000_000
            for frame in picture():
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())

    return write


def _gif(path: Path) -> None:
    from PIL import Image

    first, *rest = (Image.fromarray(frame) for frame in picture())
    first.save(path, save_all=True, append_images=rest, duration=1000 // FPS)


def _dicom(path: Path) -> None:
    """Write an uncompressed multi-frame ultrasound object (PS3.3 A.7)."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, UltrasoundMultiFrameImageStorage, generate_uid

    data, frames = Dataset(), picture()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    data.Modality, data.PatientID = "US", "doctor"
    data.Rows, data.Columns, data.NumberOfFrames, data.FrameTime = HEIGHT, WIDTH, FRAMES, 1000 / FPS
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PlanarConfiguration = 3, "RGB", 0
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    data.PixelData = frames.tobytes()
    data.save_as(path, enforce_file_format=True)


FORMATS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "MP4": ("a.mp4", _video("libx264")),
    "AVI": ("a.avi", _video("mpeg4")),
    "GIF": ("a.gif", _gif),
    "MPEG": ("a.mpeg", _video("mpeg2video")),
    "MOV": ("a.mov", _video("libx264")),
    "DICOM": ("a.dcm", _dicom),
}
"""Format -> name of the file, and what writes it."""


def _version(reader: str) -> str:
    try:
        return version(LIBRARIES.get(reader, reader))
    except PackageNotFoundError:
        return ""


def _fix(reader: str) -> str:
    package = LIBRARIES.get(reader, reader)
    other = " Until then --decoder av reads such files." if reader == "decord" else ""
    return f"Install it anew: uv sync --reinstall-package {package}, or pip install --force-reinstall {package}.{other}"


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
