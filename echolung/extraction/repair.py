"""Put a damaged store right: rewrite what the layout and the dataset say, decode or encode again what only videos hold.

Every clip is encoded in the batch that it was in before, so a repaired store is bit for bit what it was (on the device
that it was made on).
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from echolung.cache import StoreWriter, TokenStore
from echolung.cache.damage import Damage, Verification
from echolung.cache.locking import WriterLock, gate
from echolung.cache.mending import clear_strays, intact_columns, mend_metadata, replace_rows, salvage
from echolung.cache.metadata import read_document
from echolung.cache.verify import verify
from echolung.clips.workers import TIME_LIMIT, prepare_video, run_in_workers, source_digest
from echolung.errors import DecodeError, InputError, RunError
from echolung.extraction.plan import ExtractionPlan
from echolung.extraction.rebuild import plan_of
from echolung.extraction.sources import cut_from, read_sources
from echolung.text import listed

ENCODED = ("tokens", "pooled")
DECODED = ("frames", "preview", "video")
OF_SOURCE = ("source_digest", "source_size", "source_mtime")

Extract = Callable[[ExtractionPlan], object]
"""How the extraction is run: `echolung.extraction.run.extract` with the caller's device, workers and progress."""


def repair(
    found: Verification,
    extract: Extract,
    *,
    data: Path | None = None,
    encoder: str | None = None,
    labels: dict[str, Any] | None = None,
    workers: int | None = None,
    time_limit: float = TIME_LIMIT,
    log: Callable[[str], None] = lambda text: None,
) -> None:
    """Put right what `verify` found. Verify again afterwards: it has the last word.

    Args:
        found: what is broken.
        extract: runs an extraction.
        data: where the dataset is now; see `plan_of`, here and for the next two.
        encoder: where the weights are now.
        labels: options of a table of one's own.
        workers: decoding processes; default one a core.
        time_limit: seconds that decoding one video may take.
        log: is told what is done.

    Raises:
        InputError: another process writes the store; it is at a URL; dataset or weights are others, or gone. Nothing is changed.
        RunError: the damage is of a kind that only a new extraction puts right.
    """
    path = _folder(found)
    if hopeless := [damage.what for damage in found.damages if damage.kind == "attributes"]:
        raise RunError(
            f"{path.name} cannot be repaired: {hopeless[0]}. What it was made of is known from there alone, so remove the "
            "store and extract again."
        )
    with WriterLock(path) as lock:
        with gate(path):
            lock.enter()
            plan = _mend_files(found, data, encoder, labels, log)
        if plan is not None:
            # Metadata that were damaged may have hidden more.
            hidden = any(damage.kind == "metadata" for damage in found.damages)
            _mend_clips(plan, verify(found.path) if hidden else found, workers, time_limit, log)
        with gate(path):
            lock.leave()
    if plan is not None:
        _finish(plan, extract)


def _folder(found: Verification) -> Path:
    """Return the folder of a store; InputError where it is at a URL."""
    path = found.path
    if not isinstance(path, Path):
        raise InputError(
            f"A store at a URL cannot be repaired where it is. Copy {path} into a folder, repair it there, and copy it back; "
            "or extract again."
        )
    return path


def _mend_files(
    found: Verification,
    data: Path | None,
    encoder: str | None,
    labels: dict[str, Any] | None,
    log: Callable[[str], None],
) -> ExtractionPlan | None:
    """Mend strays, metadata and tables; return the plan where clips are damaged, too."""
    of = {kind: [d for d in found.damages if d.kind == kind] for kind in ("stray", "metadata", "table", "data")}
    plan = None
    if of["table"] or of["data"] or of["metadata"]:
        # First of all, because it raises where dataset or weights are not those of the store: then nothing is touched.
        attributes = (read_document(found.path) or {})["attributes"]
        intact = not any(damage.array.split("/")[0] == "manifest" for damage in of["table"])
        snapshot = TokenStore.open(found.path, unfinished=True).snapshot if intact else None
        plan = plan_of(_folder(found), attributes, snapshot, data=data, encoder=encoder, labels=labels)
        _check_sources(plan, of["data"])
    if kept := clear_strays(_folder(found), of["stray"]):
        log(f"Files that belong to no array stay; move them away yourself: {listed(kept, 5)}.")
    if of["metadata"]:
        log(f"Writing the metadata of {listed(d.array for d in of['metadata'])} anew.")
        mend_metadata(_folder(found), of["metadata"])
    if plan is not None and of["table"]:
        plan = _mend_tables(plan, of["table"], log)
    return plan


