"""A job that hangs, crashes or raises costs itself and nothing else, and no worker knows of torch."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool

import decord
import numpy as np
import pytest
import torch  # the parent has it; the workers must not

from echolung.clips import ClipPlan, workers
from echolung.clips.check import inspect_video
from echolung.clips.workers import prepare_video, run_in_workers, source_digest
from echolung.errors import DecodeError, InputError

JOBS = """
import ctypes, os, sys, time
from echolung.errors import InputError

def job(what, value):
    if what == "hang":
        time.sleep(600)
    if what == "exit":
        os._exit(7)
    if what == "segfault":
        ctypes.string_at(0)
    if what == "raise":
        raise ZeroDivisionError("no such luck")
    if what == "input":
        raise InputError("the second channel is missing")
    if what == "odd":
        class Odd(Exception):  # cannot be pickled
            pass
        raise Odd("odd")
    if what == "slow":
        time.sleep(value)
    return os.getpid(), value, sorted(m for m in sys.modules if m.split(".")[0] in ("torch", "sklearn", "timm"))
"""


READER = """
import os, signal, sys, threading, time
from echolung.clips.workers import run_in_workers
from echolung_test_jobs import job

def signals():
    while True:
        time.sleep(0.05)
        os.killpg(0, signal.SIGTERM)

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: None)
    if sys.argv[1] != "hang":
        threading.Thread(target=signals, daemon=True).start()
    jobs = [(number, what) for number, what in enumerate(sys.argv[1:])]
    for _, result in run_in_workers(job, jobs[::-1], lambda one: (one[1], 0.1), 2, ahead=1):
        print(result[0] if isinstance(result, tuple) else result, flush=True)
"""


@pytest.fixture(scope="module")
def jobs_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("jobs")
    (folder / "echolung_test_jobs.py").write_text(JOBS)
    (folder / "reader.py").write_text(READER)
    return folder


@pytest.fixture(scope="module")
def job(jobs_folder):
    """Return a function that spawned workers can import: multiprocessing hands them the parent's sys.path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(jobs_folder))
        from echolung_test_jobs import job

        yield job


def run(job, whats, **options):
    return list(run_in_workers(job, list(enumerate(whats)), lambda one: (one[1], one[0]), 2, **options))


def test_order_is_kept_and_torch_unknown(job):
    assert torch.__version__
    results = run(job, ["slow", "fine", "fine", "slow", "fine"], ahead=2)
    assert [one[0] for one, _ in results] == [0, 1, 2, 3, 4]
    assert [value for _, (_, value, _) in results] == [0, 1, 2, 3, 4]
    assert all(modules == [] for _, (_, _, modules) in results)


def test_prepared_clips_come_back(tmp_path, grey_frames, write_video):
    path = write_video(tmp_path / "a.mp4", grey_frames(20))
    arguments = (path, "a", ClipPlan(size=32), "auto")
    ((_, prepared),) = run_in_workers(prepare_video, [0], lambda _: arguments, 1)
    assert prepared.clips.shape == (2, 16, 32, 32, 3)
    assert prepared.frames[0].tolist() == list(range(16)) and prepared.frames[1].tolist() == list(range(4, 20))
    assert prepared.previews.shape == (2, 8, 112, 112)
    assert prepared.digest == hashlib.sha256(path.read_bytes()).hexdigest() == source_digest(path)


def test_a_bad_job_costs_itself(job):
    whats = ["fine", "exit", "fine", "raise", "segfault", "input", "fine", "hang", "odd", "fine"]
    began = time.monotonic()
    pairs = run(job, whats, time_limit=2.0)
    assert time.monotonic() - began < 60  # and not the hanging job's ten minutes
    results = {what: result for (_, what), result in pairs if what != "fine"}
    assert all(isinstance(result, DecodeError) for result in results.values())
    messages = {what: str(result) for what, result in results.items()}
    assert messages["exit"] == "the decoder crashed (exit code 7)"
    assert messages["segfault"] == "the decoder crashed (exit code -11)"
    assert messages["raise"] == "ZeroDivisionError: no such luck"
    assert messages["input"] == "the second channel is missing"
    assert messages["hang"] == "decoding took longer than 2 s and was ended"
    assert "odd" in messages
    assert [result[1] for (_, what), result in pairs if what == "fine"] == [0, 2, 6, 9]


