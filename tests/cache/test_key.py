"""Equal keys, equal digests; nothing but JSON; every difference named."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echolung.cache.key import apart, canonical, differences, key_digest

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
KEYS = st.dictionaries(st.text(max_size=5), JSON, max_size=4)


@given(KEYS)
def test_a_key_survives_the_disk(key):
    back = json.loads(json.dumps(key))
    assert key_digest(back) == key_digest(key)
    assert differences(back, key) == []


@given(KEYS)
def test_order_does_not_matter(key):
    assert key_digest(dict(reversed(key.items()))) == key_digest(key)


@given(KEYS, st.text(min_size=1, max_size=5), st.integers(), st.integers())
def test_every_difference_is_named(key, field, a, b):
    found = differences({**key, field: {"deep": a}}, {**key, field: {"deep": b}})
    assert found == ([] if a == b else [f"{field}.deep: is {a}, expected {b}"])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, object(), {1, 2}, b"bytes", 1j])
def test_nothing_but_json(value):
    with pytest.raises((TypeError, ValueError)):
        canonical({"a": {"b": [value]}})


def test_tuples_are_lists():
    assert differences({"a": [1, 2]}, {"a": (1, 2)}) == []


def test_apart_names_the_fields_that_are_not_all_equal():
    a = {"clips": {"size": 224, "frames": 16}, "encoder": {"kind": "random"}}
    b = {"clips": {"size": 112, "frames": 16, "box": (0, 0, 4, 4)}, "encoder": {"kind": "random"}}
    assert apart([a, a]) == [{}, {}] and apart([a]) == [{}] and apart([]) == []
    assert apart([a, b]) == [{"clips.size": 224}, {"clips.size": 112, "clips.box": [0, 0, 4, 4]}]
