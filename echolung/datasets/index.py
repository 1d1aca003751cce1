"""A folder of somebody's own videos -> the rows of a CSV for the dataset `table`, to be filled in (docs/datasets/table.md)."""

import csv
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from echolung.datasets.dicom import PICTURE, pseudonym, read_header
from echolung.datasets.formats import format_of
from echolung.errors import DecodeError, InputError

COLUMNS = ("path", "patient", "source", "view", "label")
"""Of the CSV. `view` and `source` are written where a DICOM file says them, `label` is for its reader to fill in."""

FEW = 2
"""Images in a folder from which on they are taken for the frames of a video."""


@dataclass
class Found:
    """What a folder holds.

    Attributes:
        rows: path (relative to the CSV, with slashes), patient, source, view, label of each video; "" where unknown.
        passed: why -> paths that were passed over.
    """

    rows: list[dict[str, str]] = field(default_factory=list)
    passed: dict[str, list[str]] = field(default_factory=dict)

    def pass_over(self, why: str, path: Path) -> None:
        """Note a file that is no video."""
        self.passed.setdefault(why, []).append(path.as_posix())


def index(
    folder: Path, out: Path, patient_from: str = "dicom", advance: Callable[[int], None] = lambda files: None
) -> Found:
    """Return every video under `folder`, however deep: files of known formats, DICOM files, and folders of frame images.

    Args:
        folder: what is searched; hidden files and folders are not.
        out: the CSV to be, where relative paths begin.
        patient_from: "dicom": the hashed PatientID of DICOM files; "folder": the name of the folder under `folder` that a
            video lies in, and the hashed PatientID of those that lie in none.
        advance: called with the files looked at.

    Raises:
        InputError: the folder is not there, `patient_from` is neither, or there is no video.
    """
    if patient_from not in ("dicom", "folder"):
        raise InputError(f"--patient-from {patient_from} must be dicom or folder.")
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "is not there"
        raise InputError(f"{folder} {what}: name the folder that the videos are in.")
    found, start = Found(), Path(os.path.abspath(folder))  # noqa: PTH100 - a link keeps the name that a person gave it
    base = Path(os.path.abspath(out)).parent  # noqa: PTH100
    for path, kind in _sources(start, found):
        advance(1)
        facts = _facts(path, kind, found, start)
        if facts is None:
            continue
        below = path.relative_to(start).parts
        if patient_from == "folder" and len(below) > 1:
            facts["patient"] = below[0]
        name = Path(os.path.relpath(path, base)).as_posix() if path.is_relative_to(base) else path.as_posix()
        found.rows.append({**dict.fromkeys(COLUMNS, ""), **facts, "path": name})
    if not found.rows:
        raise InputError(
            f"There is no video under {folder}: no file of a known format (MP4, AVI, MOV, GIF, MPEG, DICOM, NIfTI, …), and no "
            f"folder of images. {passed_over(found)}".rstrip()
        )
    return found


def _sources(folder: Path, found: Found) -> Iterator[tuple[Path, str]]:
    """Yield the files that may be videos, and the folders of frames, in the order of their names, each with its format."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = [Path(place) / name for name in sorted(files) if not name.startswith(".")]
        # Once a file: those whose names say nothing are opened for it.
        kinds = [(path, format_of(path)) for path in paths]
        yield from ((path, kind) for path, kind in kinds if kind != "image")
        images = [path for path, kind in kinds if kind == "image"]
        if len(images) >= FEW:
            yield Path(place), "image"
        elif images:
            found.pass_over("a single image", images[0].relative_to(folder))


def _facts(path: Path, kind: str, found: Found, start: Path) -> dict[str, str] | None:
    """Return what is known of a video of a format; None where it is none."""
    name = path.relative_to(start)
    if kind == "":
        found.pass_over("no format of videos", name)
        return None
    if kind != "dicom":
        if path.is_file() and path.stat().st_size == 0:
            found.pass_over("empty (0 bytes)", name)
            return None
        return {}
    try:
        header = read_header(path, (*PICTURE, "Manufacturer", "ManufacturerModelName", "ViewPosition"))
        patient = pseudonym(path)
    except DecodeError:
        found.pass_over("a damaged DICOM file, or none", name)
        return None
    if "Rows" not in header:
        found.pass_over("DICOM without a picture (report, index of a disc, …)", name)
        return None
    if int(header.get("NumberOfFrames") or 1) < FEW:
        found.pass_over("a DICOM still, of one frame", name)
        return None
    device = " ".join(str(header.get(tag) or "").strip() for tag in ("Manufacturer", "ManufacturerModelName")).strip()
    return {"patient": patient, "source": device, "view": str(header.get("ViewPosition") or "").strip()}


def passed_over(found: Found) -> str:
    """Return a sentence on what was passed over and why; "" where nothing was."""
    if not found.passed:
        return ""
    parts = [
        f"{len(paths)} × {why} ({', '.join(paths[:3])}{', …' if len(paths) > 3 else ''})"
        for why, paths in found.passed.items()
    ]
    return f"Passed over: {'; '.join(parts)}."


def write(found: Found, out: Path) -> None:
    """Write the CSV, without a source where none is known, and without views unless all are.

    Raises:
        InputError: there is something at `out` already, or it cannot be written.
    """
    known = {name: [row[name] != "" for row in found.rows] for name in COLUMNS}
    # A view that some lack would be a label with holes.
    kept = [c for c in COLUMNS if c in ("path", "patient", "label") or (all if c == "view" else any)(known[c])]
    try:
        with out.open("x", encoding="utf-8", newline="") as stream:
            table = csv.DictWriter(stream, kept, extrasaction="ignore", lineterminator="\n")
            table.writeheader()
            table.writerows(found.rows)
    except FileExistsError:
        raise InputError(
            f"There is something at {out} already, which somebody may have filled in. Remove it, or name another file with --out."
        ) from None
    except OSError as error:
        raise InputError(f"Cannot write {out}: {error.strerror}.") from error
