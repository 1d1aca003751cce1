"""How a store grows when its dataset does: a larger one is laid out, and takes over the clips of the smaller."""

import numpy as np

from echolung.cache.layout import CLIP_ARRAYS
from echolung.cache.store import TokenStore


def copy_clips(source: TokenStore, target: TokenStore) -> int:
    """Copy into the empty `target` the complete clips that `source` has of the same video, segment and view; return how many.

    Both must have the same key: this is how a store grows when its dataset does.
    """
    identity = ["video_id", "segment", "view"]
    at = {tuple(row): i for i, row in enumerate(source.rows[identity].itertuples(index=False)) if source.complete[i]}
    pairs = [(at.get(tuple(row)), i) for i, row in enumerate(target.rows[identity].itertuples(index=False))]
    pairs = [(a, b) for a, b in pairs if a is not None]
    names = ["tokens", *(["preview"] if {"preview"} <= set(source.group) & set(target.group) else [])]
    for old, new in pairs:
        for name in names:
            target.array(name)[new] = source.array(name)[old]
    old_rows, new_rows = np.array([p[0] for p in pairs], int), np.array([p[1] for p in pairs], int)
    for name in sorted(CLIP_ARRAYS, key=lambda name: name == "complete"):  # `complete` last, as ever
        values = target.array(name)[:]
        values[new_rows] = source.array(name)[:][old_rows]
        target.array(name)[:] = values
    target.__dict__.pop("complete", None)
    return len(pairs)
