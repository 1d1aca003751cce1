"""A pack: the grey frames of many videos, decoded once, in one HDF5 file that any HDF5 reader opens.

    videos/<row>  [t, h, w]   uint8    one contiguous dataset a video that could be read
    table/<name>  [rows]               dataset, video_id, file; frames, height, width; offset and first: where in the file
                                       its frames and among `times` its times begin; digest of the source; reason ("" if read);
                                       first_frame and last_frame: which frames of the source it is (-1: all)
    times         [frames]    float64  seconds at which each frame is shown, video after video; NaN where there is no clock

Because frames lie contiguously, a clip is read at its place in the file, without the HDF5 library and its lock.
"""

import json
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from io import FileIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from jaxtyping import Float, Int, UInt8

from echolung.clips.decode import Choose, Span, decoder_identity, filled
from echolung.clips.grey import Draw, read_grey, reduce_short_side, square
from echolung.clips.shared import Place
from echolung.clips.workers import TIME_LIMIT, run_in_workers, source_digest
from echolung.datasets.formats import is_dicom
from echolung.datasets.manifest import SPAN, spans
from echolung.errors import DecodeError, InputError, RunError
from echolung.text import listed

FORMAT = "echolung pack 1"

TEXTS, NUMBERS = ("dataset", "video_id", "file", "digest", "reason"), ("frames", "height", "width", "offset", "first")


@dataclass(frozen=True)
class Decoded:
    """All of one video: grey frames, their times in seconds, SHA-256 of the source's bytes."""

    frames: UInt8[np.ndarray, "t h w"]
    times: Float[np.ndarray, " t"]
    digest: str


def decode_whole(path: Path, size: int | None, decoder: str, span: Span | None = None, box: str = "") -> Decoded:
    """Return the video at `path`, its short side reduced to `size`; DecodeError where it cannot be read.

    `span` says which frames of the file are the video, `box` which part of its picture, as in `decode`.
    """
    clock: list[Float[np.ndarray, " t"]] = []

    def choose(times: Float[np.ndarray, " t"]) -> Int[np.ndarray, " t"]:
        clock.append(times)
        return np.arange(len(times))

    frames = read_grey(path, choose, decoder, span, box)
    return Decoded(frames if size is None else reduce_short_side(frames, size), clock[-1], source_digest(path))


# ---- writing ----------------------------------------------------------------------------------------------------------


def pack(
    videos: pd.DataFrame,
    out: Path,
    *,
    size: int | None = None,
    box: str = "",
    decoder: str = "auto",
    workers: int | None = None,
    time_limit: int | float = TIME_LIMIT,
    advance: Callable[[int], None] = lambda size: None,
) -> "Pack":
    """Decode videos in worker processes into a pack at `out`, and return it.

    The file gets its name when it is whole; one that was stopped half-way leaves nothing by that name.

    Args:
        videos: dataset, video_id, path, file (as a pool's table has them); first_frame and last_frame, where they are there,
            say which frames of a file are the video: no others are packed.
        out: the file; one that is there is replaced.
        size: pixels to which the short side is reduced. None: the stored resolution.
        box: which part of every picture, as in `decode`.
        decoder: as in `decode`.
        workers: decoding processes; default one a core.
        time_limit: seconds a video may take.
        advance: is called after each video with the bytes of its frames (0 where it cannot be read).

    Raises:
        RunError: not one video can be read; nothing is left at `out`.
    """
    partial = out.with_name(out.name + ".partial")
    try:
        with h5py.File(partial, "w", libver="latest") as file:
            table = _write_videos(file, videos, size, box, decoder, workers, time_limit, advance)
            for name in (*TEXTS, *NUMBERS):
                text = name in TEXTS
                data = table[name].to_numpy(object if text else np.int64)
                file.create_dataset(f"table/{name}", data=data, dtype=h5py.string_dtype() if text else np.int64)
            of_file = [span or (-1, -1) for span in spans(videos)]
            for name, values in zip(SPAN, np.array(of_file, np.int64).T, strict=True):
                file.create_dataset(f"table/{name}", data=values)
            identity = decoder_identity(decoder, any(is_dicom(Path(path)) for path in videos["path"]))
            file.attrs.update({"format": FORMAT, "size": size or 0, "crop": box, "decoder": json.dumps(identity)})
        partial.replace(out)
    except OSError as error:
        raise RunError(f"Cannot write {out}: {_short(error)}. Nothing of it is kept.") from error
    finally:
        partial.unlink(missing_ok=True)
    return Pack.open(out)


