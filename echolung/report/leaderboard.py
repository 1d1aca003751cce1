"""Every run of a dataset × task in one table, as text for people (Markdown) and for programs (CSV)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from echolung.errors import InputError
from echolung.evaluation.metrics import LABELS, MAIN
from echolung.evaluation.pairing import dataset_of
from echolung.report.html.tables import LOWER, PER_CENT, number
from echolung.report.run import read_record

SHOWN = {"classification": ("balanced_accuracy", "accuracy", "auroc"), "regression": ("mae", "rmse", "r2")}

ABOUT = ["dataset", "task", "group", "optimistic", "encoder", "probe", "protocol", "patients", "videos"]
"""Columns before the metrics."""


@dataclass(frozen=True)
class Leaderboard:
    """Every run that could be read.

    Attributes:
        table: one row a run, sorted: by dataset, task and group, honest before optimistic, best first. The columns of
            `ABOUT`, kind, then of each metric shown its mean over folds, <metric>_sd, <metric>_low and <metric>_high (95 %
            interval), <metric>_guess; at (time), run (the folder's name).
        passed_over: what is wrong with each run that could not be read.
    """

    table: pd.DataFrame
    passed_over: tuple[str, ...]

    def sections(self) -> "list[tuple[dict[str, Any], pd.DataFrame]]":
        """Return (dataset, task, group and kind, rows) of each set of runs that may stand in one table."""
        keys = ["dataset", "task", "group", "kind"]
        groups = self.table.groupby(keys, sort=False)
        return [(dict(zip(keys, names, strict=True)), rows.reset_index(drop=True)) for names, rows in groups]


def leaderboard(folder: Path, dataset: str | None = None, task: str | None = None) -> Leaderboard:
    """Return every run in a folder, of one dataset and one task where these are named.

    Only records are read, no predictions: the numbers are those that each run wrote. Curves of label efficiency and folders
    without a record, such as comparisons, are passed over.

    Raises:
        InputError: no such folder, or no run that fits.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}. Runs are made by echolung probe and echolung study.")
    rows, passed_over = [], []
    for place in sorted(file.parent for file in folder.glob("*/record.json")):
        if place.suffix == ".partial":
            continue
        try:
            row = _row(place)
        except InputError as error:
            passed_over.append(str(error))
            continue
        if row and (dataset is None or dataset in row["dataset"].split(" → ")) and task in (None, row["task"]):
            rows.append(row)
    if not rows:
        wanted = " ".join(f"{what} {name}" for what, name in (("of dataset", dataset), ("with task", task)) if name)
        wrong = f" Passed over: {' '.join(passed_over)}" if passed_over else ""
        raise InputError(
            f"There is no run {wanted or 'yet'} under {folder}. Make one: echolung probe --dataset {dataset or 'NAME'}.{wrong}"
        )
    return Leaderboard(_sorted(pd.DataFrame(rows)), tuple(passed_over))


def _row(folder: Path) -> dict[str, Any]:
    """Return a run's row; {} of a curve of label efficiency."""
    record = read_record(folder)
    if "label_efficiency" in record:
        return {}
    try:
        settings, metrics, kind = record["settings"], record["metrics"], record["task"]["kind"]
        row = {
            "dataset": dataset_of(settings),
            "task": settings["task"],
            "group": settings["group"],
            "optimistic": bool(record["optimistic"]),
            "encoder": str(record["encoder"]),
            "probe": _probe(settings),
            "protocol": _protocol(settings),
            **_counts(record),
            "kind": kind,
        }
        for name in SHOWN[kind]:
            low, high = metrics["interval"].get(name) or (None, None)
            row |= {name: metrics["mean"].get(name), f"{name}_sd": metrics["sd"].get(name)}
            row |= {f"{name}_low": low, f"{name}_high": high, f"{name}_guess": metrics["guess"].get(name)}
        return {**row, "at": record["at"], "run": folder.name}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"{folder / 'record.json'} is damaged ({type(error).__name__}: {error}). Repeat the run."
        ) from error


def _probe(settings: dict[str, Any]) -> str:
    given = [
        f"{name}={'/'.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in settings.get("hyper", {}).items()
    ]
    return " ".join([settings["probe"], *given, *(["(late fusion)"] if settings.get("fusion") == "late" else [])])


