"""A pack gives back what its videos hold, is whole or not there, and says so where it is not what it should be."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from echolung.clips import decode
from echolung.clips import packed as module
from echolung.clips.decode import decode_chosen
from echolung.clips.grey import Draw, read_square, reduce_short_side, square, to_grey
from echolung.clips.packed import Pack, pack, read_squares
from echolung.clips.workers import source_digest
from echolung.errors import DecodeError, InputError, RunError


def table(folder: Path, files: list[str]) -> pd.DataFrame:
    paths = [str(folder / file) for file in files]
    return pd.DataFrame(
        {"dataset": "x", "video_id": [f"v{i}" for i in range(len(files))], "path": paths, "file": files}
    )


@pytest.fixture(scope="module")
def videos(tmp_path_factory, grey_frames, write_video) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "a.avi", grey_frames(30, 40, 64), codec="mjpeg", pixels="yuvj420p")
    colours = np.random.default_rng(0).integers(0, 255, (12, 96, 80, 3), dtype=np.uint8)
    write_video(folder / "b.mp4", colours, fps=10)
    (folder / "c.avi").touch()
    (folder / "d").mkdir()
    for i, frame in enumerate(grey_frames(3, 36, 36, seed=2)):
        Image.fromarray(frame).save(folder / "d" / f"{i}.png")
    return table(folder, ["a.avi", "b.mp4", "c.avi", "d", "missing.avi"])


@pytest.fixture
def here(monkeypatch):
    """Have jobs done in this process."""

    def run(function, jobs, arguments, *_, **__):
        for job in jobs:
            try:
                yield job, function(*arguments(job))
            except DecodeError as error:
                yield job, error

    monkeypatch.setattr(module, "run_in_workers", run)


@pytest.fixture(scope="module")
def packed(videos, tmp_path_factory) -> Path:
    return pack(videos, tmp_path_factory.mktemp("pack") / "pack.h5", workers=2).path


def test_frames_come_back(videos, packed):
    opened = Pack.open(packed)
    assert opened.videos["frames"].tolist() == [30, 12, 0, 3, 0]
    for row in (0, 1, 3):
        path, seen = Path(videos["path"][row]), []

        def choose(times, seen=seen):
            seen.append(times)
            return np.array([2, 0, 2])

        frames, indices = opened.read(row, choose)
        wanted, _ = decode_chosen(path, choose)
        np.testing.assert_array_equal(frames, to_grey(wanted))
        assert indices.tolist() == [2, 0, 2]
        np.testing.assert_array_equal(seen[0], seen[1])
        np.testing.assert_array_equal(opened.times(row), seen[1])
        assert opened.videos["digest"][row] == source_digest(path)
    assert np.isnan(opened.times(3)).all()


def test_any_hdf5_reader_sees_the_same(videos, packed):
    with h5py.File(packed) as file:
        assert sorted(file["videos"]) == ["0", "1", "3"]
        np.testing.assert_array_equal(file["videos/0"][:], decode(videos["path"][0])[..., 0])
        assert all(dataset.chunks is None for dataset in file["videos"].values())
        assert file["table/file"].asstr()[:].tolist() == videos["file"].tolist()


def test_what_cannot_be_read_is_listed(packed):
    opened = Pack.open(packed)
    assert opened.videos["reason"][2].startswith("c.avi cannot be decoded. It is empty (0 bytes)")
    with pytest.raises(DecodeError, match=r"There is no file .*missing\.avi"):
        opened.read(4, lambda times: np.arange(1))
    assert opened.rows(["x/v4", "x/v0"]).tolist() == [4, 0]
    with pytest.raises(InputError, match=r"does not hold 2 of the 3 videos asked for: y/v0, x/v9\. Pack the same"):
        opened.rows(["y/v0", "x/v0", "x/v9"])


def test_reduced(videos, here, tmp_path):
    sizes: list[int] = []
    opened = pack(videos, tmp_path / "small.h5", size=48, workers=1, advance=sizes.append)
    assert opened.size == 48
    shapes = [(30, 40, 64), (12, 58, 48), (3, 36, 36)]  # those that are smaller stay as they are
    good = opened.videos[opened.videos["reason"] == ""]
    assert good[["frames", "height", "width"]].to_numpy().tolist() == [list(shape) for shape in shapes]
    assert sizes == [int(np.prod(shapes[0])), int(np.prod(shapes[1])), 0, int(np.prod(shapes[2])), 0]


def test_cropped(videos, here, tmp_path):
    """One box for all: what is too small for it is listed as unreadable, with why."""
    cropped = pack(videos, tmp_path / "cut.h5", box="8,4,40,36", workers=1)
    whole = pack(videos, tmp_path / "whole.h5", workers=1)
    assert (cropped.box, whole.box) == ("8,4,40,36", "")
    good = cropped.videos["reason"] == ""
    assert good.tolist() == [True, True, False, False, False]
    assert "does not lie within the picture of d, which is 36 pixels wide" in cropped.videos["reason"][3]

    def every(times: np.ndarray) -> np.ndarray:
        return np.arange(len(times))

    for row in (0, 1):
        np.testing.assert_array_equal(cropped.read(row, every)[0], whole.read(row, every)[0][:, 4:40, 8:48])


def test_squares():
    frames = np.random.default_rng(0).integers(0, 256, (3, 50, 81), dtype=np.uint8)
    every = np.arange(3)
    np.testing.assert_array_equal(square(frames, every, 50), frames[:, :, 15:65])
    tall = frames.transpose(0, 2, 1)
    np.testing.assert_array_equal(square(tall, every, 60), tall[:, 15:65])
    small = square(frames, np.array([4, 7, 7]), 20)
    assert small.shape == (3, 20, 20) and (small[1] == small[2]).all()
    expected = Image.fromarray(np.ascontiguousarray(frames[0, :, 15:65])).resize((20, 20), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(small[0], np.asarray(expected))
    assert reduce_short_side(frames, 25).shape == (3, 25, 40)
    grey = frames[..., None].repeat(3, -1)
    np.testing.assert_array_equal(to_grey(grey), frames)


def test_packs_that_are_none(packed, tmp_path):
    with pytest.raises(InputError, match=r"There is no pack .*gone\.h5\. Make it: echolung data pack"):
        Pack.open(tmp_path / "gone.h5")
    (tmp_path / "text.h5").write_text("not HDF5")
    with pytest.raises(InputError, match=r"text\.h5 is no HDF5 file, or it was cut short"):
        Pack.open(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["tokens"] = 1
    with pytest.raises(InputError, match=r"other\.h5 is an HDF5 file, but none that `echolung data pack` wrote"):
        Pack.open(tmp_path / "other.h5")
    with h5py.File(tmp_path / "later.h5", "w") as file:
        file.attrs["format"] = "echolung pack 9"
    with pytest.raises(InputError, match=r"holds 'echolung pack 9'; this version of echolung reads 'echolung pack 1'"):
        Pack.open(tmp_path / "later.h5")
    with h5py.File(packed) as old, h5py.File(tmp_path / "moved.h5", "w") as new:
        new.attrs.update(old.attrs)
        for name in reversed(list(old)):
            old.copy(name, new)
    with pytest.raises(InputError, match=r"moved\.h5 was rewritten by another program"):
        Pack.open(tmp_path / "moved.h5")


@pytest.mark.parametrize("share", [0.01, 0.3, 0.7, 0.999])
def test_cut_short(packed, tmp_path, share):
    whole = packed.read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError, match=r"cut\.h5 .* was cut short"):
        Pack.open(tmp_path / "cut.h5")


def test_nothing_to_pack(videos, here, tmp_path):
    with pytest.raises(RunError, match=r"Not one of the 2 videos can be read.* is empty"):
        pack(videos.iloc[[2, 4]], tmp_path / "pack.h5", workers=1)
    assert not list(tmp_path.iterdir())


SCRIPT = """
import sys, time
from pathlib import Path
import pandas as pd
from echolung.clips import packed as module
from echolung.clips.packed import pack

