"""A batch follows from seed and step, whatever the start, ranks, workers, videos or pack. A broken video costs itself."""

import os
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from echolung.clips import decode
from echolung.clips import packed as packed_module
from echolung.clips.packed import pack
from echolung.clips.sample import random_window
from echolung.datasets import Manifest, load_manifest
from echolung.errors import DecodeError, EcholungError, InputError, RunError
from echolung.pretraining import loader as module
from echolung.pretraining.loader import WINDOW_TAG, Loader, ahead
from echolung.pretraining.plans import ClipsPlan
from echolung.pretraining.pool import Pool

PLAN = ClipsPlan(frames=4, size=32, fps=8.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, grey_frames, write_video) -> Path:
    """Return a folder of videos that differ in all but the subject, two of them broken and one not there."""
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "a.avi", grey_frames(30, 40, 64), codec="mjpeg", pixels="yuvj420p")
    write_video(folder / "b.mp4", grey_frames(20, 100, 70, seed=1))  # its square is reduced
    colours = np.random.default_rng(0).integers(0, 255, (12, 48, 48, 3), dtype=np.uint8)
    write_video(folder / "c.avi", colours, codec="mjpeg", pixels="yuvj420p", fps=10)
    (folder / "d").mkdir()
    for i, frame in enumerate(grey_frames(3, 36, 36, seed=2)):  # shorter than a clip, and without a clock
        Image.fromarray(frame).save(folder / "d" / f"{i}.png")
    whole = write_video(folder / "cut.mp4", grey_frames(20)).read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 3])
    (folder / "empty.avi").touch()
    return folder


GOOD, BROKEN = ("a.avi", "b.mp4", "c.avi", "d"), ("cut.mp4", "empty.avi", "gone.avi")


def pool_of(folder: Path, files: tuple[str, ...]) -> Pool:
    ids = [file.split(".")[0] for file in files]
    videos = pd.DataFrame({"video_id": ids, "path": files, "patient": "", "source": ""})
    return Pool.of([Manifest("x", folder, videos, {})])


@pytest.fixture
def here(monkeypatch):
    """Have jobs done in this process, one after the other, as they are asked for."""

    def run(function, jobs, arguments, *_, **__):
        for job in jobs:
            try:
                yield job, function(*arguments(job))
            except EcholungError as error:
                yield job, DecodeError(str(error))

    for user in (module, packed_module):
        monkeypatch.setattr(user, "run_in_workers", run)


def read(loader: Loader, start: int, stop: int) -> list:
    return list(loader.iterate(start, stop))


def equal(one, other) -> bool:
    return (
        (one.step, one.videos) == (other.step, other.videos)
        and one.samples.tolist() == other.samples.tolist()
        and all(
            a.shape == b.shape and bool((a == b).all())
            for a, b in ((one.frames, other.frames), (one.sides, other.sides), (one.valid, other.valid))
        )
    )


def test_what_a_batch_holds(folder, here):
    pool = pool_of(folder, GOOD)
    (batch,) = read(Loader(pool, PLAN, 5, 8), 3, 4)
    rows = pool.order(5, np.arange(24, 32))
    assert batch.step == 3 and batch.samples.tolist() == list(range(24, 32)) and batch.valid.all()
    assert batch.videos == tuple(pool.names[row] for row in rows)
    limit = PLAN.limit
    sides = {"x/a": 40, "x/b": limit, "x/c": 48, "x/d": 36}
    assert limit == 48 and batch.frames.shape == (8, 4, 48, 48)
    for clip, side, name in zip(batch.frames.numpy(), batch.sides.tolist(), batch.videos, strict=True):
        assert side == sides[name]
        assert not clip[:, side:].any() and not clip[:, :, side:].any()
    at = batch.videos.index("x/a")
    frames = decode(folder / "a.avi")[..., 0]
    window = random_window(np.arange(30) / 25, 4, 8.0, np.random.default_rng([5, WINDOW_TAG, 24 + at]))
    np.testing.assert_array_equal(batch.frames[at, :, :40, :40], frames[window][:, :, 12:52])
    at = batch.videos.index("x/d")
    assert batch.frames[at, 3].equal(batch.frames[at, 2])


