"""Stored clip starts: round trips, the published pickle's layout, and pickles that are anything else."""

import json
import os
import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echolung.clips import starts as module
from echolung.clips.pickled import read_arrays
from echolung.clips.starts import read_starts, starts_column, starts_of, write_starts
from echolung.errors import InputError

STARTS = {"0X1A2B.avi": (3, 0, 2), "0X2.avi": (40, 7, 802)}


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("core", ["numpy._core", "numpy.core"])
@pytest.mark.parametrize("kind", ["<i8", ">i8", "<i4"])
def test_pickles_of_every_protocol(tmp_path, protocol, core, kind):
    content = pickle.dumps({name: np.array(starts, kind) for name, starts in STARTS.items()}, protocol)
    if core not in ("numpy._core",):  # as NumPy 1 wrote them
        length = len(b"numpy._core.multiarray"), len(b"numpy._core.numeric")
        for module_name, old in zip((b"numpy._core.multiarray", b"numpy._core.numeric"), length, strict=True):
            new = module_name.replace(b"_core", b"core")
            content = content.replace(b"\x8c" + bytes([old]) + module_name, b"\x8c" + bytes([old - 1]) + new)
            content = content.replace(b"c" + module_name + b"\n", b"c" + new + b"\n")
        content = content if protocol < 4 else content[:2] + content[11:]  # without the frame, whose length is another
        assert b"numpy._core" not in content
    path = tmp_path / "test_start_indexes.pkl"
    path.write_bytes(content)
    assert read_starts(path).of == STARTS
    assert {name: tuple(a.tolist()) for name, a in read_arrays(path).items()} == STARTS


@given(st.dictionaries(st.text(max_size=20), st.lists(st.integers(-(2**63), 2**63 - 1)), max_size=5), st.integers(0, 5))
def test_arrays_come_back(tmp_path_factory, content, protocol):
    path = tmp_path_factory.mktemp("pickles") / "a.pkl"
    path.write_bytes(pickle.dumps({name: np.array(values, np.int64) for name, values in content.items()}, protocol))
    if any(not values for values in content.values()) and protocol < 3:
        return  # no bytes at all are written as a call of `bytes`
    assert {name: array.tolist() for name, array in read_arrays(path).items()} == content


class Malicious:
    def __reduce__(self):
        return os.system, ("touch ran",)


class Sneaky:
    """Names a function of NumPy that runs what it is given."""

    def __reduce__(self):
        return np.array, ([1, 2],)


BAD = {
    "a program": ({"a.avi": Malicious()}, "it would import posix.system"),
    "another function of NumPy": ({"a.avi": Sneaky()}, "it would import numpy"),
    "a list": ([np.arange(3)], "it has the instruction EMPTY_LIST"),
    "lists": ({"a.avi": [1, 2]}, "it has the instruction EMPTY_LIST"),
    "numbers": ({"a.avi": 3}, "a value is of type int"),
    "floats": ({"a.avi": np.arange(3.0)}, "an array is not of integers"),
    "objects": ({"a.avi": np.array([None])}, "EMPTY_LIST|data are of type"),
    "a matrix": ({"a.avi": np.ones((2, 3), np.int64)}, r"the shape \(2, 3\)"),
    "another key": ({3: np.arange(3)}, "a key is of type int"),
    "a tuple": ((1, 2), "it holds a tuple"),
    "a set": ({1, 2}, "it has the instruction EMPTY_SET"),
}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_other_pickles_are_refused_and_not_run(tmp_path, monkeypatch, what, protocol):
    monkeypatch.chdir(tmp_path)
    content, message = BAD[what]
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    if (what, protocol) == ("a set", 2):
        message = "it would import"
    with pytest.raises(InputError, match=message):
        read_starts(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a pickle",
        b"PK\x03\x04\x00\x00",
        b"\x80\x04}.",
        b"\x80\x04}",
        b"\x80\x04.",
        b"\x80\x04u.",
        b"\x80\x04(u.",
        b"\x80\x04h\x07.",
        b"\x80\x04}}b.",
        b"\x80\x04K\x01K\x02R.",
        b"\x80\x04(K\x01K\x02K\x03d.",
        b"\x80\x02}X\x01\x00\x00\x00acnumpy._core.multiarray\n_reconstruct\n)R(K\x01K\x02tbs.",
        pickle.dumps({"a": np.arange(3)})[:-20],
    ],
)
def test_damaged_pickles(tmp_path, content):
    path = tmp_path / "a.pkl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.pkl"):
        read_starts(path)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("pickles") / "a.pkl"
    path.write_bytes(content)
    with pytest.raises(InputError):
        read_starts(path)


def test_one_digest_whatever_the_file(tmp_path):
    write_starts(tmp_path / "a.csv", STARTS)
    (tmp_path / "a.json").write_text(json.dumps({name: list(STARTS[name]) for name in reversed(STARTS)}))
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({name: np.array(s) for name, s in STARTS.items()}))
    found = [read_starts(tmp_path / f"a.{suffix}") for suffix in ("csv", "json", "pkl")]
    assert len({starts.digest for starts in found}) == 1 and all(starts.of == STARTS for starts in found)
    assert found[0].segments == 3
    write_starts(tmp_path / "b.csv", {**STARTS, "0X2.avi": (40, 7, 801)})
    assert read_starts(tmp_path / "b.csv").digest != found[0].digest


def test_starts_find_their_videos(tmp_path):
    write_starts(tmp_path / "a.csv", {**STARTS, "gone.avi": (1, 2, 3)})
    videos = pd.DataFrame({"video_id": ["0X1A2B", "new"], "path": ["Videos/0X1A2B.avi", "Videos/new.avi"]})
    column = starts_column(read_starts(tmp_path / "a.csv"), videos)
    assert column == ["3 0 2", ""]
    assert starts_of(videos.assign(**{module.COLUMN: column})) == [(3, 0, 2), None]
    assert starts_of(videos) == [None, None]
    with pytest.raises(InputError, match="None of the 1 videos is in the file"):
        starts_column(read_starts(tmp_path / "a.csv"), videos.iloc[1:])
    twins = pd.DataFrame({"video_id": ["x", "y"], "path": ["a/0X2.avi", "b/0X2.avi"]})
    with pytest.raises(InputError, match="would be those of two videos, x and y"):
        starts_column(read_starts(tmp_path / "a.csv"), twins)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "video_id,start\na,3\n", "must have the columns video_id and starts"),
        ("a.csv", "video_id,starts\na,x 2\n", "no table of clip starts"),
        ("a.csv", "", "no table of clip starts"),
        ("a.csv", "video_id,starts\n", "holds no clip start"),
        ("a.csv", "video_id,starts\na,1 2\nb,1\n", "different numbers of clip starts.*b has 1, a has 2"),
        ("a.csv", "video_id,starts\na,1 -2\n", "frames count from 0"),
        ("a.csv", "video_id,starts\na,1\nb,2\na,3\n", "has a twice"),
        ("a.csv", "video_id,starts\na,\n", "frames count from 0"),
        ("a.json", "{", "is no JSON"),
        ("a.json", "[1, 2]", "whole numbers"),
        ("a.json", '{"a": [1.5]}', "whole numbers"),
        ("a.json", '{"a": [true]}', "whole numbers"),
        ("a.txt", "a 1", r"their names end in \.csv, \.json, \.pkl"),
    ],
)
def test_files_that_are_no_starts(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        read_starts(tmp_path / name)
    with pytest.raises(InputError, match="There is no file"):
        read_starts(tmp_path / "nothing.csv")