def advance(size):
    print("one", flush=True)
    time.sleep(60)

if __name__ == "__main__":
    pack(pd.read_csv(sys.argv[1]), Path(sys.argv[2]), workers=1, advance=advance)
"""


def test_kill_leaves_nothing_half_valid(videos, packed, here, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    videos.to_csv(tmp_path / "videos.csv", index=False)
    out = tmp_path / "pack.h5"
    process = subprocess.Popen(
        [sys.executable, tmp_path / "script.py", tmp_path / "videos.csv", out], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None and process.stdout.readline() == "one\n"
        os.kill(process.pid, signal.SIGKILL)
    assert not out.exists()
    with pytest.raises(InputError):
        Pack.open(tmp_path / "pack.h5.partial")
    again = pack(videos, out, workers=1)
    assert not (tmp_path / "pack.h5.partial").exists()
    pd.testing.assert_frame_equal(again.videos, Pack.open(packed).videos)


def test_padding_and_spans_are_those_of_the_files(videos, here, tmp_path):
    parts = videos.assign(first_frame=[25, 3, np.nan, 2, np.nan], last_frame=[4, 9, np.nan, 0, np.nan])
    opened = pack(parts, tmp_path / "parts.h5", workers=1)
    assert opened.videos["frames"].tolist() == [22, 7, 0, 3, 0]
    for row, span in ((0, (25, 4)), (1, (3, 9)), (3, (2, 0))):
        for pad, level in (("black", 0), ("grey", 33), ("loop", None), ("repeat", None)):
            draw = Draw(12, 8.0, 32, (row,), stride=3, pad=pad)
            (clip,) = read_squares(opened.path, [row], [draw], None)
            np.testing.assert_array_equal(clip, read_square(Path(videos["path"][row]), draw, span=span))
            assert level is None or (clip[-1] == level).all()
    names = [f"x/v{row}" for row in range(5)]
    assert opened.rows(names, [(25, 4), (3, 9), None, (2, 0), None]).tolist() == list(range(5))
    with pytest.raises(InputError, match=r"holds other frames of 2 videos than the dataset names now .*: x/v0, x/v1"):
        opened.rows(names, [None, (9, 3), None, (2, 0), None])
    with h5py.File(opened.path, "r+") as file:  # as one that was made before
        del file["table/first_frame"], file["table/last_frame"]
    assert Pack.open(opened.path).rows(names, [None] * 5).tolist() == list(range(5))
