"""Attention laid over grey frames: transparent where a token gets no more than its share, bright where it gets many times it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int, UInt8

from echolung.cache import TokenStore
from echolung.probes import Features, Probe
from echolung.probes.attention import attention_maps
from echolung.report.pictures.clips import spread

OPAQUE = 0.8
"""Of the strongest colour; the frame must shine through."""


@dataclass(frozen=True)
class Looked:
    """What a probe attends to in one video.

    Attributes:
        times: how many times its even share each token gets [heads, segments, t, h, w].
        frames: small grey frames of the segments, one after the other.
        shown_at: for each frame its (segment, t) among the tokens.
    """

    times: Float32[np.ndarray, "heads segments t h w"]
    frames: UInt8[np.ndarray, "k 112 112"]
    shown_at: Int[np.ndarray, "k 2"]

    @property
    def mean(self) -> Float32[np.ndarray, "segments t h w"]:
        """The mean over heads."""
        return self.times.mean(0)

    def over_time(self) -> Float32[np.ndarray, " steps"]:
        """Return how many times its even share each time step gets, mean over heads."""
        return self.mean.mean((2, 3)).reshape(-1)


def look_at(probe: Probe, store: TokenStore, name: str, rows: Int[np.ndarray, " segments"], fusion: str) -> Looked:
    """Return what a probe attends to in the video `name`, whose segments are `rows` of the store."""
    tokens = store.tokens(rows)
    runs = len(rows) if fusion == "late" else 1
    features = Features((name,), tokens.reshape(1, 1, -1, tokens.shape[-1]), runs)
    times = attention_maps(probe, features)[0] * (features.n // runs)
    previews = store.previews(rows)
    length, steps = store.array("frames").shape[1], store.grid[0]
    # Previews are frames of the clip at even distances, and a token spans length / steps frames.
    step = np.minimum(spread(length, previews.shape[1]) * steps // length, steps - 1)
    shown_at = np.stack([np.repeat(np.arange(len(rows)), len(step)), np.tile(step, len(rows))], 1)
    return Looked(times.reshape(-1, len(rows), *store.grid), previews.reshape(-1, *previews.shape[2:]), shown_at)


def half_on(times: Float[np.ndarray, "..."]) -> float:
    """Return the least share of tokens that together get half of the attention."""
    ordered = np.sort(times.reshape(-1))[::-1].cumsum()
    return float((np.searchsorted(ordered, ordered[-1] / 2) + 1) / times.size)


def upper_end(looked: list[Looked]) -> float:
    """Return where the scale of several videos ends: a power of 2 above nearly all that is shown, 2 at least."""
    highest = max(float(np.quantile(video.times, 0.999)) for video in looked)
    return float(2 ** np.ceil(np.log2(max(highest, 2))))


def colour_scale(end: int | float) -> Any:
    """Return the colours from 1 to `end` times the even share, of equal steps to the eye for each doubling."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, LogNorm

    # Inferno without its darkest part, which no one sees on a dark frame.
    colours = ListedColormap(colormaps["inferno"](np.linspace(0.3, 1, 256)))
    return ScalarMappable(LogNorm(1, end), colours)


def overlay(
    times: Float32[np.ndarray, "segments t h w"], video: Looked, places: Int[np.ndarray, " k"], scale: Any
) -> UInt8[np.ndarray, "k 112 112 3"]:
    """Return some frames of a video in colour, with a map over them."""
    segment, step = video.shown_at[places].T
    frames = video.frames[places]
    coarse = torch.from_numpy(np.ascontiguousarray(times[segment, step]))[:, None]
    fine = F.interpolate(coarse, frames.shape[1:], mode="bilinear", align_corners=False)[:, 0].numpy()
    weight = np.clip(np.log(np.maximum(fine, 1)) / np.log(scale.norm.vmax), 0, 1)
    colour = scale.cmap(weight)[..., :3] * 255
    alpha = OPAQUE * weight[..., None] ** 0.75
    return np.round(alpha * colour + (1 - alpha) * frames[..., None]).astype(np.uint8)
