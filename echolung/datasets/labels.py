"""Columns of a CSV -> labels and the tasks they make; and a CSV that adds labels to a dataset that has others."""

import codecs
import csv
import io
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from echolung.datasets import looking
from echolung.datasets.manifest import Manifest, Task
from echolung.errors import InputError
from echolung.text import listed, suggest

DESCRIBE = ("video_id", "path", "patient", "source", "split")
"""Columns that describe a video; every other one is a label column."""
KINDS = ("classification", "regression", "ordinal", "ignore")
SEPARATORS = {";": "semicolons", "\t": "tabs"}
"""What spreadsheets write between cells where the comma is the decimal sign."""
DECIMAL_COMMA = "-?[0-9]+,[0-9]+"
NAMES_OF_PATH = (
    "file", "filename", "file name", "file_name", "filepath", "file_path", "video", "video_path", "videos", "name",
)  # fmt: skip
BLANK = frozenset({"", "na", "n/a", "nan", "null"})
"""Cells (in any case) that mean "no label"."""
EJECTION_FRACTION = ("ef", "lvef")
"""Names (in any case) of a column that holds percent."""


def add_labels(manifest: Manifest, path: Path, kinds: dict[str, str] | None = None) -> Manifest:
    """Return the manifest with the label columns of a CSV added, or put in the place of those of the same name.

    Its tasks come first, so that the CSV's first column is what is asked by default. A column `patient` or `source` corrects
    that of the videos for which it says something.

    Args:
        manifest: the dataset.
        path: a CSV with `video_id` and label columns; videos it does not name have no label there.
        kinds: label column -> kind, as for the dataset `table`.

    Raises:
        InputError: no such CSV, a video the dataset does not have, or a column that is no label.
    """
    rows, notes = read_rows(path, "video_id")
    known = set(manifest.videos["video_id"])
    if unknown := [video for video in rows["video_id"] if video not in known]:
        raise InputError(
            f"{path} names what is no video of {manifest.name} ({len(unknown)}): {listed(unknown, 5)}. A video_id looks like "
            f"{manifest.videos['video_id'].iloc[0]!r}."
        )
    if twice := sorted(rows["video_id"][rows["video_id"].duplicated()]):
        raise InputError(f"{path} has several rows for {listed(twice, 5)}.")
    columns = [name for name in rows.columns if name not in DESCRIBE]
    groups = [name for name in ("patient", "source") if name in rows]
    if not columns and not groups:
        raise InputError(f"{path} has no column beside {listed(rows.columns)}: no label to add.")
    kinds = check_kinds(kinds or {}, columns, path)
    videos, tasks = manifest.videos.copy(), {}
    for name in groups:
        given = rows.set_index("video_id")[name].reindex(videos["video_id"]).fillna("").to_numpy()
        videos[name] = np.where(given == "", videos[name], given)
    for name in columns:
        values, task, note = label_column(rows[name], kinds.get(name), "drop", path, others=len(columns) > 1)
        values.index = pd.Index(rows["video_id"])
        blank = "" if task is None or task.classes else np.nan
        videos[name] = values.reindex(videos["video_id"]).fillna(blank).to_numpy()
        notes += note
        if task:
            tasks[name] = task
    if columns and not tasks and not groups:
        raise InputError(f"{path} has no column that can be asked. {' '.join(notes)}".strip())
    kept = {name: task for name, task in manifest.tasks.items() if name not in tasks and task.column not in tasks}
    return replace(manifest, videos=videos, tasks={**tasks, **kept}, notes=(*manifest.notes, *notes))


def read_rows(root: Path, key: str) -> tuple[pd.DataFrame, list[str]]:
    """Return (one row of stripped text cells a video, indexed by its line in the file; notes)."""
    text = _text(root, key)
    separator = _separator(text)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        cells = [(lines.line_num, [cell.strip() for cell in row]) for row in lines if any(c.strip() for c in row)]
    except csv.Error as error:
        raise InputError(
            f"{root} is not a well-formed CSV: line {lines.line_num}: {error}. A cell that begins with a quotation mark must end "
            "with one; look there and in the line before, or save the table as CSV from a spreadsheet again."
        ) from error
    if not cells:
        raise InputError(f"{root} is empty. It needs a header with `{key}` and a row a video.")
    header = [name.lower() if name.lower() in DESCRIBE else name for name in cells[0][1]]
    if key not in header:
        raise InputError(_no_key(root, key, header, cells))
    if twice := sorted({name for name in header if name and header.count(name) > 1}):
        raise InputError(f"{root} has several columns named {', '.join(twice)}. Rename or remove all but one.")
    if ragged := [(line, len(row)) for line, row in cells[1:] if len(row) != len(header)]:
        line, width = ragged[0]
        raise InputError(
            f"{root} has {len(header)} columns, but line {line} has {width} cells (lines that do not fit: "
            f"{len(ragged)}). A text with a comma in it needs quotes."
        )
    if not cells[1:]:
        raise InputError(f"{root} has a header but no row. It needs a row a video.")
    rows = pd.DataFrame([row for _, row in cells[1:]], columns=header, index=[line for line, _ in cells[1:]], dtype=str)
    notes = [] if "" not in header else ["A column without a name (a saved row index?) is left out."]
    if separator != ",":
        notes.append(f"{root.name} is separated by {SEPARATORS[separator]}, not commas, and was read so.")
    return rows[[name for name in dict.fromkeys(header) if name]], notes


