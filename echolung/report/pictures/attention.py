"""What an attentive probe looks at, over the clips themselves: film strips for each head, and all clips moving."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from echolung.cache import TokenStore
from echolung.probes.attention import attends
from echolung.report.pictures.animation import Tile, save_animation
from echolung.report.pictures.clips import clip_rows, has_previews, judged, spread, verdict, whereabouts
from echolung.report.pictures.overlay import Looked, colour_scale, half_on, look_at, overlay, upper_end
from echolung.report.pictures.strips import BAR, BESIDE, EDGE, FAINT, Sheet, Strip, draw_strips
from echolung.report.run import Run

CLIPS, HEADS = 6, 4
"""Videos and heads shown, at most."""

FOOT = 92
"""Pixels of the attention over time, below the strips."""


def caption(run: Run, store: TokenStore) -> str:
    """Return what the pictures show, and what they do not."""
    heads = "queries" if _name_of(run) == "query" else "heads"
    return (
        "What the saved probe attends to, in the videos judged best and worst. Colours: how many times its even share a token "
        "gets; where it gets no more, the frame is bare. A colour means the same in all of them. Rows: the mean over all "
        f"{heads}, then the {HEADS} most focused; “half on 3 %” means that 3 % of the tokens get half of the attention. Below: "
        "attention over time. The saved probe was fitted on everything, so it has seen these clips; the predictions in the "
        "titles are of probes that had not. Attention says where a probe reads, not why it decides."
    )


def draw_attention(run: Run, store: TokenStore, folder: Path) -> list[Path]:
    """Draw attention-1.png, … and attention.webp; nothing without an attentive probe, tokens and small frames."""
    probe = run.result.probe
    if probe is None or not attends(probe) or not has_previews(store) or not store.token_shape[0]:
        return []
    table = choose(judged(run.result), run.result.task.classes)
    rows = clip_rows(store, table["video_id"].tolist())
    videos = [video for _, video in table.iterrows() if video["video_id"] in rows]
    fusion = run.result.settings.get("fusion", "early")
    looked = [look_at(probe, store, video["video_id"], rows[video["video_id"]], fusion) for video in videos]
    if not looked:
        return []
    scale = colour_scale(upper_end(looked))
    heads = np.argsort(
        [np.mean([half_on(video.times[head]) for video in looked]) for head in range(len(looked[0].times))]
    )
    paths = []
    for number, (video, seen) in enumerate(zip(videos, looked, strict=True), 1):
        sheet = _strips(video, seen, heads[:HEADS].tolist(), scale, _name_of(run))
        paths.append(sheet.save(folder / f"attention-{number}.png"))
    return [*paths, _moving(videos, looked, scale, folder / "attention.webp")]


def choose(table: pd.DataFrame, classes: tuple[str, ...]) -> pd.DataFrame:
    """Return the rows of `judged` to be shown: of each class the best and the worst; of numbers also low, middle and high."""
    ordered = table.sort_values(["loss", "video_id"], kind="stable")
    if classes:
        best = ordered.drop_duplicates("truth").sort_values("truth", kind="stable")
        worst = ordered.drop_duplicates("truth", keep="last")[::-1]
        chosen = [best.head(CLIPS - 2), worst]
    else:
        by_truth = table.sort_values(["truth", "video_id"], kind="stable")
        chosen = [ordered.head(1), ordered.tail(1), by_truth.iloc[spread(len(by_truth), 3)]]
    return pd.concat(chosen).drop_duplicates("video_id").head(CLIPS)


def _strips(video: "pd.Series[Any]", seen: Looked, heads: list[int], scale: Any, name: str) -> Sheet:
    places = spread(len(seen.frames))
    strips = [Strip(seen.frames[places], beside="frames")]
    singles = [(f"{name} {head + 1}", seen.times[head]) for head in heads]
    for label, times in [("mean", seen.mean), *singles]:
        strips.append(Strip(overlay(times, seen, places, scale), beside=f"{label}\nhalf on {_percent(half_on(times))}"))
    title = f"{verdict(video)} (out of fold; the probe drawn here has seen this clip)\n{whereabouts(video)}"
    sheet = draw_strips(strips, title, scale, "its even\nshare", foot=FOOT)
    _time_line(sheet, seen)
    return sheet


def _time_line(sheet: Sheet, seen: Looked) -> None:
    """Draw attention over time below the strips."""
    left = EDGE + BESIDE
    axes = sheet.axes(left, sheet.height - FOOT + 6, sheet.width - left - BAR, FOOT - 42)
    values = seen.over_time()
    axes.bar(np.arange(len(values)) + 0.5, values, width=0.86, color="#7d5ba6")
    axes.axhline(1, color=FAINT, lw=0.9, ls=(0, (4, 3)))
    segments = seen.times.shape[1]
    steps = len(values) // segments
    for edge in range(steps, len(values), steps):
        axes.axvline(edge, color=FAINT, lw=0.9)
    axes.set_xlim(0, len(values))
    axes.set_ylim(0, max(1.5, 1.1 * float(values.max())))
    if segments <= 12:
        axes.set_xticks(np.arange(segments) * steps + steps / 2, [f"segment {s + 1}" for s in range(segments)])
    else:
        axes.set_xticks([])
        axes.set_xlabel(f"{segments} segments", fontsize=8.5)
    axes.tick_params(labelsize=8.5, length=0)
    axes.set_ylabel("over\ntime", fontsize=9, rotation=0, ha="right", va="center")
    axes.spines[["top", "right", "left"]].set_visible(False)


def _moving(videos: list["pd.Series[Any]"], looked: list[Looked], scale: Any, path: Path) -> Path:
    every = np.arange(len(looked[0].frames))
    tiles = [
        Tile(overlay(seen.mean, seen, every, scale), _short(video), str(video["video_id"]))
        for video, seen in zip(videos, looked, strict=True)
    ]
    return save_animation(tiles, path)


def _short(video: "pd.Series[Any]") -> str:
    """Return "covid → pneumonia 83 %", of the truth and the prediction."""
    if pd.isna(video["sure"]):
        return f"{video['truth']:.4g} → {video['predicted']:.4g}"
    return f"{video['truth']} → {video['predicted']} {100 * video['sure']:.0f} %"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.1g} %"


def _name_of(run: Run) -> str:
    probe = run.result.probe
    return "query" if probe is not None and probe.kind == "attentive-lite" else "head"
