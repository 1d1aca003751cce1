"""The last sections: what a search left, what is left out, the protocol in one table, and all that is needed to rerun it."""

import json
from typing import Any

from echolung.report.html.prose import INTERVALS, NEEDS_STORE, PROTOCOLS
from echolung.report.html.section import Material, Section, section
from echolung.report.html.tables import two_columns

LABELS = {
    "split": "split",
    "folds": "folds",
    "repeats": "repeats",
    "inner_folds": "inner folds",
    "group": "kept together",
    "probe": "probe",
    "hyper": "held at",
    "epochs": "epochs",
    "patience": "patience",
    "batch": "videos a step",
    "fusion": "segments of a video",
    "views": "views",
    "precision": "arithmetic",
    "device": "device",
    "labels": "labels from",
    "labels_digest": "SHA-256 of labels",
}
"""Setting -> what the table calls it, in this order; settings not named here or in `ELSEWHERE` follow under their own name."""

ELSEWHERE = ("dataset", "task", "protocol", "grid", "study", "seed", "threads")


def study(of: Material) -> Section:
    """Return what a search of hyper-parameters left."""
    return section("study", of.images("study"))


def left_out(of: Material) -> Section:
    """Return what needs the store, where there is none."""
    if of.store is not None:
        return section("left-out")
    store = of.run.record.get("store", {})
    name = f"{store.get('name', '')} (key {store.get('key_digest', '')[:10]})"
    note = (
        f"Because the token store {name} is not here: {NEEDS_STORE}. Name it with echolung report RUN --store PATH, bring it "
        "here with echolung cache import, or make it again with echolung extract."
    )
    return section("left-out", note=note, scored=False)


def protocol(of: Material) -> Section:
    """Return the protocol in one table."""
    result = of.run.result
    settings = result.settings
    grid: list[dict[str, Any]] = settings.get("grid", [])
    search: dict[str, Any] = settings.get("study", {})
    count = of.run.summary.redrawn
    redrawn = f"; {count} of 2,000 resamples had lost a class and were drawn anew" if count else ""
    others = [name for name in settings if name not in LABELS and name not in ELSEWHERE]
    rows = [
        ("protocol", PROTOCOLS.get(settings["protocol"], settings["protocol"])),
        ("chosen by", _chosen_by(settings, bool(result.task.classes))),
        ("encoder", of.run.record.get("encoder")),
        *((LABELS.get(name, name), _plain(settings.get(name))) for name in (*LABELS, *others)),
        ("shared by train and test", ", ".join(f"{count} {name}" for name, count in result.shared.items())),
        ("settings to choose from", f"{len(grid)}: {_ranges(grid)}" if grid else ""),
        ("search", _plain({name: value for name, value in search.items() if name != "space"})),
        ("searched", _plain(search.get("space"))),
        ("intervals", INTERVALS + redrawn),
    ]
    return section("protocol", tables=[two_columns("Protocol", rows)], scored=False)


def rerun(of: Material) -> Section:
    """Return command, versions, store and digests."""
    record, settings = of.run.record, of.run.result.settings
    store: dict[str, Any] = record.get("store", {})
    rows = [
        ("command", record.get("command") or "not recorded by the version that made this run"),
        ("this page", f"echolung report {of.run.folder.name}"),
        ("made at", record.get("at")),
        ("seconds", record.get("seconds")),
        ("seed", settings.get("seed")),
        ("threads", settings.get("threads")),
        ("store", store.get("name")),
        ("store key digest", store.get("key_digest")),
        ("versions", _plain(record.get("versions"))),
        ("record schema", record.get("record_schema")),
    ]
    key = two_columns("Store key: everything that can change a token", _flat(store.get("key", {})), folded=True)
    files = two_columns("SHA-256 of the files in the run folder", record.get("files", {}).items(), folded=True)
    return section("rerun", tables=[two_columns("Needed to rerun it", rows), key, files], scored=False)


def _chosen_by(settings: dict[str, Any], classes: bool) -> str:
    loss = "log-loss" if classes else "squared error"
    where = {
        "split": f"{loss} on validation",
        "flat": f"{loss} on the reported folds",
        "seed": "accuracy on the reported fold",
    }
    inner = f"{loss} on one inner fold" if "tuning" in settings else f"pooled inner {loss}"
    return where.get(settings["protocol"], inner)


def _ranges(grid: list[dict[str, Any]]) -> str:
    """Return each hyper-parameter with the values that it takes."""
    values = {name: list(dict.fromkeys(str(setting.get(name)) for setting in grid)) for name in grid[0]}
    return " × ".join(f"{name} {', '.join(each)}" for name, each in values.items())


def _plain(value: Any) -> str:
    """Return a setting as a reader writes it; "" where there is none."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {json.dumps(v) if isinstance(v, dict | list) else v}" for name, v in value.items())
    if isinstance(value, list):
        return " or ".join(map(str, value))
    return "" if value is None else str(value)


def _flat(fields: dict[str, Any], within: str = "") -> list[tuple[str, Any]]:
    """Return nested fields as rows "a · b"."""
    rows: list[tuple[str, Any]] = []
    for name, value in fields.items():
        rows += _flat(value, f"{within}{name} · ") if isinstance(value, dict) else [(f"{within}{name}", value)]
    return rows
