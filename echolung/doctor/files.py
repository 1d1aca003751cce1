"""Stores and runs at home: whether this version can read them, and which were never finished."""

import json
import time
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from echolung.cache import TokenStore
from echolung.doctor.finding import Finding
from echolung.errors import EcholungError
from echolung.settings import home
from echolung.text import counted, in_bytes, listed, quoted

RECORD_SCHEMA = 2
"""What `echolung.report.run` writes; a test holds the two together."""


SAVING = 3600
"""Seconds after which a run that is still being saved is taken for one that was stopped."""


def check_files() -> list[Finding]:
    """Check stores, runs and what interrupted commands left."""
    return [
        *_stores(home() / "stores"),
        *_runs(home() / "runs"),
        *_pretraining(home() / "pretraining"),
        *_begun(home() / "finetuning", "fine-tuning"),
        *_begun(home() / "checkpoints" / ".incoming", "download"),
    ]


def _stores(folder: Path) -> list[Finding]:
    paths = sorted(folder.glob("*.zarr"))
    found, whole = [], 0
    for path in paths:
        try:
            store = TokenStore.open(path, unfinished=True)
            done = int(store.complete.sum())
        except EcholungError as error:
            fix = f"Extract again into its place: remove {path} first. Or use the version that wrote it."
            found.append(Finding("store", "fail", str(error), fix))
            continue
        if store.finished:
            whole += 1
        else:
            fix = "Run the same `echolung extract` again; it goes on where it stopped."
            found.append(Finding("store", "warn", f"{path.name} holds {done} of {store.clips} clips", fix))
    if whole or not paths:
        found.insert(0, Finding("stores", "pass", f"{whole} finished" if paths else "none yet"))
    return found


def _runs(folder: Path) -> list[Finding]:
    paths = sorted(path for path in folder.glob("*") if path.is_dir()) if folder.is_dir() else []
    problems = {path: _problem(path) for path in paths if not path.name.endswith(".partial")}
    older = [path.name for path, problem in problems.items() if problem == "older"]
    bad = {path: problem for path, problem in problems.items() if problem not in ("", "older")}
    found = [
        Finding("run", "warn", f"{path.name}: {problem}", "Repeat the run, or update echolung, if it is newer.")
        for path, problem in bad.items()
    ]
    if older:
        what = f"{len(older)} of an older version, which can still be read: {listed(older, 2)}"
        found.append(Finding("runs", "pass", what))
    partial = [path for path in paths if path.name.endswith(".partial")]
    if left := [path for path in partial if time.time() - path.stat().st_mtime > SAVING]:
        fix = f"Nothing needs them: rm -r {' '.join(repr(str(path)) for path in left[:3])}"
        found.append(Finding("runs", "warn", f"{len(left)} that were stopped while they were saved", fix))
    return [Finding("runs", "pass", f"{len(problems) - len(bad)} readable" if problems else "none yet"), *found]


def _problem(folder: Path) -> str:
    """Return what is wrong with a run folder: "", "older" (readable), or a phrase."""
    file = folder / "record.json"
    if not file.is_file():
        return ""  # a study, a comparison: kept otherwise
    try:
        record: dict[str, Any] = json.loads(file.read_text("utf-8"))
        schema = int(record["record_schema"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"record.json is damaged ({type(error).__name__})"
    if schema > RECORD_SCHEMA:
        return f"made by a newer version (schema {schema}, this one reads up to {RECORD_SCHEMA})"
    if missing := [name for name in record.get("files", {}) if not (folder / name).is_file()]:
        return f"{listed(missing, 3)} missing"
    return "older" if schema < RECORD_SCHEMA else ""


def _pretraining(folder: Path) -> list[Finding]:
    begun = sorted(file.parent.name for file in folder.glob("*/recipe.toml"))
    stopped = [name for name in begun if not (home() / "checkpoints" / f"{name}.safetensors").exists()]
    if not stopped:
        return [Finding("pretraining", "pass", f"{len(begun)} finished")] if begun else []
    fix = f"echolung pretrain --resume {stopped[0]} goes on; a run that goes on elsewhere just now is listed, too."
    return [Finding("pretraining", "warn", f"not finished: {listed(stopped, 3)}", fix)]


def _begun(folder: Path, what: str) -> list[Finding]:
    """Return what was begun and not finished: a folder each, with a lock beside it while somebody works on it."""
    left = [
        path for path in sorted(folder.glob("*")) if path.is_dir() and not _held(path.with_name(f"{path.name}.lock"))
    ]
    if not left:
        return []
    size = sum(file.stat().st_size for path in left for file in path.rglob("*") if file.is_file())
    fix = (
        "The command that began it goes on with it, typed again. Where it is not wanted any more: "
        f"rm -r {' '.join(quoted(path) for path in left[:3])}"
    )
    return [Finding(what, "warn", f"{counted(len(left), what)} not finished, {in_bytes(size)}", fix)]


def _held(lock: Path) -> bool:
    """Whether a process holds a lock."""
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # where no lock can be taken, nobody has one
        return False
