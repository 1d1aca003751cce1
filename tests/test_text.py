"""Numbers as people read them."""

import pytest

from echolung.text import about, counted, in_bytes, listed


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0 kB"), (345_000, "345 kB"), (6_240_000, "6.24 MB"), (51_400_000, "51.4 MB"), (3_204_000_000, "3.20 GB")],
)
def test_bytes(count: int, said: str) -> None:
    assert in_bytes(count) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(3, "a few seconds"), (42, "about 40 s"), (720, "about 12 min"), (9000, "about 2.5 h"), (260_000, "about 3 days")],
)
def test_times(seconds: int, said: str) -> None:
    assert about(seconds) == said


def test_counts_and_lists() -> None:
    assert (counted(1, "video"), counted(2000, "video")) == ("1 video", "2,000 videos")
    assert (listed("abc"), listed("abc", 1)) == ("a, b, c", "a and 2 more")