def test_ranks_starts_and_seeds(folder, here):
    pool = pool_of(folder, GOOD)
    whole = read(Loader(pool, PLAN, 0, 8), 0, 5)
    assert all(equal(*pair) for pair in zip(read(Loader(pool, PLAN, 0, 8), 3, 5), whole[3:], strict=True))
    halves = [read(Loader(pool, PLAN, 0, 8, rank=rank, ranks=2), 0, 5) for rank in (0, 1)]
    for batch, first, second in zip(whole, *halves, strict=True):
        assert batch.videos == first.videos + second.videos
        assert batch.samples.tolist() == [*first.samples, *second.samples]
        for i, half in enumerate((first, second)):
            for j in range(4):
                side = int(half.sides[j])
                assert side == batch.sides[4 * i + j]
                assert half.frames[j, :, :side, :side].equal(batch.frames[4 * i + j, :, :side, :side])
    assert not equal(whole[0], read(Loader(pool, PLAN, 1, 8), 0, 1)[0])


def test_a_pack_gives_the_same_bytes(folder, here, tmp_path, monkeypatch):
    pool = pool_of(folder, GOOD + BROKEN)
    packed = pack(pool.videos, tmp_path / "pack.h5", workers=1).path
    from_videos, from_pack = Loader(pool, PLAN, 0, 6), Loader(pool, PLAN, 0, 6, pack=packed, workers=2)
    expected = read(from_videos, 0, 8)
    assert all(equal(*pair) for pair in zip(read(from_pack, 0, 8), expected, strict=True))
    assert from_pack.broken.keys() == from_videos.broken.keys()
    assert from_pack.broken["x/cut"] == from_videos.broken["x/cut"]
    monkeypatch.setattr(module, "CLIPS_A_JOB", 4)  # batches in two parts, of four clips and of two
    assert all(equal(*pair) for pair in zip(read(from_pack, 0, 8), expected, strict=True))
    monkeypatch.setattr(module, "has_room", lambda size: False)  # and through the pipe
    assert all(equal(*pair) for pair in zip(read(from_pack, 2, 8), expected[2:], strict=True))


def test_processes_give_the_same_bytes(folder, tmp_path):
    """Broken files included, and one that hangs: costs itself."""
    os.mkfifo(folder / "hang.avi")  # opening it waits for somebody to write
    pool = pool_of(folder, (*GOOD, *BROKEN, "hang.avi"))
    said: list[str] = []
    loader = Loader(pool, PLAN, 0, 8, workers=2, time_limit=5.0, tell=said.append)
    began = time.monotonic()
    found = read(loader, 0, 3)
    assert time.monotonic() - began < 60
    assert loader.broken.keys() == {"x/cut", "x/empty", "x/gone", "x/hang"}
    assert loader.broken["x/hang"] == "decoding took longer than 5 s and was ended"
    assert loader.broken["x/empty"].startswith("empty.avi cannot be decoded. It is empty (0 bytes)")
    assert len(said) == 4 and all(any(text.startswith(name) for text in said) for name in loader.broken)
    for batch in found:
        assert [name in loader.broken for name in batch.videos] == (~batch.valid).tolist()
        assert not batch.frames[~batch.valid].any() and (batch.sides[~batch.valid] == 1).all()
    (folder / "hang.avi").unlink()
    packed = pack(pool.videos, tmp_path / "pack.h5", workers=2).path
    again = read(Loader(pool, PLAN, 0, 8, pack=packed, workers=2), 0, 3)
    assert all(equal(*pair) for pair in zip(found, again, strict=True))


def test_what_is_known_to_be_broken_is_not_tried_again(folder, here, monkeypatch):
    tried, original = [], module.read_square

    def spy(path, draw, decoder, refused, span):
        if refused is None:
            tried.append(path.name)
        return original(path, draw, decoder, refused, span)

    monkeypatch.setattr(module, "read_square", spy)
    loader = Loader(pool_of(folder, GOOD + BROKEN), PLAN, 0, 7)
    batches = read(loader, 0, 4) + read(loader, 4, 6)
    assert [tried.count(name) for name in BROKEN] == [1, 1, 1]
    assert [batch.valid.sum() for batch in batches] == [4] * 6


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_nothing_can_be_read(folder, here, batch):
    loader = Loader(pool_of(folder, BROKEN), PLAN, 0, batch)
    with pytest.raises(RunError, match=r"Not one of the first 3 videos can be read.*x/(cut|empty|gone): "):
        read(loader, 0, 9)


def test_broken_videos_that_come_first_stop_nothing(folder, here, tmp_path):
    pool = pool_of(folder, ("a.avi", *BROKEN))
    packed = pack(pool.videos, tmp_path / "pack.h5", workers=1).path
    for source in (None, packed):
        # Wherever it goes on, one video at a time: the first may be a broken one.
        valid = [[bool(b.valid[0]) for b in read(Loader(pool, PLAN, 0, 1, pack=source), at, 8)] for at in range(8)]
        assert [len(found) for found in valid] == list(range(8, 0, -1))
        assert sum(valid[0]) == 2 and not all(found[0] for found in valid)


