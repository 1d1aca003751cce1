"""A run with all that a run can have, and its page with every figure drawn."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from echolung.cache import TokenStore
from echolung.cache.layout import PREVIEW_SHAPE, Block
from echolung.evaluation import cross_validate
from echolung.evaluation.checks.finding import Finding
from echolung.evaluation.summary import summarise
from echolung.report.html import write_report
from echolung.report.record import save_run
from echolung.report.run import Run, Twin, read_run

FINDINGS = (
    Finding("EL107", "label predictable from the file alone", "warning", "It is.", "Why.", "Do.", {"accuracy": 0.625}),
    Finding("EL101", "patients with videos of several classes", "fine", "None of 24."),
    Finding("EL109", "label predictable from clinical variables alone", "not applicable", "There are none."),
    Finding("EL202", "sources in train and test", "muted", "All."),
)


def with_frames(store: TokenStore, path: Path) -> TokenStore:
    """Return a copy of a small store that has previews, which the fixture `write_store` leaves out."""
    rows = np.arange(store.clips)
    n, d = store.token_shape
    about: dict[str, Any] = {"tokens": n, "dim": d, "grid": (1, 1, n), "frames": 1, "block": len(rows), "preview": True}
    made = TokenStore.create(path, store.key, store.rows, store.snapshot, **about)
    nothing = [0] * len(rows)
    made.write(
        Block(
            start=0,
            tokens=np.asarray(store.tokens(rows), np.float32),
            frames=np.zeros((len(rows), 1), np.int32),
            previews=np.random.default_rng(0).integers(0, 255, (len(rows), *PREVIEW_SHAPE), np.uint8),
            digests=[""] * len(rows),
            sizes=nothing,
            mtimes=nothing,
            errors=[""] * len(rows),
        )
    )
    made.finish()
    return TokenStore.open(path)


@pytest.fixture(scope="session")
def store(write_classes: Callable[..., TokenStore], tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    """Return a small store with previews, sexes and ages."""
    columns = {"sex": ["female", "male"] * 24, "age": [30.0 + i for i in range(48)]}
    return with_frames(write_classes(signal=0.5, columns=columns), tmp_path_factory.mktemp("framed") / "framed.zarr")


@pytest.fixture(scope="session")
def make_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """Return a maker of runs: (store, twins, findings, extra fields of the record, arguments of cross_validate) -> Run."""

    def make(store: TokenStore, twins: int = 0, findings: Any = (), extra: Any = None, **arguments: Any) -> Run:
        result = cross_validate(store, **{"cv": 3, "epochs": 3, **arguments})
        others = [replace(result, probe=None) for _ in range(twins)]
        beside = [Twin(f"random:tiny@{i}", "x.zarr", other, summarise(other)) for i, other in enumerate(others)]
        folder = tmp_path_factory.mktemp("run") / "a-run"
        return read_run(save_run(result, summarise(result), store, 1.23, folder, beside, findings, extra))

    return make


@pytest.fixture(scope="session")
def run(store: TokenStore, make_run: Callable[..., Run]) -> Run:
    """Return a nested run of an attentive probe, with random twins and findings."""
    return make_run(store, twins=2, findings=FINDINGS, probe="attentive")


@pytest.fixture(scope="session")
def page(run: Run, store: TokenStore) -> Path:
    """Return the whole report of that run."""
    return write_report(run, store)
