"""The folder of a run: everything needed to recompute its numbers, and to know how they came about."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from echolung.cache import TokenStore
from echolung.evaluation import Result
from echolung.evaluation.checks.finding import Finding
from echolung.evaluation.result import is_optimistic
from echolung.evaluation.summary import Summary
from echolung.provenance import origin
from echolung.report.plots.confusion import confusion_matrix
from echolung.report.run import RECORD_SCHEMA, Twin, digest_of
from echolung.settings import home, make_folder


def save_run(
    result: Result,
    summary: Summary,
    store: TokenStore,
    seconds: float,
    folder: Path | None = None,
    twins: Sequence[Twin] = (),
    findings: Sequence[Finding] = (),
    extra: dict[str, Any] | None = None,
) -> Path:
    """Write record.json, the tables, the probe and the confusion matrix; return the folder.

    Args:
        result: what was found.
        summary: its numbers.
        store: what it was found in.
        seconds: how long it took.
        folder: where; default a new one under `ECHOLUNG_HOME/runs`.
        twins: the same question asked of the same model with random weights.
        findings: what checks say.
        extra: more fields of the record, such as a permutation test.
    """
    settings = result.settings
    if folder is None:
        onto = [f"to-{settings['test']['dataset']}"] if "test" in settings else []
        names = [
            settings["dataset"],
            *onto,
            settings["task"],
            settings["probe"],
            settings["protocol"],
            settings["group"],
        ]
        folder = new_folder(home() / "runs", f"{datetime.now():%Y%m%d-%H%M%S}-{'-'.join(names)}")
    # Written beside its place and moved there whole: a run folder is complete or not there.
    partial = make_folder(folder.with_name(folder.name + ".partial"))
    _write(result, summary, twins, str(store.group.attrs.get("encoder") or ""), partial)
    files = {file.name: digest_of(file) for file in sorted(partial.iterdir()) if file.suffix != ".png"}
    record = _record(result, summary, store, seconds, twins, findings)
    record |= {"files": files, **origin(str(settings.get("device", ""))), **(extra or {})}
    (partial / "record.json").write_text(json.dumps(record, indent=2) + "\n")
    if folder.is_dir():
        folder.rmdir()  # an empty one is welcome, anything else an error
    return partial.rename(folder)


def _write(result: Result, summary: Summary, twins: Sequence[Twin], encoder: str, folder: Path) -> None:
    predictions = result.predictions.sort_values(["fold", "video_id"], kind="stable")
    # float32 in its shortest form: reading it back gives the very numbers that the metrics were computed from.
    predictions.to_csv(folder / "predictions.csv", index=False, lineterminator="\n")
    summary.folds.to_csv(folder / "folds.csv", index_label="fold", float_format="%.6f", lineterminator="\n")
    for name in ("inner", "train", "curves", "looks"):
        if (table := getattr(result, name)) is not None:
            table.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
    if twins:
        tables = [twin.result.predictions.assign(encoder=twin.encoder) for twin in twins]
        pd.concat(tables).to_csv(folder / "twins.csv", index=False, lineterminator="\n")
    if result.probe is not None:
        result.probe.save(folder)
    if result.task.classes:
        confusion_matrix(result, folder / "confusion.png", encoder)


def _record(
    result: Result,
    summary: Summary,
    store: TokenStore,
    seconds: float,
    twins: Sequence[Twin],
    findings: Sequence[Finding],
) -> dict[str, Any]:
    heat = result.temperatures or [None] * len(result.folds)
    return {
        "record_schema": RECORD_SCHEMA,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "optimistic": is_optimistic(result.settings),
        "settings": result.settings,
        "task": result.task.to_json(),
        "encoder": store.group.attrs.get("encoder"),
        "store": {"name": store.path.name, "key": store.key, "key_digest": store.group.attrs["key_digest"]},
        "videos": len(result.predictions),
        "shared_by_train_and_test": result.shared,
        "folds": [
            {**row, "chosen": chosen, "temperature": temperature}
            for row, chosen, temperature in zip(result.folds.to_dict("records"), result.chosen, heat, strict=True)
        ],
        "metrics": summary.to_json(),
        "twins": [{"encoder": twin.encoder, "store": twin.store, "metrics": twin.summary.to_json()} for twin in twins],
        "findings": [finding.to_json() for finding in findings],
        "notes": list(result.notes),
        "seconds": round(seconds, 1),
    }


def new_folder(parent: Path, name: str) -> Path:
    """Return a folder of that name in `parent`, numbered where there is one already; not made yet."""
    folder, n = parent / name, 1
    while folder.exists():
        n += 1
        folder = parent / f"{name}-{n}"
    return folder
