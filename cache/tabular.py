"""Whether the tables of a store (`rows`, `manifest`) are whole, and tell the same story."""

from dataclasses import dataclass, field

import pandas as pd
import zarr

from echolung.cache.metadata import expected_columns, read_document, same_array, same_group
from echolung.cache.place import Place, zarr_store
from echolung.cache.seal import SEAL, seal_of
from echolung.cache.tables import read_table
from echolung.errors import RunError

ROW_COLUMNS = ["video_id", "patient", "source", "segment", "view"]

ATTRIBUTES = {"rows": {"columns"}, "manifest": {"columns", "dataset", "tasks"}}


@dataclass
class Tables:
    """What was found of the tables.

    Attributes:
        broken: (table or column, what is wrong).
        notes: what cannot be known.
        video_ids: the video of each clip, None where `rows` does not say.
        arrays: table -> names of its arrays.
    """

    broken: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    video_ids: list[str] | None = None
    arrays: dict[str, set[str]] = field(default_factory=dict)


def check_tables(path: Place, clips: int, strict: bool) -> Tables:
    """Read the two tables of the store at `path` and hold them against each other."""
    found = Tables()
    rows = _read(path, "rows", strict, found)
    videos = _read(path, "manifest", strict, found)
    if rows is not None:
        if list(rows.columns) != ROW_COLUMNS:
            found.broken.append(("rows", f"its columns are {', '.join(rows.columns)}"))
            rows = None
        elif len(rows) != clips:
            found.broken.append(("rows", f"it has {len(rows)} rows for {clips} clips"))
            rows = None
    if rows is not None:
        found.video_ids = rows["video_id"].tolist()
        _check_rows(rows, found)
    if rows is not None and videos is not None:
        _compare(rows, videos, found)
    return found


def _read(path: Place, name: str, strict: bool, found: Tables) -> pd.DataFrame | None:
    """Return a table, or None and say why it cannot be read."""
    before = len(found.broken)
    document = read_document(path / name)
    attributes = (document or {}).get("attributes")
    columns = attributes.get("columns") if isinstance(attributes, dict) else None
    found.arrays[name] = {p.name for p in (path / name).glob("*") if p.is_dir()}
    if not same_group(document) or not isinstance(columns, list) or not all(isinstance(c, str) for c in columns):
        found.broken.append((name, "its zarr.json is gone or damaged"))
        return None
    assert isinstance(attributes, dict)
    if attributes.keys() - {SEAL} != ATTRIBUTES[name] or attributes.get(SEAL, seal_of(attributes)) != seal_of(
        attributes
    ):
        found.broken.append((name, "its attributes were altered"))
        return None
    group = zarr.open_group(zarr_store(path / name), mode="r")
    wanted = {column.replace("/", "%2F") for column in columns}
    for column in sorted(wanted | found.arrays[name]):
        if column not in wanted:
            found.broken.append((f"{name}/{column}", "a column that the table does not name"))
        else:
            _check_column(path / name / column, group, column, SEAL in attributes, f"{name}/{column}", found)
    if len(found.broken) > before:
        return None
    table = read_table(group)
    expected = expected_columns(table)
    for column in sorted(expected):
        if not same_array(read_document(path / name / column), expected[column], strict):
            found.broken.append((f"{name}/{column}", "its zarr.json is damaged"))
    return None if len(found.broken) > before else table


def _check_column(path: Place, group: zarr.Group, column: str, strict: bool, label: str, found: Tables) -> None:
    try:
        array = group[column]
        length = len(array[:])  # type: ignore[arg-type, index]
    except RunError:  # it is the network
        raise
    except Exception as error:  # whatever Zarr says to bytes that are not its own
        text = " ".join(str(error).split())[:200]
        found.broken.append((label, f"cannot be read ({text})"))
        return
    if length and not (path / "c" / "0").is_file():
        if strict:
            found.broken.append((label, "the file of its values is gone"))
        else:
            found.notes.append(
                f"{label} holds nothing but zeros or empty strings, or its file is gone: older stores do not say."
            )


def _check_rows(rows: pd.DataFrame, found: Tables) -> None:
    if (rows["video_id"] == "").any():
        found.broken.append(("rows/video_id", "a clip has no video: a chunk is gone"))
    elif rows.duplicated(["video_id", "segment", "view"]).any():
        found.broken.append(("rows", "two clips are of the same video, segment and view: a chunk is gone"))


def _compare(rows: pd.DataFrame, videos: pd.DataFrame, found: Tables) -> None:
    if absent := sorted({"video_id", "path", "patient", "source"} - set(videos.columns)):
        found.broken.append(("manifest", f"it has no column {', '.join(absent)}"))
        return
    if lengths := set(rows["video_id"]) ^ set(videos["video_id"]):
        found.broken.append(("manifest", f"it and rows do not name the same videos (first: {sorted(lengths)[0]!r})"))
        return
    by_video = videos.set_index("video_id")
    for column in ("patient", "source"):
        # Rows say what was known when the store was begun; the manifest may have been corrected since.
        held, now = rows[column], by_video[column].reindex(rows["video_id"]).to_numpy()
        if (held == "").all() and (now != "").any():
            found.broken.append((f"rows/{column}", "it is empty, the manifest's is not: a chunk is gone"))
