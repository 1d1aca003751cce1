"""How a store grows when its dataset does: a larger one is laid out, and takes over the clips of the smaller."""

import numpy as np

from echolung.cache.layout import clip_arrays
from echolung.cache.store import TokenStore
from echolung.cache.writer import StoreWriter


def copy_clips(source: TokenStore, target: StoreWriter) -> int:
    """Copy into the empty `target` the complete clips that `source` has of the same video, segment and view; return how many.

    Both must have the same key: this is how a store grows when its dataset does.
    """
    identity = ["video_id", "segment", "view"]
    at = {tuple(row): i for i, row in enumerate(source.rows[identity].itertuples(index=False)) if source.complete[i]}
    pairs = [(at.get(tuple(row)), i) for i, row in enumerate(target.rows[identity].itertuples(index=False))]
    kept = np.array([(a, b) for a, b in pairs if a is not None], np.int64).reshape(-1, 2)
    readers = {"tokens": source.tokens} if source.token_shape[0] else {}
    if {"preview"} <= set(source.group) & set(target.group):
        readers["preview"] = source.previews
    for start in range(0, target.clips, target.block):
        old, new = kept[(kept[:, 1] >= start) & (kept[:, 1] < start + target.block)].T
        for name, read in readers.items():
            target.put(name, new, read(old))
    old, new = kept.T
    small = set(clip_arrays(source.group)) & set(clip_arrays(target.group))
    for name in sorted(small, key=lambda name: (name == "complete", name)):  # `complete` last, as ever
        values = target.array(name)[:]
        values[new] = source.array(name)[:][old]
        target.array(name)[:] = values
    target.forget()
    return len(kept)
