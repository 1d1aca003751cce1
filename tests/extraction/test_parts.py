"""Several processes write one store: bit for bit the store of one process, whoever overlaps, comes late or is killed."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from echolung.cache import TokenStore
from echolung.errors import InputError
from echolung.extraction import Part, choose_device, choose_part
from echolung.extraction.parts import parse_part
from echolung.extraction.sources import finished_store

RUN = """
import os, sys, time
from pathlib import Path
from echolung.clips import ClipPlan
from echolung.datasets import load_manifest
from echolung.encoders import identify, load_encoder
from echolung.errors import EcholungError
from echolung.extraction import Part, make_plan, run

load_encoder("random:vit_tiny")
# The decoder's processes take a second to start, and have nothing to do with what is tried here.
run.run_in_workers = lambda function, jobs, arguments, *_: ((job, function(*arguments(job))) for job in jobs)

def work(table, path, index, count, batch, shard, pause):
    def say(text):
        os.write(1, f"{index}/{count} {text}\\n".encode())

    def advance(clips):
        say("clips")
        time.sleep(float(pause))

    plan = make_plan(
        load_manifest("table", table), identify("random:vit_tiny"), ClipPlan(2, 4, size=32), precision="float32",
        path=Path(path),
    )
    say(f"pid {os.getpid()}")
    try:
        store = run.extract(
            plan, device="cpu", batch=int(batch), shard=int(shard) or None, part=Part(int(index), int(count)),
            progress=run.Progress(advance=advance, log=say),
        )
        say(f"ended {store.finished}")
    except EcholungError as error:
        say(f"refused {error}")

if __name__ == "__main__":
    for line in sys.stdin:
        if os.fork() == 0:  # so that torch, which has started no thread yet, is imported once
            work(*line.split())
            os._exit(0)
