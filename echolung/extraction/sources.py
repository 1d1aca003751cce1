"""Are the videos on disk still those a store was made of? Decided without torch."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from echolung.cache import TokenStore
from echolung.clips.workers import source_digest, source_files
from echolung.datasets import Manifest
from echolung.extraction.plan import ExtractionPlan


@dataclass(frozen=True)
class Sources:
    """Size in bytes and time of last change (ns) of every video of a manifest; -1 where the file is not there."""

    sizes: Int[np.ndarray, " videos"]
    mtimes: Int[np.ndarray, " videos"]


@dataclass(frozen=True)
class Changes:
    """How the videos on disk differ from those a store was made of, a flag for each clip of the store.

    Attributes:
        content: the source's content is another.
        touched: the time stamp is another, the content the same.
        mtimes: the time stamps as they are now.
        gone: the source is no longer there; its tokens stay.
    """

    content: Bool[np.ndarray, " clips"]
    touched: Bool[np.ndarray, " clips"]
    mtimes: Int[np.ndarray, " clips"]
    gone: Bool[np.ndarray, " clips"]


def read_sources(manifest: Manifest) -> Sources:
    """Return the size and time stamp of every video (for a folder of images: their sum and the latest)."""
    sizes, mtimes = [], []
    for row in range(len(manifest.videos)):
        try:
            stats = [file.stat() for file in source_files(manifest.file(row))]
        except OSError:
            stats = []
        sizes.append(sum(s.st_size for s in stats) if stats else -1)
        mtimes.append(max((s.st_mtime_ns for s in stats), default=-1))
    return Sources(np.array(sizes, np.int64), np.array(mtimes, np.int64))


def find_changes(store: TokenStore, manifest: Manifest, sources: Sources, rehash: bool = False) -> Changes:
    """Compare the videos with what the store was made of: by size and time stamp, by content where those differ or `rehash`."""
    at = {video: row for row, video in enumerate(manifest.videos["video_id"])}
    video = np.array([at.get(name, -1) for name in store.rows["video_id"]])
    gone = (video < 0) | (sources.sizes[video] < 0)
    sizes, mtimes = sources.sizes[video], sources.mtimes[video]
    held_size, held_mtime = store.group["source_size"][:], store.group["source_mtime"][:]
    suspect = store.complete & ~gone & (rehash | (held_size != sizes) | (held_mtime != mtimes))
    digests = {row: source_digest(manifest.file(row)) for row in np.unique(video[suspect]).tolist()}
    held_digest = store.group["source_digest"][:]
    content = np.zeros(store.clips, bool)
    for clip in np.flatnonzero(suspect):
        content[clip] = digests[video[clip]] != held_digest[clip]
    return Changes(content, suspect & ~content & (held_mtime != mtimes), mtimes, store.complete & gone)


def finished_store(plan: ExtractionPlan, rehash: bool = False, retry: bool = False) -> TokenStore | None:
    """Return the plan's store where there is nothing left to do, else None.

    Raises:
        InputError: what is at the plan's path has another key or schema.
    """
    if not plan.path.exists():
        return None
    store = TokenStore.open(plan.path, plan.key, writing=False, unfinished=True)
    if not store.finished or (retry and store.failures):
        return None
    if set(plan.manifest.videos["video_id"]) - set(store.rows["video_id"]):
        return None
    changes = find_changes(store, plan.manifest, read_sources(plan.manifest), rehash)
    same_table = snapshot_outdated(store, plan)
    return None if changes.content.any() or changes.touched.any() or same_table else store


def snapshot_outdated(store: TokenStore, plan: ExtractionPlan) -> bool:
    """Whether the dataset's table now says something else about the store's videos than when it was last looked at."""
    held, now = store.snapshot, plan.snapshot()
    if len(now.videos) != len(held.videos):
        return False  # videos are gone from disk; what is known of them stays
    return held.tasks != now.tasks or _as_text(held) != _as_text(now)


def _as_text(snapshot: "object") -> str:
    return snapshot.videos.fillna("").to_csv(index=False)  # type: ignore[attr-defined]
