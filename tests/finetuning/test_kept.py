"""Folds that are kept: what is damaged counts as not done, and one process at a time has the folder."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from echolung.errors import InputError
from echolung.evaluation.selection import Choice
from echolung.finetuning.kept import ARRAYS, Folder, Tuned

HOLDER = """
import sys, time
from echolung.finetuning.kept import Folder
folder = Folder({"task": "pattern"})
print("held", flush=True)
time.sleep(60)
"""


def test_a_part_that_is_cut_short_is_not_done():
    folder = Folder({"task": "pattern"})
    folder.save(0, Tuned(Choice({"lr": 1e-3}, 2), **{name: np.zeros((3, 2)) for name in ARRAYS}))
    assert folder.load(0).choice == Choice({"lr": 1e-3}, 2)
    file = folder.path / "part-0.npz"
    whole = file.read_bytes()
    for size in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:size])
        assert folder.load(0) is None
    file.write_bytes(whole.replace(bytes(48), b"\x01" * 48))
    assert folder.load(0) is None


def test_one_at_a_time_has_the_folder():
    with Folder({"task": "pattern"}) as folder:
        folder.place((2, 2))
        with pytest.raises(InputError, match=f"fine-tunes the same question now.*{folder.path}"):
            Folder({"task": "pattern"})
        Folder({"task": "depth"})
        folder.remove()
        with pytest.raises(InputError, match="the same question"):
            Folder({"task": "pattern"})
    with pytest.raises(ZeroDivisionError), Folder({"task": "pattern"}) as again:
        assert again.path == folder.path
        raise ZeroDivisionError
    Folder({"task": "pattern"})


def test_a_process_that_is_killed_lets_others_in():
    process = subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    with process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="the same question"):
            Folder({"task": "pattern"})
        process.send_signal(signal.SIGKILL)
    Folder({"task": "pattern"})
