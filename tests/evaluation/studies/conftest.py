"""What the tests of studies share: a small store, and workers as processes of their own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

WORKER = """
import json, os, sys, time
from dataclasses import replace
from echolung.cache import TokenStore
from echolung.evaluation.studies import run_study
from echolung.probes import PROBES

path, stuck, arguments = sys.argv[1], sys.argv[2] == "stuck", json.loads(sys.argv[3])
if stuck:
    def fit(*rest):
        print("training", flush=True)
        time.sleep(600)
    PROBES["logistic"] = replace(PROBES["logistic"], fit=fit, estimate=lambda *rest: 0.0)
found = run_study(TokenStore.open(path), probe="logistic", cv=3, resume=True, **arguments)
result = found.result
print(json.dumps({"chosen": result.chosen, "scores": result.scores.tolist(), "study": result.settings["study"]}))
"""


class Worker:
    """A process that works on a study."""

    def __init__(self, store: Any, stuck: bool, arguments: dict[str, Any]) -> None:
        command = [sys.executable, "-c", WORKER, str(store.path), "stuck" if stuck else "", json.dumps(arguments)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )

    def result(self) -> dict[str, Any]:
        out, err = self.process.communicate(timeout=240)
        assert self.process.returncode == 0, err
        return json.loads(out.splitlines()[-1])

    def kill_while_it_trains(self) -> None:
        assert self.process.stdout.readline().strip() == "training", self.process.stderr.read()
        time.sleep(0.1)
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


@pytest.fixture
def worker(tmp_path: Path) -> Callable[..., Worker]:
    """Return a starter of workers; what is left of them in the end is stopped."""
    started = []

    def start(store: Any, stuck: bool = False, **arguments: Any) -> Worker:
        started.append(Worker(store, stuck, arguments))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.communicate()
