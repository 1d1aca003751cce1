"""Are the videos on disk still those a store was made of? Decided without torch."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from echolung.cache import Snapshot, TokenStore
from echolung.cache.moving import is_there
from echolung.cache.tables import as_stored
from echolung.clips.decode import Span
from echolung.clips.starts import starts_of
from echolung.clips.workers import CRASHED, TIMED_OUT, source_digest, source_files
from echolung.datasets import Manifest
from echolung.datasets.manifest import SPAN, spans
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
        content: the source's content is another, or it could not be read and is another file now, or other frames of it
            are the video.
        touched: the time stamp is another, the content the same.
        mtimes: the time stamps as they are now.
        gone: the source is no longer there; its tokens stay.
    """

    content: Bool[np.ndarray, " clips"]
    touched: Bool[np.ndarray, " clips"]
    mtimes: Int[np.ndarray, " clips"]
    gone: Bool[np.ndarray, " clips"]


def cut_from(videos: pd.DataFrame) -> list[tuple[str, Span | None, tuple[int, ...] | None]]:
    """Return of each video of a table its path, which frames of the file it is, and where its clips begin, if that is stored."""
    return list(zip(videos["path"].astype(str), spans(videos), starts_of(videos), strict=True))


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
    content = mended | (~gone & _other_frames(store, manifest))
    for clip in np.flatnonzero(suspect):
        content[clip] |= digests[video[clip]] != held_digest[clip]
    return Changes(content, suspect & ~content & (held_mtime != mtimes), mtimes, store.complete & gone)


def _other_frames(store: TokenStore, manifest: Manifest) -> Bool[np.ndarray, " clips"]:
    """Return which clips are of other frames of the same file than the manifest names now."""
    held = store.snapshot.videos
    if not any(name in table for table in (held, manifest.videos) for name in SPAN):
        return np.zeros(store.clips, bool)
    before, now = (dict(zip(table["video_id"], spans(table), strict=True)) for table in (held, manifest.videos))
    changed = {video for video in before.keys() & now.keys() if before[video] != now[video]}
    return store.rows["video_id"].isin(changed).to_numpy(bool)


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