def _separator(text: str) -> str:
    """Return what stands between the names of the first line: a comma, or where there is none a semicolon or a tab."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    return "," if "," in first else max(SEPARATORS, key=first.count) if any(s in first for s in SEPARATORS) else ","


def _text(root: Path, key: str) -> str:
    if root.is_dir():
        found = sorted(path.name for path in root.glob("*.csv"))
        none = f"It holds none. Write one with a row a video: a line `{key},label`, then lines such as `videos/a.mp4,covid`."
        advice = f"It holds {listed(found, 5)}: give that file." if found else none
        raise InputError(f"{root} is a folder where a CSV with the column `{key}` was expected. {advice}")
    if root.suffix.lower() in looking.SHEETS and root.is_file():
        raise InputError(
            f"{root} is a spreadsheet, not a CSV. Open it, save it as CSV (in Excel: Save as, CSV UTF-8), and give that file."
        )
    try:
        data = root.read_bytes()
    except OSError as error:
        near = looking.nearest(root) if isinstance(error, FileNotFoundError) else ""
        if not near and (beside := [e.name for e in looking.entries(root.absolute().parent) if e.suffix == ".csv"]):
            near = f"{root.absolute().parent} has {listed(beside, 5)}."
        raise InputError(
            f"Cannot read the CSV {root}: {error.strerror}. {near or 'Check the path given.'}".strip()
        ) from error
    if data.startswith(b"PK\x03\x04"):
        raise InputError(f"{root} is a spreadsheet or a zip by its content, not a CSV. Save the table as CSV in UTF-8.")
    try:
        utf_16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = data.decode("utf-16" if utf_16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(
            f"{root} is not UTF-8 text (line {line}). Save it as CSV in UTF-8 (in Excel: Save as, CSV UTF-8)."
        ) from error
    if "\0" in text:
        raise InputError(f"{root} is not a CSV: it holds binary data. Save the table as CSV in UTF-8.")
    return text


def _no_key(root: Path, key: str, header: list[str], cells: list[tuple[int, list[str]]]) -> str:
    what = {"path": "the video file, or folder of frames, of each row", "video_id": "which video each row is about"}[
        key
    ]
    text = f"{root} has no column `{key}` ({what}). Its first line: {listed(header)}."
    if any("." in cell or "/" in cell or "\\" in cell for cell in cells[0][1]):
        return f"{text} That looks like a video rather than names of columns: add a first line such as `{key},label`."
    known = next((name for name in header if name.lower() in NAMES_OF_PATH), None) if key == "path" else None
    if known:
        return f"{text} Rename the column {known!r} to {key!r}."
    return f"{text}{suggest(key, header)} Rename the column that holds it to {key!r}, or add one."


def lines_of(lines: Iterable[object]) -> str:
    """Return "line 2", or "lines 2, 5 and 3 more"."""
    lines = list(lines)
    return f"line{'s' if len(lines) != 1 else ''} {listed(lines, 5)}"


# ---------------------------------------------------------------------------------------------- what describes a video


def check_kinds(kinds: dict[str, str], labels: list[str], root: Path) -> dict[str, str]:
    """Return `kinds`; InputError where it names a column that is no label, or a kind that is none."""
    for column, kind in kinds.items():
        if column not in labels:
            has = f"its label columns are {', '.join(labels)}" if labels else "it has no label column"
            raise InputError(
                f"--kind names {column!r}, but {root} has no such label column; {has}.{suggest(column, labels)}"
            )
        if kind not in KINDS:
            raise InputError(
                f"The kind of {column!r} is one of {', '.join(KINDS)}, not {kind!r}.{suggest(kind, list(KINDS))}"
            )
    return kinds


def label_column(
    cells: pd.Series, kind: str | None, missing: str, root: Path, others: bool = False
) -> tuple[pd.Series, Task | None, list[str]]:
    """Return (values, task, notes) of a label column; the task is None where the column is no label.

    `others`: the table has more label columns, so that one with a single value is passed over, not refused.
    """
    name = str(cells.name)
    if kind == "ignore":
        return cells, None, []
    blank = cells.str.lower().isin(BLANK)
    given = cells[~blank]
    given, notes = _points(given, root)
    numbers = pd.to_numeric(given, errors="coerce")
    if name.lower() in EJECTION_FRACTION and kind in (None, "regression"):
        _check_ejection_fraction(given, numbers, root)
    if kind is None:
        kind, more = _guess_kind(given, numbers, others and not blank.any())
        notes += more
    if kind == "ignore":
        return cells, None, notes
    advice = f"If {name} is no label, say --kind {name}=ignore or remove the column."
    if blank.any() and missing == "error":
        raise InputError(
            f"The label {name} is missing on {blank.sum()} of the {len(cells)} rows of {root}: {lines_of(cells.index[blank])}. "
            f"Fill it in, or leave those videos out of this task with --drop-unlabelled. {advice}"
        )
    numeric = numbers.notna().all()
    names = numbers.map(lambda number: f"{number:.15g}") if numeric else given  # "1" and "1.0" are one class
    if names.nunique() < 2:
        what = f"one value only ({names.iloc[0]})" if len(names) else "no value"
        raise InputError(f"The label {name} of {root} holds {what}: nothing to learn. {advice}")
    if kind == "classification":
        classes = sorted(names.unique(), key=float if numeric else str)
        return names.reindex(cells.index).fillna(""), Task("classification", name, tuple(classes)), notes
    if wrong := [f"{given[line]!r} (line {line})" for line in given.index[~np.isfinite(numbers)]]:
        raise InputError(
            f"The label {name} of {root} is {kind}, which needs numbers, and holds {listed(wrong, 5)}. {advice}"
        )
    if kind == "regression":
        return numbers.reindex(cells.index).astype(float), Task("regression", name), notes
    steps = Task("classification", name, tuple(sorted(names.unique(), key=float)), ordinal=True)
    return names.reindex(cells.index).fillna(""), steps, notes


def _points(given: pd.Series, root: Path) -> tuple[pd.Series, list[str]]:
    """Return (the cells, decimal commas as points where all are numbers so written; notes)."""
    with_comma = given[given.str.fullmatch(DECIMAL_COMMA)]
    if with_comma.empty or not given.str.fullmatch(f"{DECIMAL_COMMA}|-?[0-9]+").all():
        return given, []
    if with_comma.str.fullmatch(r"-?[1-9][0-9]{0,2},[0-9]{3}").all():
        raise InputError(
            f"The label {given.name} of {root} holds {with_comma.iloc[0]!r} (line {with_comma.index[0]}), which can be read as a "
            "decimal comma or as thousands. Write the numbers with a decimal point and nothing between the thousands."
        )
    example = with_comma.iloc[0]
    note = f"The column {given.name} has decimal commas: {example} was read as {example.replace(',', '.')}."
    return given.str.replace(",", ".", regex=False), [note]


def _check_ejection_fraction(given: pd.Series, numbers: pd.Series, root: Path) -> None:
    """Raise InputError where a cell of a column with ejection fractions is no percentage."""
    if wrong := [f"{given[line]!r} (line {line})" for line in given.index[~numbers.between(0, 100)]]:
        raise InputError(
            f"The label {given.name} of {root} must be an ejection fraction from 0 to 100 (percent), and holds "
            f"{listed(wrong, 5)}. Correct it; if it is something else, rename the column or say --kind {given.name}=KIND "
            f"(KIND: {', '.join(KINDS)})."
        )


def _alike(given: pd.Series) -> list[str]:
    """Return a note on classes that differ in capitals or blanks alone: most likely one class, written in two ways."""
    written: dict[str, list[str]] = {}
    for name in sorted(set(given)):
        written.setdefault(re.sub(r"[\s_-]+", "", name).lower(), []).append(name)
    twice = [" and ".join(map(repr, names)) for names in written.values() if len(names) > 1]
    return (
        [f"The column {given.name} has classes that look like one: {listed(twice, 5)}. Write them alike."]
        if twice
        else []
    )


def _guess_kind(given: pd.Series, numbers: pd.Series, others: bool) -> tuple[str, list[str]]:
    """Return (kind, notes): what a label column is where the user did not say."""
    name, distinct = given.name, set(numbers)
    other = f"--kind {name}=KIND says otherwise (KIND: {', '.join(KINDS)})."
    if others and (given.nunique() == 1 or distinct == {numbers.iloc[0]}):
        return "ignore", [
            f"The column {name} says {given.iloc[0]} on every row, so is taken for a remark, not a label; {other}"
        ]
    if numbers.isna().any():
        if given.nunique() == len(given) > 10:
            return "ignore", [
                f"The column {name} has another text on every row, so is taken for a remark, not a label; {other}"
            ]
        return "classification", _alike(given)
    if distinct == {0, 1}:
        return "classification", [f"The column {name} holds just 0 and 1: taken for two classes; {other}"]
    if len(distinct) <= 10 and all(float(number).is_integer() for number in distinct) and len(distinct) < len(given):
        return "regression", [
            f"The column {name} holds {len(distinct)} whole numbers: taken for a number to regress; {other}"
        ]
    return "regression", []
