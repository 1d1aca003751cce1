"""The folder of a run: everything needed to recompute its numbers, and to know how they came about."""

import json
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from echolung import __version__
from echolung.cache import TokenStore
from echolung.evaluation import Result
from echolung.evaluation.result import is_optimistic
from echolung.evaluation.summary import Summary
from echolung.report.figures import confusion_matrix
from echolung.settings import home, make_folder

RECORD_SCHEMA = 1

PACKAGES = ("torch", "numpy", "scikit-learn", "optuna", "zarr", "pandas")


def save_run(
    result: Result,
    summary: Summary,
    store: TokenStore,
    seconds: float,
    folder: Path | None = None,
    twin: Summary | None = None,
) -> Path:
    """Write record.json, predictions.csv, folds.csv, the probe and the confusion matrix; return the folder.

    Args:
        result: what was found.
        summary: its numbers.
        store: what it was found in.
        seconds: how long it took.
        folder: where; default a new one under `ECHOLUNG_HOME/runs`.
        twin: the numbers of the same model with random weights, under the same protocol.
    """
    settings = result.settings
    if folder is None:
        names = [settings["dataset"], settings["task"], settings["probe"], settings["protocol"], settings["group"]]
        folder = new_folder(home() / "runs", f"{datetime.now():%Y%m%d-%H%M%S}-{'-'.join(names)}")
    # Written beside its place and moved there whole: a run folder is complete or not there.
    partial = make_folder(folder.with_name(folder.name + ".partial"))
    _write(result, summary, partial)
    (partial / "record.json").write_text(json.dumps(_record(result, summary, store, seconds, twin), indent=2) + "\n")
    if folder.is_dir():
        folder.rmdir()  # an empty one is welcome, anything else an error
    return partial.rename(folder)


def _write(result: Result, summary: Summary, folder: Path) -> None:
    predictions = result.predictions.sort_values(["fold", "video_id"], kind="stable")
    # float32 in its shortest form: reading it back gives the very numbers that the metrics were computed from.
    predictions.to_csv(folder / "predictions.csv", index=False, lineterminator="\n")
    summary.folds.to_csv(folder / "folds.csv", index_label="fold", float_format="%.6f", lineterminator="\n")
    if result.probe is not None:
        result.probe.save(folder)
    if result.task.classes:
        confusion_matrix(result, folder / "confusion.png")


def _record(
    result: Result, summary: Summary, store: TokenStore, seconds: float, twin: Summary | None
) -> dict[str, Any]:
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
            {**row, "chosen": chosen}
            for row, chosen in zip(result.folds.to_dict("records"), result.chosen, strict=True)
        ],
        "metrics": summary.to_json(),
        "random_twin": twin.to_json() if twin else None,
        "notes": list(result.notes),
        "versions": versions(),
        "seconds": round(seconds, 1),
    }


def versions() -> dict[str, str]:
    """Return the versions of echolung, Python and what numbers come from; "" where one is not installed."""
    found = {"echolung": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = ""
    return found


def new_folder(parent: Path, name: str) -> Path:
    """Return a folder of that name in `parent`, numbered where there is one already; not made yet."""
    folder, n = parent / name, 1
    while folder.exists():
        n += 1
        folder = parent / f"{name}-{n}"
    return folder