def _write_videos(
    file: h5py.File,
    videos: pd.DataFrame,
    size: int | None,
    box: str,
    decoder: str,
    workers: int | None,
    time_limit: int | float,
    advance: Callable[[int], None],
) -> pd.DataFrame:
    paths, of_file = [Path(path) for path in videos["path"]], spans(videos)
    facts: list[dict[str, Any]] = []
    times: list[Float[np.ndarray, " t"]] = []
    first = 0
    results = run_in_workers(
        decode_whole,
        range(len(paths)),
        lambda row: (paths[row], size, decoder, of_file[row], box),
        workers,
        time_limit,
        workers,
    )
    for row, result in results:
        if isinstance(result, DecodeError):
            facts.append({**dict.fromkeys(NUMBERS, 0), "digest": "", "reason": str(result)})
            advance(0)
            continue
        stored = file.create_dataset(f"videos/{row}", data=result.frames)
        shape = dict(zip(("frames", "height", "width"), result.frames.shape, strict=True))
        place = {"offset": stored.id.get_offset(), "first": first}
        facts.append({**shape, **place, "digest": result.digest, "reason": ""})
        times.append(result.times)
        first += len(result.times)
        advance(result.frames.nbytes)
    if not times:
        raise RunError(f"Not one of the {len(paths)} videos can be read, so there is no pack. {facts[0]['reason']}")
    file.create_dataset("times", data=np.concatenate(times))
    return pd.concat([videos[["dataset", "video_id", "file"]].reset_index(drop=True), pd.DataFrame(facts)], axis=1)


