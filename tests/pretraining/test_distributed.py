import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from echolung.errors import InputError
from echolung.pretraining.distributed import join

WORKER = """
import os, sys, time
import torch
from echolung.pretraining.distributed import join
from echolung.errors import EcholungError, RunError

what, rank = sys.argv[1], int(os.environ["RANK"])
try:
    with join(torch.device("cpu")) as group:
        total = group.total(torch.ones(1) * (rank + 1))
        print("total", float(total), flush=True)
        if rank == 1 and what == "fail":
            raise RunError("The disk is full.")
        if rank == 1 and what == "die":
            os.kill(os.getpid(), 9)
        if rank == 0 and what == "fall silent":
            time.sleep(600)  # stuck where no error can reach it
        group.total(torch.ones(1))
except EcholungError as error:
    print("told:", error, flush=True)
    sys.exit(1)
"""


def begin(what: str, ranks: int = 2) -> list[subprocess.Popen]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(ranks),
        "OMP_NUM_THREADS": "1",
    }
    return [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, what],
            env={**shared, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(ranks)
    ]


def end(processes: list[subprocess.Popen], seconds: float = 60) -> list[tuple[int, str]]:
    """Return (exit code, all output) of each process."""
    stop = time.monotonic() + seconds
    found = []
    for process in processes:
        try:
            out, err = process.communicate(timeout=max(1, stop - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            err += f"\nstill alive after {seconds} s"
        found.append((process.returncode, out + err))
    return found


def test_alone_nothing_is_set_up() -> None:
    with join(torch.device("cpu"), {}) as group:
        assert (group.rank, group.ranks, group.first) == (0, 1, True)
        assert group.total(torch.tensor(3.0)) == 3
        group.wait()


def test_an_incomplete_environment_is_said() -> None:
    with (
        pytest.raises(InputError, match="RANK, MASTER_PORT"),
        join(torch.device("cpu"), {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}),
    ):
        pass


def test_sums_are_over_all() -> None:
    for code, text in end(begin("work")):
        assert code == 0, text
        assert "total 3.0" in text


def test_one_that_fails_takes_the_others_along_with_its_words() -> None:
    (code, text), (failed, own) = end(begin("fail"))
    assert failed == 1
    assert "told: The disk is full." in own
    assert code == 1
    assert "Process 1 of 2 failed: The disk is full." in text


def test_one_that_is_killed_is_noticed() -> None:
    (code, text), (killed, _) = end(begin("die"))
    assert killed == -signal.SIGKILL
    assert code == 1, text


@pytest.mark.slow
def test_one_that_waits_where_nothing_reaches_it_is_ended(tmp_path: Path) -> None:
    silent, other = begin("fall silent")
    time.sleep(0.1)
    # It gives signs of life from its thread, so nobody ends it until another fails.
    while other.poll() is None and "total" not in (line := other.stdout.readline()):  # type: ignore[union-attr]
        assert line is not None
    other.send_signal(signal.SIGKILL)
    (code, text), _ = end([silent, other], seconds=58)
    assert code == 1, text
    assert "Process 1 of 2 has not given a sign of life" in text
