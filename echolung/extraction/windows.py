"""What a store says of its windows: where they begin, and how much of them is padding."""

import numpy as np
from jaxtyping import Int

from echolung.cache import TokenStore
from echolung.clips.plan import ClipPlan
from echolung.datasets.manifest import spans


def stored_starts(store: TokenStore) -> dict[str, tuple[int, ...]]:
    """Return the frame that each fixed window of a video begins with, counted from the video's first, for `write_starts`.

    Videos that could not be read are left out.
    """
    rows = store.rows.assign(start=_starts(store), complete=store.complete)
    fixed = rows[(rows["view"] == 0) & rows["complete"]].sort_values("segment", kind="stable")
    return {
        str(video): tuple(starts) for video, starts in fixed.groupby("video_id", sort=False)["start"].agg(list).items()
    }


def describe_padding(store: TokenStore, plan: ClipPlan) -> str | None:
    """Return a sentence on videos that are shorter than a clip, and on how much of all clips is padding; None where none is.

    A clip of black or grey padding is as long as all of its steps, the last included (CoReEcho: 36 × 4 = 144 frames).
    """
    if "video" not in store.group or not store.complete.any():
        return None
    facts, starts = store.array("video")[:].astype(float), _starts(store)
    length = facts[:, 0]
    step = np.full(len(length), float(plan.stride)) if plan.fps is None else facts[:, 3] / plan.fps
    fills = plan.pad in ("black", "grey")
    if fills:
        padded = (store.array("frames")[:] < 0).sum(1)
        needed = plan.frames * step
    else:
        wanted = starts[:, None] + step[:, None] * np.arange(plan.frames)
        padded = (wanted > length[:, None] - 0.5).sum(1)
        needed = (plan.frames - 1) * step + 1
    videos = store.rows["video_id"][store.complete]
    short = videos[(length < needed - 0.5)[store.complete]].nunique()
    if not fills and not short:
        return None
    share = padded[store.complete].sum() / (store.complete.sum() * plan.frames)
    are = "is" if short == 1 else "are"
    return (
        f"{short:,} of {videos.nunique():,} videos {are} shorter than a clip; {100 * share:.1f} % of all frames are "
        f"padding (--pad {plan.pad})."
    )


def _starts(store: TokenStore) -> Int[np.ndarray, " clips"]:
    """Return the first frame of each clip, counted from the video's first."""
    videos = store.snapshot.videos
    firsts = {video: span[0] if span else 0 for video, span in zip(videos["video_id"], spans(videos), strict=True)}
    return np.abs(store.array("frames")[:, 0] - store.rows["video_id"].map(firsts).to_numpy(np.int64))
