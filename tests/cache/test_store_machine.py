"""Any sequence of writing, reopening, closing and finishing, against a dictionary that does the same in memory."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from echolung.cache import TokenStore
from echolung.errors import InputError, RunError

MAKE = {}


@pytest.fixture(autouse=True)
def _makers(create, block):
    MAKE.update(create=create, block=block)


class StoreMachine(RuleBasedStateMachine):
    """A store of 7 clips in blocks of 3; `held` maps a row to its tokens, `failed` to its reason."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())

    @initialize(sharded=st.booleans())
    def create(self, sharded):
        self.store = MAKE["create"](self.folder / "s.zarr", clips=7, block=3, sharded=sharded)
        self.held, self.failed, self.finished = {}, {}, False

    @rule(start=st.sampled_from([0, 3, 6]), seed=st.integers(0, 99), bad=st.sets(st.integers(0, 2)))
    def write(self, start, seed, bad):
        count = min(3, 7 - start)
        errors = [f"bad {seed}" if i in bad else "" for i in range(count)]
        block = MAKE["block"](start, count, seed, errors)
        self.store.write(block)
        for i in range(count):
            if start + i in self.held or start + i in self.failed:
                continue
            if errors[i]:
                self.failed[start + i] = errors[i]
            else:
                self.held[start + i] = block.tokens[i].astype(np.float16)

    @rule(rows=st.sets(st.integers(0, 6), min_size=1))
    def reopen_rows(self, rows):
        self.store.reopen(np.array(sorted(rows)))
        self.finished = False
        for row in rows:
            self.held.pop(row, None)
            self.failed.pop(row, None)

    @rule(writing=st.booleans())
    def open_again(self, writing):
        if not writing and not self.finished:
            with pytest.raises(InputError, match="stopped half-way"):
                TokenStore.open(self.store.path)
        self.store = TokenStore.open(self.store.path, writing=True)

    @precondition(lambda self: not self.finished)
    @rule()
    def split(self):
        self.store.split()

    @rule()
    def finish(self):
        if len(self.held) + len(self.failed) == 7:
            self.store.finish()
            self.finished = True
        elif not self.finished:
            with pytest.raises(RunError, match="not written yet"):
                self.store.finish()

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def read(self, data):
        rows = data.draw(st.lists(st.sampled_from(sorted(self.held)), min_size=1, max_size=6))
        for got, row in zip(self.store.tokens(rows), rows, strict=True):
            np.testing.assert_array_equal(got, self.held[row])
        np.testing.assert_allclose(
            self.store.pooled(rows), [self.held[r].mean(axis=0, dtype=float) for r in rows], atol=2e-3
        )

    @invariant()
    def agrees(self):
        assert self.store.finished == self.finished
        assert set(np.flatnonzero(self.store.complete)) == set(self.held)
        assert self.store.failures.keys() == {f"v{row // 2}" for row in self.failed}
        missing = set(range(7)) - set(self.held) - set(self.failed)
        assert self.store.unfinished_blocks() == sorted({row // 3 * 3 for row in missing})
        for row in set(range(7)) - set(self.held):
            with pytest.raises(InputError, match="hold no tokens"):
                self.store.tokens([row])

    def teardown(self):
        shutil.rmtree(self.folder)


StoreMachine.TestCase.settings = settings(
    max_examples=12, stateful_step_count=12, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestStore = StoreMachine.TestCase