def test_a_pool_that_gives_up_costs_no_job(job, monkeypatch):
    crews = []
    begin = workers._Crew._begin

    def noted(crew):
        begin(crew)
        crews.append(crew.pool)

    monkeypatch.setattr(workers._Crew, "_begin", noted)
    jobs = [(number, "fine") for number in range(6)]
    found = run_in_workers(job, jobs, lambda one: (one[1], one[0]), 2, ahead=3)
    first = next(found)
    # What pebble makes of a worker that dies before it has said which job it took.
    crews[0]._pool_manager.handle_broken_pool(BrokenProcessPool("All workers expired"))
    rest = list(found)
    assert [result[1] for _, result in [first, *rest]] == [0, 1, 2, 3, 4, 5]
    assert len(crews) == 2


def test_a_job_that_every_pool_dies_of_is_the_reason(job, monkeypatch):
    schedule = workers._Crew._schedule

    def doomed(crew, one):
        future = schedule(crew, one)
        if one[1] == "exit":
            crew.pool._pool_manager.handle_broken_pool(BrokenProcessPool("All workers expired"))
        return future

    monkeypatch.setattr(workers._Crew, "_schedule", doomed)
    results = [result for _, result in run(job, ["fine", "exit", "fine"])]
    assert isinstance(results[1], DecodeError) and "crashed" in str(results[1])
    assert results[0][1] == 0 and results[2][1] == 2


def test_leaving_early_ends_the_workers(job):
    results = run_in_workers(job, [(0, "fine"), (1, "hang"), (2, "hang")], lambda one: (one[1], one[0]), 2)
    next(results)
    began = time.monotonic()
    results.close()
    assert time.monotonic() - began < 10


def reader(folder, *whats):
    """Return a process in a group of its own that does jobs, the last one first."""
    command = [sys.executable, str(folder / "reader.py"), *whats]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def test_a_signal_to_all_processes_is_the_parents(jobs_folder):
    """A cluster asks all processes of a job to end: also those that are only starting."""
    with reader(jobs_folder, *["slow"] * 20) as process:
        lines = process.stdout.read().splitlines()
    assert process.returncode == 0
    assert len(lines) == 20 and len(set(lines)) <= 2 and all(line.isdigit() for line in lines)


def test_workers_end_with_their_parent(jobs_folder):
    with reader(jobs_folder, "hang", "hang", "fine", "fine") as process:
        process.stdout.readline()
        group = process.pid
        process.kill()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.killpg(group, signal.SIGKILL)
    pytest.fail("a worker outlived its parent")


def test_jobs_are_read_as_they_are_needed(job):
    taken = []

    def jobs():
        for number in range(50):
            taken.append(number)
            yield number

    results = run_in_workers(job, jobs(), lambda number: ("fine", number), 1, ahead=3)
    next(results)
    assert len(taken) <= 5
    results.close()


def test_one_call_of_a_user(tmp_path):
    with pytest.raises(DecodeError, match=r"nothing\.mp4"):
        prepare_video(tmp_path / "nothing.mp4", "a", ClipPlan(), "auto")
    from PIL import Image

    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "1.png")
    with pytest.raises(InputError, match="--fps needs a clock"):
        prepare_video(tmp_path, "a", ClipPlan(fps=5.0), "auto")


def test_av_takes_over_where_decord_gives_up(tmp_path, grey_frames, write_video, monkeypatch):
    path, plan = write_video(tmp_path / "a.mp4", grey_frames(20)), ClipPlan(size=32)
    expected = prepare_video(path, "a", plan, "av")
    original = decord.VideoReader.get_batch
    monkeypatch.setattr(decord.VideoReader, "get_batch", lambda *_: 1 / 0)  # opened, its frames counted, and then
    found = prepare_video(path, "a", plan, "auto")
    np.testing.assert_array_equal(found.clips, expected.clips)
    np.testing.assert_array_equal(found.frames, expected.frames)
    facts = inspect_video(path, "auto")
    assert facts.frames == 20
    with pytest.raises(DecodeError, match="division by zero"):
        prepare_video(path, "a", plan, "decord")
    monkeypatch.setattr(decord.VideoReader, "get_batch", original)
    assert inspect_video(path, "decord").pixels == facts.pixels


def test_digest_of_a_folder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(b"xy")
    (tmp_path / "a" / "2.png").write_bytes(b"z")
    first = source_digest(tmp_path / "a")
    (tmp_path / "a" / "1.png").write_bytes(b"x")
    (tmp_path / "a" / "2.png").write_bytes(b"yz")
    assert source_digest(tmp_path / "a") != first