def _protocol(settings: dict[str, Any]) -> str:
    how = f"split {settings['split']}" if "split" in settings else str(settings["protocol"])
    if "split" not in settings and settings.get("folds"):
        how += f", cv {settings['folds']}"
    if settings.get("repeats", 1) > 1:
        how += f" × {settings['repeats']}"
    return how + (" study" if "study" in settings else "")


def _counts(record: dict[str, Any]) -> dict[str, int]:
    """Return how many patients and videos were scored, each counted once whatever the number of repeats."""
    first, counts = record["folds"][0], {}
    for unit in ("patients", "videos"):
        whole = first[f"{unit}_test"]
        if "folds" in record["settings"] and "only_fold" not in record["settings"]:
            whole += first[f"{unit}_train"] - first.get(f"{unit}_shared", 0)
        counts[unit] = int(whole)
    return counts


def _sorted(table: pd.DataFrame) -> pd.DataFrame:
    main = [row[MAIN[row["kind"]]] for row in table.to_dict("records")]
    best = pd.to_numeric(pd.Series(main), errors="coerce")
    best = best.where(table["kind"].map(MAIN).isin(LOWER), -best)
    keys = ["dataset", "task", "group", "kind", "optimistic", "best", "at", "run"]
    ordered = table.assign(best=best).sort_values(keys, kind="stable", na_position="last").drop(columns="best")
    return ordered.reset_index(drop=True)


# ---- for programs, and for people ------------------------------------------------------------------------------------


def write_csv(board: Leaderboard, file: Path) -> None:
    """Write the table; numbers unrounded, "" where there is none."""
    board.table.to_csv(file, index=False, lineterminator="\n")


def write_markdown(board: Leaderboard, file: Path) -> None:
    """Write one Markdown table for each dataset × task × group."""
    file.write_text(markdown(board), "utf-8")


def markdown(board: Leaderboard) -> str:
    """Return one Markdown table for each dataset × task × group; what is not Markdown in a name stays as it is."""
    return "\n".join(_section(about, rows) for about, rows in board.sections())


def _section(about: dict[str, Any], rows: pd.DataFrame) -> str:
    names = SHOWN[about["kind"]]
    heads = [(LABELS[n] + (" %" if (n in PER_CENT) else "")) + " (mean ± sd) | pooled 95 % interval" for n in names]
    head = ["encoder", "probe", "protocol", "patients", "videos", *" | ".join(heads).split(" | "), "date", "run"]
    right = [name in ("patients", "videos") or "(mean" in name for name in head]
    lines = [f"## {escape(about['dataset'])} · {escape(about['task'])} · folds by {escape(about['group'])}", ""]
    lines += [_line(head), _line(["---:" if r else "---" for r in right])]
    for row in rows.to_dict("records"):
        protocol = row["protocol"] + (" (optimistic)" if row["optimistic"] else "")
        cells = [row["encoder"], row["probe"], protocol, row["patients"] or "—", row["videos"]]
        for name in names:
            cells += [
                spread(name, row[name], row[f"{name}_sd"]),
                between(name, row[f"{name}_low"], row[f"{name}_high"]),
            ]
        lines.append(_line([escape(str(cell)) for cell in [*cells, row["at"][:10], row["run"]]]))
    guessing = ", ".join(f"{LABELS[n]} {number(n, rows[f'{n}_guess'].iloc[0])}{' %' * (n in PER_CENT)}" for n in names)
    return "\n".join([*lines, "", f"Guessing scores: {guessing}.", ""])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def escape(text: str) -> str:
    """Return text that Markdown shows as it is, in one line."""
    return re.sub(r"([\\|`*_\[\]<>#~])", r"\\\1", " ".join(text.split()))


def spread(metric: str, mean: float | None, sd: float | None) -> str:
    """Return "mean ± sd", or the mean alone where there is one fold."""
    return number(metric, mean) + ("" if sd is None or sd != sd else f" ± {number(metric, sd)}")


def between(metric: str, low: float | None, high: float | None) -> str:
    """Return "low – high", or "—"."""
    return "—" if low is None or low != low else f"{number(metric, low)} – {number(metric, high)}"
