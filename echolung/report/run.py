"""A run folder read back: everything that reports and comparisons are made from."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from echolung.cache import TokenStore
from echolung.datasets.manifest import Task
from echolung.errors import InputError
from echolung.evaluation import Result
from echolung.evaluation.checks.finding import Finding
from echolung.evaluation.summary import Summary, summarise
from echolung.probes.saved import load_probe

RECORD_SCHEMA = 2
"""2 added digests, curves, inner predictions, twins, findings and the command."""

NAMES = {"video_id": str, "patient": str, "source": str, "visit": str, "encoder": str}
"""Columns that are names, whatever they look like."""


@dataclass(frozen=True)
class Twin:
    """The same question asked of the same model with random weights.

    Attributes:
        encoder: its name, with the seed.
        store: name of its store.
        result: what was found.
        summary: its numbers.
    """

    encoder: str
    store: str
    result: Result
    summary: Summary


@dataclass(frozen=True)
class Run:
    """A run folder.

    Attributes:
        folder: where it is.
        record: record.json.
        result: what was found; `probe` is None where none was saved.
        summary: its numbers, computed anew from the predictions.
        findings: what checks said when it was made.
        twins: the random twins.
    """

    folder: Path
    record: dict[str, Any]
    result: Result
    summary: Summary
    findings: tuple[Finding, ...]
    twins: tuple[Twin, ...]


def read_run(folder: Path | str) -> Run:
    """Return the run in a folder.

    Raises:
        InputError: no run, one of a newer schema or another kind, or a file of it is missing or has been changed.
    """
    folder = Path(folder)
    record = read_record(folder)
    if "label_efficiency" in record:
        raise InputError(f"{folder} holds a curve of label efficiency, which has no single set of predictions.")
    try:
        check_files(folder, record)
        task = Task.from_json(record["task"])
        predictions = _read(folder / "predictions.csv", task)
        result = _result(folder, record, task, predictions)
        findings = tuple(Finding.from_json(fields) for fields in record.get("findings", []))
        return Run(folder, record, result, summarise(result), findings, _twins(folder, record, result))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"{folder} is damaged ({type(error).__name__}: {error}). Repeat the run, or restore the folder."
        ) from error


def read_record(folder: Path) -> dict[str, Any]:
    """Return record.json; InputError where there is none, or one that this version cannot read."""
    file = folder / "record.json"
    if not file.is_file():
        there = "is no folder of a run: it has no record.json" if folder.is_dir() else "is not there"
        raise InputError(f"{folder} {there}. Runs lie under ECHOLUNG_HOME/runs; echolung leaderboard lists them.")
    try:
        record: dict[str, Any] = json.loads(file.read_text("utf-8"))
        schema = int(record["record_schema"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} is damaged ({type(error).__name__}: {error}). Repeat the run.") from error
    if schema > RECORD_SCHEMA:
        raise InputError(
            f"{file} has the schema {schema}, and this version of echolung reads up to {RECORD_SCHEMA}. Update echolung."
        )
    return record


def check_files(folder: Path, record: dict[str, Any]) -> None:
    """Compare every file with the digest that was taken of it; InputError where one is missing or another."""
    missing = [name for name in record.get("files", {"predictions.csv": ""}) if not (folder / name).is_file()]
    if missing:
        raise InputError(f"{folder} is not whole: {', '.join(missing)} missing. Repeat the run, or restore the folder.")
    changed = [name for name, digest in record.get("files", {}).items() if digest_of(folder / name) != digest]
    if changed:
        raise InputError(
            f"{folder}: {', '.join(changed)} is not what the run wrote (its digest differs from the one in record.json). "
            "Repeat the run, or restore the file; work on a copy of it."
        )


def check_videos(run: Run, store: TokenStore) -> None:
    """Raise InputError where the run has predictions of videos that its store has not."""
    if unknown := sorted(set(run.result.predictions["video_id"]) - set(store.rows["video_id"])):
        raise InputError(
            f"{run.folder / 'predictions.csv'} has predictions of {unknown[0]}, a video that {store.path.name} does not hold "
            f"({len(unknown)} such). Name the store that the run was made from, or repeat the run."
        )


def digest_of(file: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _result(folder: Path, record: dict[str, Any], task: Task, predictions: pd.DataFrame) -> Result:
    if absent := _wrong_rows(record, task, predictions):
        raise InputError(f"{folder / 'predictions.csv'} {absent}. Repeat the run.")
    chosen = [fold["chosen"] for fold in record["folds"]]
    folds = pd.DataFrame(
        [{k: v for k, v in fold.items() if k not in ("chosen", "temperature")} for fold in record["folds"]]
    )
    heat = tuple(fold["temperature"] for fold in record["folds"] if fold.get("temperature") is not None)
    extra = {
        name: _read(folder / f"{name}.csv", task)
        for name in ("inner", "train", "curves", "looks")
        if (folder / f"{name}.csv").is_file()
    }
    return Result(
        predictions, folds, chosen, load_probe(folder) if (folder / "probe.safetensors").is_file() else None, task,
        record["settings"], tuple(record["notes"]), record["shared_by_train_and_test"], **extra, temperatures=heat,
    )  # fmt: skip


def _wrong_rows(record: dict[str, Any], task: Task, predictions: pd.DataFrame) -> str:
    """Return what is wrong with the rows of a table of predictions, or ""."""
    if twice := predictions.loc[predictions.duplicated(["fold", "video_id"]), "video_id"].tolist():
        return f"has several predictions of {twice[0]} in one fold"
    if task.classes and (strange := sorted(set(predictions["truth"]) - set(task.classes))):
        return f"has the class {strange[0]!r}, and the task has {', '.join(task.classes)}"
    known = {fold["fold"] for fold in record["folds"]}
    if unknown := sorted(set(predictions["fold"]) - known):
        return f"has predictions of fold {unknown[0]}, which the run has not"
    if len(predictions) != record["videos"]:
        return f"has {len(predictions)} rows, and the run scored {record['videos']}"
    return ""


def _read(file: Path, task: Task) -> pd.DataFrame:
    try:
        table = pd.read_csv(
            file, dtype=NAMES, keep_default_na=False, na_values=[""] if file.stem in ("curves", "looks") else None
        )
    except (ValueError, OSError) as error:
        raise InputError(f"{file} cannot be read ({str(error).strip()}). Repeat the run.") from error
    if "truth" in table and task.classes:
        table["truth"] = table["truth"].astype(str)
    return table


def _twins(folder: Path, record: dict[str, Any], result: Result) -> tuple[Twin, ...]:
    if not record.get("twins"):
        return ()
    table = _read(folder / "twins.csv", result.task)
    twins = []
    for about in record["twins"]:
        own = table[table["encoder"] == about["encoder"]].drop(columns="encoder").reset_index(drop=True)
        other = Result(own, result.folds, [], None, result.task, {**result.settings}, (), result.shared)
        twins.append(Twin(about["encoder"], about["store"], other, summarise(other)))
    return tuple(twins)