def _check_sources(plan: ExtractionPlan, damages: list[Damage]) -> None:
    settled = ("complete", "error")  # found out from the other arrays
    needed = {video for damage in damages if damage.array not in settled for video in damage.videos} - {"?"}
    sizes = dict(zip(plan.manifest.videos["video_id"], read_sources(plan.manifest).sizes, strict=True))
    if gone := sorted(video for video in needed if sizes.get(video, -1) < 0):
        raise InputError(
            f"{plan.path.name} cannot be repaired without the videos that are damaged in it, and these are not under "
            f"{plan.manifest.root}: {listed(gone, 5)}. Nothing was changed. Say with --data where they are."
        )


# ---- tables ----------------------------------------------------------------------------------------------------------


def _mend_tables(plan: ExtractionPlan, damages: list[Damage], log: Callable[[str], None]) -> ExtractionPlan:
    """Write the damaged tables anew from the dataset; return the plan with the videos that the store has."""
    broken = {damage.array.split("/")[0] for damage in damages}
    log(f"Writing the table {listed(sorted(broken))} anew from the dataset.")
    if "rows" in broken:
        rows, held = plan.rows(), intact_columns(Path(str(plan.path)), damages)
        _check_rows(plan, rows, held)
        replace_rows(Path(str(plan.path)), rows.assign(**held))
    if "manifest" in broken:
        store = TokenStore.open(plan.path, plan.key, writing=True)
        wanted = store.rows["video_id"].unique()
        videos = plan.manifest.videos.set_index("video_id", drop=False)
        if gone := sorted(set(wanted) - set(videos.index)):
            raise RunError(
                f"The table manifest of {plan.path.name} is damaged, and cannot be made again, because the dataset at "
                f"{plan.manifest.root} no longer has {listed(gone, 5)}. Put them back, or extract again."
            )
        kept = videos[videos.index.isin(wanted)].reset_index(drop=True)
        plan = replace(plan, manifest=replace(plan.manifest, videos=kept))
        store.replace_snapshot(plan.snapshot())
    return plan


def _check_rows(plan: ExtractionPlan, rows: pd.DataFrame, held: pd.DataFrame) -> None:
    """Raise RunError unless the rows that the dataset gives are those of the store, by all that is left to compare."""
    store = TokenStore.open(plan.path, plan.key, unfinished=True)
    same = len(rows) == store.clips
    for column in {"video_id", "segment", "view"} & set(held):
        same = same and bool((held[column].to_numpy() == rows[column].to_numpy()).all())
    if same and "video_id" not in held:
        same = _same_videos(store, plan, rows)
    if not same:
        raise RunError(
            f"The table rows of {plan.path.name} is damaged, and cannot be made again, because the dataset at "
            f"{plan.manifest.root} is no longer the one that was extracted. Put it back as it was, or extract again."
        )


def _same_videos(store: TokenStore, plan: ExtractionPlan, rows: pd.DataFrame) -> bool:
    """Whether the videos are, in their order, those behind the store: by content, by size where the digests are damaged."""
    at = {video: row for row, video in enumerate(plan.manifest.videos["video_id"])}
    sizes = read_sources(plan.manifest).sizes
    now: dict[str, Callable[[int], object]] = {
        "source_digest": lambda row: source_digest(plan.manifest.file(row)),
        "source_size": lambda row: int(sizes[row]),
    }
    firsts = np.flatnonzero(~rows["video_id"].duplicated().to_numpy()).tolist()
    for name, current in now.items():
        try:
            held = store.array(name)[:]
        except Exception:  # it is damaged, too
            continue
        return all(held[i] in ("", -1) or held[i] == current(at[rows["video_id"][i]]) for i in firsts)
    return False


# ---- clips -----------------------------------------------------------------------------------------------------------


