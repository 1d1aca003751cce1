"""The videos that a pretraining run learns from: several datasets as one, without those kept for a test, in a seeded order."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from echolung.datasets import Manifest
from echolung.datasets.manifest import SPAN
from echolung.errors import InputError
from echolung.text import listed

KEPT = ("train",)
LEFT_OUT = ("val", "valid", "validation", "test")
"""What a column `split` may say, in any case."""

ROUND_TAG, DATASET_TAG = 401, 402
"""First counters after the seed of what is drawn here: the order of a round, the order within a dataset."""


def parse_mix(text: str) -> dict[str, float | None]:
    """Return dataset -> weight (None where it has none) from a text such as "echonet-dynamic:2,echonet-pediatric:1".

    Raises:
        InputError: no name, a weight that is no positive number, or a name that comes twice.
    """
    mix: dict[str, float | None] = {}
    for item in (part.strip() for part in text.split(",")):
        name, colon, weight = item.rpartition(":")
        if not colon or "/" in weight or "\\" in weight:  # a CSV's path may hold a colon
            name, weight = item, ""
        if not name or (colon and name != item and not weight):
            raise InputError(f"{text!r} must be NAME or NAME:WEIGHT, several apart by commas; it has {item!r}.")
        if name in mix:
            raise InputError(f"{text!r} names {name} twice.")
        mix[name] = _weight(item, weight) if weight else None
    return mix


def _weight(item: str, text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not 0 < weight < math.inf:
        raise InputError(f"The weight in {item!r} must be a number above 0, such as {item.rpartition(':')[0]}:2.")
    return weight


@dataclass(frozen=True, eq=False)
class Pool:
    """Videos of one or more datasets.

    Attributes:
        videos: dataset, video_id, path (absolute), file (the path within its dataset), first_frame and last_frame (NaN: all),
            sorted by dataset and video_id.
        weights: dataset -> share of the clips, relative to the others'. None: every video as often as any other.
        notes: what was left out or guessed, a sentence each.
        left_out: dataset -> videos left out for their split; holds every dataset looked at.
    """

    videos: pd.DataFrame
    weights: dict[str, float] | None = None
    notes: tuple[str, ...] = ()
    left_out: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls, manifests: Sequence[Manifest], weights: Mapping[str, int | float] | None = None, all_splits: bool = False
    ) -> "Pool":
        """Return the pool of some datasets, without the videos whose column `split` is validation, test or unknown.

        Args:
            manifests: of the datasets; one without a column `split` gives all its videos.
            weights: dataset -> weight; 1 where it is not named. None: every video as often as any other.
            all_splits: take everything.

        Raises:
            InputError: a dataset comes twice, a column `split` says something else, a weight is of none of the datasets, or
                nothing is left.
        """
        names = [manifest.name for manifest in manifests]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise InputError(f"The pool has the dataset {listed(twice)} twice. Name each once.")
        if odd := sorted(set(weights or {}) - set(names)):
            raise InputError(f"There is a weight for {listed(odd)}, and the pool holds {listed(names) or 'nothing'}.")
        parts, notes, left_out = [], [], {}
        for manifest in manifests:
            kept, said = _kept(manifest, all_splits)
            parts.append(_table(manifest, kept))
            notes += said
            left_out[manifest.name] = int((~kept).sum())
        videos = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
        if videos.empty:
            looked = [f"{m.name} ({len(m.videos)} videos under {m.root}, all left out)" for m in manifests]
            raise InputError(
                f"The pool is empty: looked at {listed(looked) or 'no dataset'}. Name a dataset with videos to train on; "
                "--all-splits takes those for validation and test too."
            )
        videos = videos.sort_values(["dataset", "video_id"], ignore_index=True)
        present = set(videos["dataset"])
        shares = None if weights is None else {name: float(weights.get(name, 1.0)) for name in sorted(present)}
        return cls(videos, shares, tuple(notes), left_out)

    @property
    def names(self) -> list[str]:
        """Return "dataset/video_id" of every row."""
        return (self.videos["dataset"] + "/" + self.videos["video_id"]).tolist()

    @property
    def digest(self) -> str:
        """Return the SHA-256 of names, paths within their datasets, and weights: equal where `order` means the same."""
        content = [self.videos[["dataset", "video_id", "file"]].to_numpy(str).tolist(), self.weights]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def describe(self) -> list[str]:
        """Return a line a dataset: videos taken, left out, and its share of the clips."""
        counts = self.videos["dataset"].value_counts()
        shares = {name: n / len(self.videos) for name, n in zip(self._datasets, self._picks or (), strict=False)}
        lines = []
        for name in sorted({*self.left_out, *counts.index}):
            left = self.left_out.get(name, 0)
            lines.append(
                f"{name}: {counts.get(name, 0):,} videos"
                + (f", {left:,} left out" if left else "")
                + (f", {shares[name]:.0%} of the clips" if name in shares else "")
            )
        return lines

    def order(self, seed: int, positions: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """Return the rows of `videos` at some positions of the endless stream of clips that `seed` gives.

        The stream goes in rounds of as many clips as there are videos. Without weights a round is all videos in a new order.
        With them, dataset d has its share of a round, and its videos come in an order in which each comes once before any
        comes twice. Any position follows from the seed alone, so nothing need be saved to go on from there.
        """
        count = len(self.videos)
        rounds, places = np.divmod(np.asarray(positions, np.int64), count)
        rows = np.empty(len(rounds), np.int64)
        for number in np.unique(rounds):
            here = rounds == number
            rows[here] = _round(seed, int(number), self._sizes, self._picks)[places[here]]
        return rows

    @cached_property
    def _datasets(self) -> list[str]:
        return sorted(set(self.videos["dataset"]))

    @cached_property
    def _sizes(self) -> tuple[int, ...]:
        """Videos of each dataset; their rows follow one another."""
        counts = self.videos["dataset"].value_counts()
        return tuple(int(counts[name]) for name in self._datasets)

    @cached_property
    def _picks(self) -> tuple[int, ...] | None:
        """Clips of each dataset in a round."""
        if self.weights is None:
            return None
        share = np.array([self.weights[name] for name in self._datasets])
        return _largest_remainder(share / share.sum() * len(self.videos))


def _kept(manifest: Manifest, all_splits: bool) -> tuple[np.ndarray, list[str]]:
    """Return which videos are taken, and notes on it."""
    videos, name = manifest.videos, manifest.name
    if "split" not in videos:
        return np.ones(len(videos), bool), []
    words = videos["split"].fillna("").astype(str).str.strip().str.lower()
    if odd := sorted(set(words) - {"", *KEPT, *LEFT_OUT}):
        raise InputError(
            f"The column `split` of {name} holds {listed(map(repr, odd), 5)}; it must say train, val or test, or be empty."
        )
    kept, unknown = words.isin(KEPT).to_numpy(), int((words == "").sum())
    if all_splits:
        if kept.all():
            return kept, []
        said = (
            f"{name}: the {(~kept).sum():,} videos for validation and test (or of unknown split) are taken too, as the "
        )
        return np.ones(len(videos), bool), [said + "published run did. A test on them will look better than it is."]
    return kept, [f"{name}: {unknown:,} videos with an empty `split` are left out."] if unknown else []


def _table(manifest: Manifest, kept: np.ndarray) -> pd.DataFrame:
    videos = manifest.videos[kept]
    return pd.DataFrame(
        {
            "dataset": manifest.name,
            "video_id": videos["video_id"].astype(str),
            "path": [str((manifest.root / str(file)).absolute()) for file in videos["path"]],
            "file": videos["path"].astype(str),
            **{name: videos.get(name, np.nan) for name in SPAN},
        }
    )


@lru_cache(maxsize=4)
def _round(seed: int, number: int, sizes: tuple[int, ...], picks: tuple[int, ...] | None) -> Int[np.ndarray, " videos"]:
    """Return the rows of one round; `sizes` and `picks` are the videos of each dataset, and its clips in a round."""
    if picks is None:
        return np.random.default_rng([seed, ROUND_TAG, number]).permutation(sum(sizes))
    datasets = np.random.default_rng([seed, ROUND_TAG, number]).permutation(np.repeat(np.arange(len(picks)), picks))
    rows, first = np.empty(len(datasets), np.int64), 0
    for d, (size, count) in enumerate(zip(sizes, picks, strict=True)):
        passes, places = np.divmod(np.arange(number * count, (number + 1) * count), size)  # of all its picks ever
        orders = {p: np.random.default_rng([seed, DATASET_TAG, d, p]).permutation(size) for p in np.unique(passes)}
        rows[datasets == d] = [first + orders[p][place] for p, place in zip(passes, places, strict=True)]
        first += size
    return rows


def _largest_remainder(shares: Float[np.ndarray, " d"]) -> tuple[int, ...]:
    """Return whole numbers near `shares` that add up to the same, each at least 1."""
    whole = np.maximum(np.floor(shares).astype(np.int64), 1)
    while (missing := round(float(shares.sum())) - int(whole.sum())) != 0:
        gap = shares - whole
        if missing > 0:
            whole[np.argmax(gap)] += 1
        else:
            whole[np.argmin(np.where(whole > 1, gap, np.inf))] -= 1
    return tuple(whole.tolist())
