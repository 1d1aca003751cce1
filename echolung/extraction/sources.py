"""Are the videos on disk still those a store was made of? Decided without torch."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from echolung.cache import Snapshot, TokenStore
from echolung.cache.moving import is_there
from echolung.cache.tables import as_stored
from echolung.clips.workers import CRASHED, TIMED_OUT, source_digest, source_files
from echolung.datasets import Manifest
from echolung.extraction.plan import ExtractionPlan


@dataclass(frozen=True)
class Sources:
    """Size in bytes and time of last change (ns) of every video of a manifest; -1 where the file is not there."""

    sizes: Int[np.ndarray, " videos"]
    mtimes: Int[np.ndarray, " videos"]

    def of(self, row: int | None) -> tuple[int, int]:
        """Return (size, time stamp) of the video in a row of the manifest; -1 where it is in none."""
        return (-1, -1) if row is None else (int(self.sizes[row]), int(self.mtimes[row]))


@dataclass(frozen=True)
class Changes:
    """How the videos on disk differ from those a store was made of, a flag for each clip of the store.

    Attributes:
        content: the source's content is another, or it could not be read and is another file now.
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
    held_size, held_mtime = store.array("source_size")[:], store.array("source_mtime")[:]
    differs = (held_size != sizes) | (held_mtime != mtimes)
    mended = store.failed & ~gone & differs  # of an unreadable video there is no digest to compare
    suspect = store.complete & ~gone & (rehash | differs)
    digests = {row: source_digest(manifest.file(row)) for row in np.unique(video[suspect]).tolist()}
    held_digest = store.array("source_digest")[:]
    content = mended
    for clip in np.flatnonzero(suspect):
        content[clip] = digests[video[clip]] != held_digest[clip]
    return Changes(content, suspect & ~content & (held_mtime != mtimes), mtimes, store.complete & gone)


def worth_retrying(store: TokenStore) -> Bool[np.ndarray, " clips"]:
    """Return which unreadable clips failed by what may have been the machine's fault, so that each run tries them again."""
    errors = store.array("error")[:]
    return np.array([str(error).startswith((CRASHED, TIMED_OUT)) for error in errors], bool)


def finished_store(
    plan: ExtractionPlan, rehash: bool = False, retry: bool = False, strict: bool = False
) -> TokenStore | None:
    """Return the plan's store where there is nothing left to do, or (strict) to complain of, else None.

    Raises:
        InputError: what is at the plan's path has another key or schema.
    """
    if not is_there(plan.path):
        return None
    store = TokenStore.open(plan.path, plan.key, writing=False, unfinished=True)
    if not store.finished or ((retry or strict) and store.failed.any()) or worth_retrying(store).any():
        return None
    if set(plan.manifest.videos["video_id"]) - set(store.rows["video_id"]):
        return None
    changes = find_changes(store, plan.manifest, read_sources(plan.manifest), rehash)
    return None if changes.content.any() or changes.touched.any() or newer_snapshot(store, plan) else store


def newer_snapshot(store: TokenStore, plan: ExtractionPlan) -> Snapshot | None:
    """Return the dataset's table as it now is, None where the store's says the same; what is known of gone videos stays."""
    held, now = store.snapshot, plan.snapshot()
    videos = as_stored(now.videos)
    gone = ~held.videos["video_id"].isin(videos["video_id"])
    if gone.any():
        videos = as_stored(pd.concat([videos, held.videos[gone]], ignore_index=True))
    same = held.tasks == now.tasks and held.videos.equals(videos)
    return None if same else Snapshot(now.dataset, videos, now.tasks)