def test_many_broken_videos_are_enough(folder, here, monkeypatch):
    monkeypatch.setattr(module, "ENOUGH_BROKEN", 2)
    loader, found = Loader(pool_of(folder, BROKEN), PLAN, 0, 1), []
    with pytest.raises(RunError, match="Not one of the first 2 videos can be read"):
        found.extend(iter(loader.iterate(0, 9)))
    assert len(loader.broken) == 2


def test_batches_are_pinned_for_a_gpu_alone(folder, here, monkeypatch):
    pool, pinned = pool_of(folder, GOOD), []
    plain = read(Loader(pool, PLAN, 0, 4, pin=torch.cuda.is_available()), 0, 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(self.shape) or self)
    read(Loader(pool, PLAN, 0, 4), 0, 1)
    assert not pinned
    assert equal(*read(Loader(pool, PLAN, 0, 4, pin=True), 0, 1), *plain) and len(pinned) == 3


def test_pools_and_packs_that_do_not_fit(folder, here, tmp_path):
    packed = pack(pool_of(folder, ("c.avi",)).videos, tmp_path / "pack.h5", workers=1).path
    with pytest.raises(InputError, match=r"pack\.h5 does not hold 3 of the 4 videos asked for: x/a, x/b, x/d\."):
        Loader(pool_of(folder, GOOD), PLAN, 0, 4, pack=packed)
    with pytest.raises(InputError, match="A batch of 7 clips cannot be shared evenly by 2 processes"):
        Loader(pool_of(folder, GOOD), PLAN, 0, 7, ranks=2)


def test_a_pack_that_shrinks_meanwhile(folder, here, tmp_path):
    pool = pool_of(folder, ("a.avi", "b.mp4"))
    packed = pack(pool.videos, tmp_path / "pack.h5", workers=1).path
    loader = Loader(pool, PLAN, 0, 4, pack=packed, workers=1)
    os.truncate(packed, 5000)
    with pytest.raises(RunError, match=r"Clips cannot be read from .*pack\.h5"):
        read(loader, 0, 1)


def test_the_smallest_crop_need_not_be_enlarged():
    for plan in (PLAN, ClipsPlan(), ClipsPlan(size=112, scale=(0.3, 1.0), aspect=(0.75, 1.35))):
        limit = plan.limit
        for aspect in plan.aspect:
            height, width = limit * (plan.scale[0] / aspect) ** 0.5, limit * (plan.scale[0] * aspect) ** 0.5
            assert min(height, width) >= plan.size - 1e-9
    assert ClipsPlan(scale=(1.0, 1.0), aspect=(1.0, 1.0), size=96).limit == 96


def test_reading_ahead_is_bounded_and_ends():
    made, closed = [], []

    def items():
        try:
            for i in range(100):
                made.append(i)
                yield i
        finally:
            closed.append(True)

    stream = ahead(items(), 3)
    assert [next(stream), next(stream)] == [0, 1]
    deadline = time.monotonic() + 10
    while len(made) < 6 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert len(made) == 6  # two handed over, three that wait, one that finds no room
    stream.close()
    assert closed and not any(thread.name == "reading ahead" for thread in threading.enumerate())

    def broken():
        yield 1
        raise RunError("the disk is gone")

    stream = ahead(broken(), 3)
    assert next(stream) == 1
    with pytest.raises(RunError, match="the disk is gone"):
        next(stream)


def test_real_videos(real_data, here, tmp_path):
    manifest = load_manifest("pocus", real_data / "covid19_ultrasound")
    # One of each kind of file.
    suffixes = manifest.videos["path"].map(lambda path: Path(path).suffix.lower())
    size = manifest.videos["path"].map(lambda path: (manifest.root / path).stat().st_size)
    chosen = manifest.videos.loc[size.groupby(suffixes).idxmin()]
    pool = Pool.of([Manifest("pocus", manifest.root, chosen, {})])
    assert len(pool.videos) >= 3
    packed = pack(pool.videos, tmp_path / "pack.h5", workers=2).path
    count = len(pool.videos)
    plan = ClipsPlan(frames=8, size=64)
    ways = (Loader(pool, plan, 0, count, workers=2), Loader(pool, plan, 0, count, pack=packed, workers=2))
    from_videos, from_pack = (read(loader, 0, 2) for loader in ways)
    assert all(batch.valid.all() for batch in from_videos)
    assert all(equal(*pair) for pair in zip(from_videos, from_pack, strict=True))
