"""kill -9 at any moment, run again: every array is, bit for bit, that of a run that was never killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from echolung.cache import TokenStore

RUN = """
import os, sys
from pathlib import Path
from echolung.clips import ClipPlan
from echolung.datasets import load_manifest
from echolung.encoders import identify, load_encoder
from echolung.extraction import make_plan
from echolung.extraction.run import Progress, extract

load_encoder("random:vit_tiny")

def work(table, path):
    plan = make_plan(
        load_manifest("table", table), identify("random:vit_tiny"), ClipPlan(2, 4, size=32), precision="float32", path=path
    )
    progress = Progress(start=lambda *_: print("begun", flush=True), advance=lambda n: print(n, flush=True))
    extract(plan, device="cpu", batch=1, workers=1, progress=progress)

if __name__ == "__main__":
    for line in sys.stdin:
        child = os.fork()  # so that torch, which has started no thread yet, is imported once
        if child == 0:
            print(os.getpid(), flush=True)
            work(sys.argv[1], Path(line.strip()))
            os._exit(0)
        os.waitpid(child, 0)
        print("ended", flush=True)
"""


class Runner:
    """A process that runs one extraction after the other, each in a process of its own."""

    def __init__(self, folder: Path) -> None:
        (folder / "run.py").write_text(RUN)
        arguments = [sys.executable, str(folder / "run.py"), str(folder / "videos.csv")]
        self.process = subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def kill_at(self, store: Path, clip: int, delay: float) -> bool:
        """Kill an extraction `delay` seconds after its `clip`-th clip was encoded; whether it was still at work."""
        process = self.process
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(f"{store}\n")
        process.stdin.flush()
        child, lines = int(process.stdout.readline()), []
        while len(lines) <= clip and (not lines or lines[-1] != "ended"):
            lines.append(process.stdout.readline().strip())
        at_work = lines[-1] != "ended"
        if at_work:
            time.sleep(delay)
            os.kill(child, signal.SIGKILL)
            while process.stdout.readline().strip() != "ended":
                pass
        return at_work

    def close(self) -> None:
        self.process.communicate()


def compare(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def check(rounds, dataset, extract, arrays, tmp_path):
    # A batch of another size gives other last bits, so all are made with the batch of the script.
    expected = arrays(extract(dataset.plan(tmp_path / "whole.zarr"), batch=1).path)
    random = np.random.default_rng(rounds)
    path, killed = tmp_path / "killed.zarr", 0
    runner = Runner(dataset.folder)
    try:
        for number in range(rounds):
            killed += runner.kill_at(path, int(random.integers(0, 4)), float(random.uniform(0, 0.05)))
            if path.exists() and TokenStore.open(path, unfinished=True).finished:
                compare(arrays(path), expected)
                path = tmp_path / f"killed{number}.zarr"
    finally:
        runner.close()
    assert killed >= 0.6 * rounds
    store = extract(dataset.plan(path), batch=1)
    compare(arrays(store.path), expected)
    assert not list(path.rglob("*.partial"))
    assert store.complete.all()


def test_killed_three_times(dataset, extract, arrays, tmp_path):
    check(3, dataset, extract, arrays, tmp_path)


@pytest.mark.slow
def test_killed_fifteen_times(dataset, extract, arrays, tmp_path):
    check(15, dataset, extract, arrays, tmp_path)