# ---- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Pack:
    """An open pack. Each process opens its own: nothing is shared between readers but the file.

    Attributes:
        path: the file.
        videos: its table, one row a video, those that could not be read included (with a `reason`).
        size: pixels to which short sides were reduced; 0: stored resolution.
        box: which part of every picture it holds, "X,Y,W,H"; "": of DICOM files their tissue region, of others all.
    """

    path: Path
    videos: pd.DataFrame
    size: int
    box: str
    _file: FileIO = field(repr=False)
    _times: int  # where in the file the times begin

    def __post_init__(self) -> None:
        weakref.finalize(self, self._file.close)

    @classmethod
    def open(cls, path: Path | str) -> "Pack":
        """Open a pack.

        Raises:
            InputError: there is none, it is no pack, or it was cut short.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(f"There is no pack {path}. Make it: echolung data pack {path} --dataset NAME.")
        try:
            with h5py.File(path, "r") as file:
                found = file.attrs.get("format")
                if found != FORMAT:
                    what = f"holds {found!r}" if found else "is an HDF5 file, but none that `echolung data pack` wrote"
                    raise InputError(f"{path} {what}; this version of echolung reads {FORMAT!r}.")
                videos = pd.DataFrame({n: file[f"table/{n}"].asstr()[:] for n in TEXTS})
                # Packs made before videos could be a part of their file hold no such columns, and whole files.
                parts = {n: file[f"table/{n}"][:] if f"table/{n}" in file else -1 for n in SPAN}
                videos = videos.assign(**{n: file[f"table/{n}"][:] for n in NUMBERS}, **parts)
                times, size, box = (
                    file["times"].id.get_offset(),
                    int(file.attrs["size"]),
                    str(file.attrs.get("crop", "")),
                )
                moved = [row for row in _ends(videos) if file[f"videos/{row}"].id.get_offset() != videos["offset"][row]]
        except (OSError, KeyError, ValueError, AttributeError, RuntimeError) as error:  # how h5py finds damage
            raise InputError(
                f"{path} is no HDF5 file, or it was cut short ({_short(error)}). Copy it or make it again."
            ) from error
        if moved or times is None:
            raise InputError(f"{path} was rewritten by another program, and its frames moved. Pack the videos again.")
        return cls(path, videos, size, box, FileIO(path), times)

    def times(self, row: int) -> Float[np.ndarray, " t"]:
        """Return the time of each frame of a video, seconds; NaN where it has no clock."""
        times = np.empty(self._facts["frames"][row], np.float64)
        self._fill(times, self._times + 8 * self._facts["first"][row])
        return times

    def read(self, row: int, choose: Choose) -> tuple[UInt8[np.ndarray, "k h w"], Int[np.ndarray, " k"]]:
        """Return the chosen frames of a video, and their indices, as `decode_chosen` does from the video itself.

        Raises:
            DecodeError: the video could not be read when it was packed.
            RunError: the file ends too early.
        """
        if reason := self._facts["reason"][row]:
            raise DecodeError(reason)
        height, width, offset = (self._facts[name][row] for name in ("height", "width", "offset"))
        indices = choose(self.times(row))
        frames = np.empty((len(indices), height, width), np.uint8)
        for frame, index in zip(frames, indices.tolist(), strict=True):
            if index >= 0:
                self._fill(frame, offset + index * height * width)
        return filled(frames, indices), indices

    @cached_property
    def _facts(self) -> dict[str, list[Any]]:
        return {name: self.videos[name].tolist() for name in ("reason", *NUMBERS)}

    def rows(self, names: Sequence[str], of_file: Sequence[Span | None] | None = None) -> Int[np.ndarray, " n"]:
        """Return the rows of videos named "dataset/video_id".

        Args:
            names: of the videos.
            of_file: which frames of its file each video is; None: not looked at.

        Raises:
            InputError: the pack does not hold one of them, or was made when it was other frames of its file.
        """
        row_of = {name: row for row, name in enumerate(self.videos["dataset"] + "/" + self.videos["video_id"])}
        if absent := [name for name in names if name not in row_of]:
            raise InputError(
                f"{self.path} does not hold {len(absent):,} of the {len(names):,} videos asked for: {listed(absent, 5)}. "
                "Pack the same datasets (with --all-splits, if validation and test videos are wanted)."
            )
        rows = np.array([row_of[name] for name in names], np.int64)
        held = list(zip(*(self.videos[name].to_numpy()[rows].tolist() for name in SPAN), strict=True))
        wanted = held if of_file is None else [span or (-1, -1) for span in of_file]
        if other := [name for name, a, b in zip(names, held, wanted, strict=True) if a != b]:
            raise InputError(
                f"{self.path} holds other frames of {len(other):,} videos than the dataset names now (first_frame, last_frame): "
                f"{listed(other, 5)}. Pack them again."
            )
        return rows

    def _fill(self, array: np.ndarray, offset: int) -> None:
        self._file.seek(offset)
        if self._file.readinto(array.data.cast("B")) != array.nbytes:
            raise RunError(f"{self.path} ends before its frames do: it was cut short. Copy it or make it again.")


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _ends(videos: pd.DataFrame) -> list[int]:
    """Return the first and the last row of a table that could be read."""
    return videos.index[videos["reason"] == ""][[0, -1]].tolist()


def read_squares(path: Path, rows: Sequence[int], draws: Sequence[Draw], place: Place | None) -> list[Any]:
    """Read a clip of each video in some rows of the pack at `path`; runs in a reading process.

    Returns:
        the clips, None where a video could not be read when it was packed; with a `place`, they are there, and this is
        their shapes.
    """
    opened = _open_here(path)
    clips: list[UInt8[np.ndarray, "t s s"] | None] = []
    for row, draw in zip(rows, draws, strict=True):
        try:
            clips.append(square(*opened.read(row, draw.choose), draw.limit))
        except DecodeError:
            clips.append(None)
    return clips if place is None else place.put(clips)


@lru_cache(maxsize=1)
def _open_here(path: Path) -> Pack:
    return Pack.open(path)