"""


class Runner:
    """A process that forks an extraction for each line it is told."""

    def __init__(self, folder: Path) -> None:
        (folder / "run.py").write_text(RUN)
        self.process = subprocess.Popen(
            [sys.executable, str(folder / "run.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self.table = folder
        self.pids: dict[str, int] = {}

    def start(self, path: Path, part: str, batch: int = 1, shard: int = 0, pause: float = 0.0) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{self.table} {path} {part.replace('/', ' ')} {batch} {shard} {pause}\n")
        self.process.stdin.flush()

    def line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if found := re.fullmatch(r"(\S+) pid (\d+)", line):
            self.pids[found[1]] = int(found[2])
        return line

    def until(self, pattern: str) -> list[str]:
        """Return the lines up to the first that matches."""
        lines = [self.line()]
        while not re.search(pattern, lines[-1]):
            assert lines[-1], "the process has ended"
            lines.append(self.line())
        return lines

    def until_ended(self, count: int) -> list[str]:
        return [line for _ in range(count) for line in self.until(r"^\S+ (ended|refused)")]

    def kill(self, part: str) -> None:
        os.kill(self.pids.pop(part), signal.SIGKILL)


@pytest.fixture(scope="module")
def forker(tmp_path_factory):
    """Return a runner, which takes seconds to start."""
    runner = Runner(tmp_path_factory.mktemp("runner"))
    yield runner
    runner.process.kill()
    runner.process.communicate()


@pytest.fixture
def runner(forker, dataset):
    """Return a runner on the dataset; what it still runs at the end is ended."""
    forker.table = dataset.folder / "videos.csv"
    yield forker
    for part in list(forker.pids):
        forker.kill(part)  # their parent waits for none of them, so that these ids are still theirs


def same(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def clean(path):
    """Whether nothing is left of its making."""
    return not list(path.rglob("*.partial")) and {p.name for p in path.parent.glob(path.name + "*")} == {
        path.name,
        path.name + ".lock",
    }


def test_three_at_once(runner, dataset, extract, arrays, tmp_path):
    for batch, shard in ((1, 0), (3, 0), (1, 2)):
        expected = arrays(extract(dataset.plan(tmp_path / f"one{batch}{shard}.zarr"), batch=batch).path)
        path = tmp_path / f"three{batch}{shard}.zarr"
        for part in ("1/3", "2/3", "3/3"):
            runner.start(path, part, batch, shard, pause=0.03)
        lines = runner.until_ended(3)
        assert sum("ended True" in line for line in lines) == 1  # the last one has finished it
        blocks = {1: 10, 3: 4}[batch] if not shard else 10
        assert sum(line.endswith(" clips") for line in lines) == blocks  # nothing was done twice
        assert all(any(line == f"{part}/3 clips" for line in lines) for part in (1, 2, 3))
        same(arrays(path), expected)
        assert TokenStore.open(path).sharded == bool(shard) and clean(path)


def test_overlapping_is_refused_and_harms_nothing(runner, dataset, extract, arrays, tmp_path):
    expected = arrays(extract(dataset.plan(tmp_path / "one.zarr"), batch=1).path)
    path = tmp_path / "a.zarr"
    runner.start(path, "1/2", pause=0.4)
    runner.until("1/2 clips")
    for part in ("1/3", "3/3", "1/1", "1/2"):
        runner.start(path, part)
        refused = runner.until(f"^{part} refused")[-1]
        assert "Another process is writing a.zarr (part 1/2). Wait for it, or end it first." in refused
    lines = runner.until("1/2 ended")
    assert lines[-1] == "1/2 ended False"
    assert "1/2 Part 1/2 is done; 5 clips are of parts that nobody is writing: run those, too." in lines
    runner.start(path, "1/1", pause=0.2)  # the rest
    runner.until("1/1 clips")
    runner.start(path, "2/2")
    assert "Another process is writing a.zarr. Wait" in runner.until("^2/2 refused")[-1]
    runner.until("1/1 ended True")
    same(arrays(path), expected)
    assert clean(path)


def check_killed(rounds, runner, dataset, extract, arrays, tmp_path):
    expected = arrays(extract(dataset.plan(tmp_path / "one.zarr"), batch=1).path)
    random = np.random.default_rng(rounds)
    for number in range(rounds):
        path, shard = tmp_path / f"{number}.zarr", int(random.choice([0, 2]))
        for part in ("1/2", "2/2"):
            runner.start(path, part, shard=shard, pause=0.05)
        for _ in range(int(random.integers(1, 3))):
            runner.until("2/2 clips")
        time.sleep(float(random.uniform(0, 0.05)))
        runner.kill("2/2")
        lines = runner.until("1/2 ended")
        assert lines[-1] == "1/2 ended False"
        assert any("clips are of parts that nobody is writing" in line for line in lines), lines
        if number % 2:
            extract(dataset.plan(path), batch=1)
        else:
            runner.start(path, "2/2")
            assert runner.until("2/2 ended")[-1] == "2/2 ended True"
        same(arrays(path), expected)
        assert clean(path)


def test_one_killed_and_completed(runner, dataset, extract, arrays, tmp_path):
    check_killed(2, runner, dataset, extract, arrays, tmp_path)


@pytest.mark.slow
def test_killed_ten_times(runner, dataset, extract, arrays, tmp_path):
    check_killed(10, runner, dataset, extract, arrays, tmp_path)


def test_one_after_the_other(dataset, extract, arrays, tmp_path):
    expected = arrays(extract(dataset.plan(tmp_path / "one.zarr")).path)
    plan, said = dataset.plan(tmp_path / "a.zarr"), []
    first = extract(plan, said, part=Part(1, 2))
    assert not first.finished and first.complete.tolist() == [True] * 3 + [False] * 3 + [True] * 3 + [False]
    assert said[-1] == "Part 1/2 is done; 4 clips are of parts that nobody is writing: run those, too."
    assert finished_store(plan) is None
    assert extract(plan, part=Part(2, 2)).finished
    same(arrays(plan.path), expected)
    assert finished_store(plan) is not None


def test_a_changed_source_in_parts(dataset, extract, arrays, tmp_path):
    plan = dataset.plan(tmp_path / "a.zarr")
    extract(plan, batch=2)
    dataset.write_video("v1", seed=8)
    dataset.write_video("v2", seed=9)
    assert not extract(plan, part=Part(2, 2)).finished
    store = TokenStore.open(plan.path, unfinished=True)
    assert store.array("complete").chunks == (2,)  # blocks are chunks of their own again
    assert store.complete.tolist() == [True] * 4 + [False] * 2 + [True] * 4
    assert extract(plan, part=Part(1, 2)).finished
    same(arrays(plan.path), arrays(extract(dataset.plan(tmp_path / "fresh.zarr"), batch=2).path))


def test_each_part_tries_its_own_again(dataset, extract, tmp_path):
    for name in ("v1", "v2"):
        (dataset.folder / f"{name}.mp4").write_text("no video")
    plan = dataset.plan(tmp_path / "a.zarr")
    extract(plan, batch=2)
    said = []
    for index in (1, 2):  # each ends with a finished store, so that the next part, or nobody, may follow
        assert extract(plan, said, part=Part(index, 2), retry=True).finished
    assert [line.split(":")[0] for line in said if line.startswith("Left out")] == ["Left out v2", "Left out v1"]


def test_growth_in_parts(dataset, extract, arrays, tmp_path):
    plan = dataset.plan(tmp_path / "a.zarr")
    extract(plan, batch=1)
    for seed in (5, 6):
        dataset.write_video(f"v{seed}", seed=seed)
        dataset.labels[f"v{seed}"] = "b"
    dataset.write_table()
    plan = dataset.plan(plan.path)
    assert not extract(plan, part=Part(2, 2)).finished
    assert extract(plan, part=Part(1, 2)).finished
    same(arrays(plan.path), arrays(extract(dataset.plan(tmp_path / "fresh.zarr"), batch=1).path))


def test_videos_that_came_while_others_write(runner, dataset, tmp_path):
    path = tmp_path / "a.zarr"
    runner.start(path, "1/2", pause=0.5)
    runner.until("1/2 clips")
    dataset.write_video("v5", seed=5)
    dataset.labels["v5"] = "b"
    dataset.write_table()
    runner.start(path, "2/2")
    assert "The dataset has videos that a.zarr has no rows for (v5)" in runner.until("^2/2 refused")[-1]


@pytest.mark.parametrize("text", ["0/2", "3/2", "a/b", "1", "1/0", "-1/2", "1/2/3", ""])
def test_what_is_no_part(text):
    with pytest.raises(InputError, match=re.escape(f"--part {text} must be i/n with i from 1 to n")):
        parse_part(text)


def test_every_clip_is_of_one_part():
    for count in (1, 2, 5, 40):
        shares = [Part(i + 1, count).clips(67, 4) for i in range(count)]
        np.testing.assert_array_equal(np.sum(shares, axis=0), np.ones(67))
        assert all(len(np.unique(share[start : start + 4])) == 1 for share in shares for start in range(0, 67, 4))


def test_launched_by_torchrun():
    environment = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}
    assert choose_part(None, environment) == Part(4, 8)
    assert choose_part(None, {}) == choose_part(None, {"RANK": "0", "WORLD_SIZE": "1"}) == Part(1, 1)
    assert choose_part("2/3", {}) == Part(2, 3)
    with pytest.raises(
        InputError, match=r"--part 2/3 was given to a process that torchrun started \(WORLD_SIZE is 8\)"
    ):
        choose_part("2/3", environment)
    assert choose_device("cuda", environment) == "cuda:1" and choose_device("cuda:5", environment) == "cuda:5"
    assert choose_device("cpu", environment) == "cpu" and choose_device("cuda", {}) == "cuda"


def test_device_of_a_rank(monkeypatch):
    import torch

    environment = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}
    for there, expected in ((True, "cuda:1"), (False, "auto")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert choose_device("auto", environment) == expected


ARGUMENTS = "--encoder random:vit_tiny --frames 4 --size 32 --precision float32 --device cpu --batch 2 --workers 1"


@pytest.mark.slow
def test_torchrun(dataset, extract, arrays, tmp_path):
    torchrun = Path(sys.executable).with_name("torchrun")
    if not torchrun.exists():
        pytest.skip("torchrun is not installed")
    command = [
        "extract",
        "--dataset",
        str(dataset.folder / "videos.csv"),
        "--store",
        str(tmp_path / "a.zarr"),
        *ARGUMENTS.split(),
    ]
    launch = [str(torchrun), "--nproc-per-node", "2", "-m", "echolung.cli", *command]
    result = subprocess.run(launch, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    same(arrays(tmp_path / "a.zarr"), arrays(extract(dataset.plan(tmp_path / "one.zarr"), batch=2).path))
    assert clean(tmp_path / "a.zarr")
