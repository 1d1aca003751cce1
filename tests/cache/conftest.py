"""Small stores to break."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from echolung.cache import Snapshot, TokenStore
from echolung.cache.layout import Block

KEY = {"encoder": {"weights": "sha256:1", "seed": 0}, "clips": {"size": 32, "fps": None}}
TOKENS, DIM, FRAMES = 4, 6, 5


def _create(path: Path, clips: int = 10, block: int = 4, key: dict = KEY, **options) -> TokenStore:
    names = [f"v{i // 2}" for i in range(clips)]
    rows = pd.DataFrame({"video_id": names, "patient": "p", "source": "s", "segment": np.arange(clips) % 2, "view": 0})
    videos = pd.DataFrame({"video_id": sorted(set(names)), "path": "x.mp4", "patient": "p", "source": "s"})
    snapshot = Snapshot("test", videos, {"covid": {"kind": "classification", "classes": ["no", "yes"]}})
    shape = {"tokens": TOKENS, "dim": DIM, "grid": (1, 2, 2), "frames": FRAMES, "block": block, "video": True}
    return TokenStore.create(path, key, rows, snapshot, **{**shape, **options})


def _block(start: int, count: int, seed: int = 0, errors: Sequence[str] | None = None) -> Block:
    random = np.random.default_rng((seed, start))
    return Block(
        start,
        random.normal(size=(count, TOKENS, DIM)).astype(np.float32),
        random.integers(0, 99, (count, FRAMES)),
        random.integers(0, 256, (count, 8, 112, 112), dtype=np.uint8),
        [f"digest {seed} {start + i}" for i in range(count)],
        [1000 * seed + start + i for i in range(count)],
        [10**18 + 7 * seed + i for i in range(count)],
        list(errors or [""] * count),
        random.integers(1, 500, (count, 4)).astype(np.float32),
    )


@pytest.fixture(scope="session")
def create() -> Callable[..., TokenStore]:
    """Return a maker of empty stores."""
    return _create


@pytest.fixture(scope="session")
def block() -> Callable[..., Block]:
    """Return a maker of blocks of random clips."""
    return _block


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    """Return a finished store of 10 clips in blocks of 4; clips 6 and 7 are of an unreadable video."""
    store = _create(tmp_path / "a.zarr")
    for start, count in ((0, 4), (4, 4), (8, 2)):
        store.write(_block(start, count, errors=["", "", "no frames", "no frames"] if start == 4 else None))
    store.finish()
    return store