def _mend_clips(
    plan: ExtractionPlan, found: Verification, workers: int | None, time_limit: float, log: Callable[[str], None]
) -> None:
    """Salvage what can be read, and mark the clips that have to be encoded again."""
    rows = {damage.array: np.zeros(0, np.int64) for damage in found.damages if damage.kind == "data"}
    for damage in found.damages:
        if damage.kind == "data":
            rows[damage.array] = np.union1d(rows[damage.array], damage.rows).astype(np.int64)
    if not rows:
        return
    _check_sources(plan, [damage for damage in found.damages if damage.kind == "data"])
    store = TokenStore.open(plan.path, plan.key, writing=True)
    store.group.attrs["finished"] = False
    for name, clips in rows.items():
        salvage(store.array(name), Path(str(store.path)) / name, clips)
    _settle(store, rows, found.finished)
    again = np.unique(np.concatenate([clips for name, clips in rows.items() if name in ENCODED] or [np.zeros(0, int)]))
    again = again[store.complete[again]]
    store.reopen(again)
    names = [name for name in (*DECODED, *OF_SOURCE) if name in rows]
    if names:
        others = np.unique(np.concatenate([rows[name] for name in names]))
        changed = _decode_again(store, plan, np.setdiff1d(others, again), names, workers, time_limit)
        store.reopen(changed)
    if count := int(store.missing.sum()):
        log(f"Encoding {count} clips again: {listed(store.rows['video_id'][store.missing].unique(), 5)}.")


def _settle(store: StoreWriter, rows: dict[str, np.ndarray], finished: bool) -> None:
    """Find out anew which clips are complete where `complete` or `error` was damaged: from what else a clip must have."""
    if not {"complete", "error"} & set(rows):
        return
    complete, error = store.array("complete")[:], store.array("error")[:]
    doubtful = rows.get("complete", np.zeros(0, np.int64))
    # Of an unfinished store a clip may have values and yet be to encode again, because its video changed.
    whole = np.isfinite(store.array("pooled")[:]).all(axis=1) & finished
    for name in set(rows) & set(ENCODED):
        whole[rows[name]] = False
    error[doubtful[whole[doubtful]]] = np.where("error" in rows, "", error[doubtful[whole[doubtful]]])
    complete[doubtful] = whole[doubtful] & (error[doubtful] == "")
    store.array("complete")[:] = complete
    store.array("error")[:] = error
    store.forget()


def _decode_again(
    store: StoreWriter,
    plan: ExtractionPlan,
    clips: np.ndarray,
    names: list[str],
    workers: int | None,
    time_limit: float,
) -> np.ndarray:
    """Put `names` of the `clips` right from their videos, without an encoder; return those whose video is another now."""
    at = {video: row for row, video in enumerate(plan.manifest.videos["video_id"])}
    sources = read_sources(plan.manifest)
    held = {name: store.array(name)[:] for name in OF_SOURCE}
    rows_of = store.rows.groupby("video_id", sort=False).indices
    wanted = np.isin(np.arange(store.clips), clips)
    videos = [str(video) for video, rows in rows_of.items() if wanted[rows].any()]
    changed: list[int] = []

    cut = cut_from(plan.manifest.videos)

    def arguments(video: str) -> tuple[Any, ...]:
        return plan.manifest.file(at[video]), video, plan.clips, plan.decoder, *cut[at[video]][1:]

    if set(names) <= set(OF_SOURCE):
        decoded: Any = ((video, source_digest(plan.manifest.file(at[video]))) for video in videos)
    else:
        decoded = run_in_workers(prepare_video, videos, arguments, workers, time_limit)
    for video, result in decoded:
        rows = rows_of[video]
        mine = rows[wanted[rows] & store.complete[rows]]
        size, mtime = sources.of(at[video])
        failed = isinstance(result, DecodeError)
        digest = "" if failed else result if isinstance(result, str) else result.digest
        fresh = {"source_digest": digest, "source_size": size, "source_mtime": mtime}
        # What is left of the three says whether it is still the video that was encoded.
        left = [name for name in ("source_digest", "source_size") if name not in names]
        if mine.size and (failed or not left or any(held[name][mine[0]] != fresh[name] for name in left)):
            changed += mine.tolist()
            continue
        for name in names:
            if name in ("source_size", "source_mtime"):  # known of unreadable videos, too
                store.array(name).oindex[rows[wanted[rows]]] = np.full(int(wanted[rows].sum()), fresh[name])
            elif mine.size and name == "source_digest":
                store.array(name).oindex[mine] = np.full(len(mine), digest, object)
            elif mine.size and name in DECODED:
                facts = np.tile(result.video, (len(rows), 1))
                values = {"frames": result.frames, "preview": result.previews, "video": facts}[name]
                store.put(name, mine, values[np.flatnonzero(np.isin(rows, mine))])
    return np.array(changed, np.int64)


def _finish(plan: ExtractionPlan, extract: Extract) -> None:
    """Encode what is missing; a store in which nothing is needs no encoder."""
    store = TokenStore.open(plan.path, plan.key, unfinished=True)
    if store.missing.any():
        extract(plan)
    elif not store.finished:
        TokenStore.open(plan.path, plan.key, writing=True).finish()
