"""Maps spread over clips: the right way round, and as torch does it where cells fill the clip."""

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from echolung.explaining.upsample import upsample

SIZES = st.tuples(*[st.integers(1, 4)] * 3)


@given(SIZES, SIZES, st.integers(0, 99))
def test_it_is_torchs_trilinear_where_cells_fill_the_clip(
    cells: tuple[int, int, int], pitch: tuple[int, int, int], seed: int
) -> None:
    values = np.random.default_rng(seed).random(cells)
    shape = [n * p for n, p in zip(cells, pitch, strict=True)]
    expected = F.interpolate(torch.from_numpy(values)[None, None], shape, mode="trilinear", align_corners=False)[0, 0]
    np.testing.assert_allclose(upsample(values, pitch, shape), expected.numpy(), rtol=1e-5, atol=1e-6)


def test_time_rows_and_columns_stay_what_they_are() -> None:
    cells = np.zeros((2, 3, 4))
    cells[1, 0, 3] = 1
    found = upsample(cells, (4, 8, 8), (8, 24, 32))
    assert np.unravel_index(found.argmax(), found.shape)[0] >= 6
    weight = found / found.sum()
    centre = [float((weight.sum(tuple({0, 1, 2} - {axis})) * np.arange(n)).sum()) for axis, n in enumerate(found.shape)]
    assert centre[0] > 4
    assert centre[1] < 8
    assert centre[2] > 24


def test_what_a_stride_dropped_goes_on_as_its_neighbour() -> None:
    cells = np.zeros((1, 3, 3))
    cells[0, 2, 2] = 1
    found = upsample(cells, (2, 32, 32), (2, 112, 112))[0]
    assert (found[80:, 80:] == 1).all()  # from the centre of the last cell, 64 to 96, to the edge
    assert not found[:48].any()


@given(SIZES, st.floats(0.1, 10))
def test_an_even_map_stays_even(cells: tuple[int, int, int], value: float) -> None:
    found = upsample(np.full(cells, value), (3, 5, 4), (10, 17, 19))
    np.testing.assert_allclose(found, value, rtol=1e-6)
