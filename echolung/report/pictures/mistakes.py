"""The worst mistakes of a run as film strips, from the store's small frames: no video is needed."""

from pathlib import Path

from echolung.cache import TokenStore
from echolung.report.pictures.clips import clip_rows, has_previews, judged, strip_frames, verdict, whereabouts
from echolung.report.pictures.strips import Strip, draw_strips
from echolung.report.run import Run

SHOWN = 8


def caption(run: Run, store: TokenStore) -> str:
    """Return what the picture shows."""
    if not run.result.task.classes:
        return (
            f"The {SHOWN} largest errors among predictions by probes that had not seen the video, largest first; frames evenly "
            "over all segments."
        )
    return (
        f"The worst mistakes (at most {SHOWN}): true class and predicted class with the probabilities that they got from a "
        "probe which had not seen the video, the least probable truth first. Frames evenly over all segments."
    )


def draw_mistakes(run: Run, store: TokenStore, folder: Path) -> list[Path]:
    """Draw mistakes.png: a strip for each of the videos with the highest loss out of fold; nothing where none is wrong."""
    if not has_previews(store):
        return []
    table = judged(run.result)
    table = table[table["wrong"]].sort_values("loss", ascending=False, kind="stable")
    rows = clip_rows(store, table["video_id"].head(SHOWN).tolist())
    strips = [
        Strip(strip_frames(store, rows[video["video_id"]]), verdict(video), whereabouts(video))
        for _, video in table.iterrows()
        if video["video_id"] in rows
    ]
    if not strips:
        return []
    how = f"{len(strips)} of {len(table)} mistakes" if run.result.task.classes else "largest errors"
    return [draw_strips(strips, f"The worst: {how}, out of fold").save(folder / "mistakes.png")]
