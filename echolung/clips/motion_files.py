"""One video -> the same with everything outside the moving region black: frames, mask and facts on disk."""

import json
import shutil
from fractions import Fraction
from pathlib import Path
from urllib.parse import quote

import numpy as np
from jaxtyping import Float, Int, UInt8

from echolung.clips.decode import Span, decode_chosen, frame_rate
from echolung.clips.motion_mask import MotionMask, find_region
from echolung.clips.motion_text import find_text
from echolung.errors import DecodeError

FORMATS = ("png", "ffv1")
"""Lossless both: a folder of images (no clock), or a Matroska video (with one)."""


def mask_video(
    path: Path,
    name: str,
    span: Span | None,
    out: Path,
    settings: MotionMask,
    form: str,
    decoder: str,
    picture: bool,
) -> str:
    """Write one video, masked, its mask, and last the facts about it; return "", or why it cannot be written.

    Raises:
        DecodeError: the video cannot be read, or has no clock, which ffv1 needs.
    """
    from PIL import Image

    frames, times = read_video(path, decoder, span)
    if form == "ffv1" and np.isnan(times).any():
        raise DecodeError(f"{path.name} has no clock, which a video needs; write it with --format png.")
    grey = to_grey(frames)
    region = find_region(grey, frame_rate(times), settings)
    texts = find_text(grey)
    inside = sum(text.touches(region.keep) for text in texts)
    if picture:
        from echolung.clips.motion_picture import draw_strip

        draw_strip(frames[len(frames) // 2], region, texts, out / "pictures" / f"{file_name(name)}.png")
    frames[:, ~region.keep] = 0
    try:
        write_frames(frames, times, video_file(out, name, form))
        Image.fromarray(region.keep).save(out / "masks" / f"{file_name(name)}.png")
        facts = {
            "video_id": name,
            "kept": round(region.share, 4),
            "threshold": None if np.isnan(region.threshold) else round(region.threshold, 4),
            "whole": region.reason,
            "text_outside": len(texts) - inside,
            "text_inside": inside,
            "frames": len(frames),
            "source": stamp(path),
        }
        replace(facts_file(out, name), json.dumps(facts))
    except OSError as error:
        return str(error.strerror or error)  # raised, it would pass for the video's own failure
    return ""


def black_outside(
    frames: UInt8[np.ndarray, "k h w 3"],
    indices: Int[np.ndarray, " k"],
    settings: MotionMask,
    path: Path,
    decoder: str,
    span: Span | None,
    box: str = "",
) -> str:
    """Make everything outside a video's moving region black, in place; return a phrase where there is none, else "".

    Args:
        frames: some frames of the video.
        indices: which; those below 0 are padding, which stays as it is.
        settings: how the region is found, in all frames of the video.
        path: the video's file, read once more.
        decoder: as in `decode`.
        span: as in `decode`.
        box: as in `decode`.
    """
    whole, times = read_video(path, decoder, span, box)
    region = find_region(to_grey(whole), frame_rate(times), settings)
    outside = ~region.keep
    for place in np.flatnonzero(indices >= 0):
        frames[place][outside] = 0
    return f"not masked: {region.reason}" if region.reason else ""


def read_video(
    path: Path, decoder: str, span: Span | None, box: str = ""
) -> tuple[UInt8[np.ndarray, "t h w 3"], Float[np.ndarray, " t"]]:
    """Return every frame of a video and its time; DecodeError where it cannot be read."""
    clock: list[Float[np.ndarray, " t"]] = []

    def choose(times: Float[np.ndarray, " t"]) -> Int[np.ndarray, " t"]:
        clock.append(times)
        return np.arange(len(times))

    frames, _ = decode_chosen(path, choose, decoder, span, box)
    return frames, clock[-1]


def to_grey(frames: UInt8[np.ndarray, "t h w 3"]) -> UInt8[np.ndarray, "t h w"]:
    """Return the luma of each frame."""
    import cv2

    cv2.setNumThreads(1)  # parallel over files
    return np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames])


def write_frames(frames: UInt8[np.ndarray, "t h w 3"], times: Float[np.ndarray, " t"], target: Path) -> None:
    """Write a video without loss: Matroska where `target` has that ending, else a folder of PNGs. Grey ones as grey."""
    grey = bool((frames[..., 0] == frames[..., 1]).all() and (frames[..., 0] == frames[..., 2]).all())
    kept = np.ascontiguousarray(frames[..., 0]) if grey else frames
    partial = target.with_name(f".partial-{target.name}")
    _remove(partial)
    if target.suffix == ".mkv":
        _write_ffv1(kept, times, partial)
    else:
        _write_images(kept, partial)
    _remove(target)
    partial.rename(target)


def _write_images(frames: np.ndarray, folder: Path) -> None:
    import cv2

    folder.mkdir()
    for index, frame in enumerate(frames):
        file = folder / f"frame_{index:05d}.png"
        picture = frame if frame.ndim == 2 else cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        done, content = cv2.imencode(".png", picture)
        if not done:
            raise OSError(f"{file.name} could not be encoded")
        file.write_bytes(content.tobytes())  # cv2.imwrite says of a full disk only "no"


def _write_ffv1(frames: np.ndarray, times: np.ndarray, file: Path) -> None:
    import av

    rate = Fraction(np.nan_to_num(frame_rate(times), nan=25.0)).limit_denominator(1000)
    with av.open(str(file), "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "gray" if frames.ndim == 3 else "bgr0"
        stream.codec_context.time_base = Fraction(1, 1000)
        for picture, at in zip(frames, times - times[0], strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="gray" if frames.ndim == 3 else "rgb24")
            frame.pts, frame.time_base = round(1000 * float(at)), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


# ---------------------------------------------------------------------------------------------- what lies where


def file_name(video_id: str) -> str:
    """Return a name that no other video_id gives, and that is one file's name on every system."""
    return quote(video_id, safe=" +,=@()[]~").replace(".", "%2E")


def video_file(out: Path, name: str, form: str) -> Path:
    """Return where a masked video lies."""
    return out / "videos" / (file_name(name) + (".mkv" if form == "ffv1" else ""))


def facts_file(out: Path, name: str) -> Path:
    """Return where the facts about a masked video lie; they are written last."""
    return out / "masks" / f"{file_name(name)}.json"


def stamp(path: Path) -> list[int]:
    """Return what changes where a source does: bytes, and time of the last change in ns."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    stats = [file.stat() for file in files]
    return [sum(s.st_size for s in stats), max((s.st_mtime_ns for s in stats), default=0)]


def replace(path: Path, content: str) -> None:
    """Write a text file in one step, so that a run that ends half-way leaves none half-written."""
    partial = path.with_name(f".partial-{path.name}")
    partial.write_text(content, "utf-8")
    partial.replace(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
