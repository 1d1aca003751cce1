"""`echolung extract`: how a store is kept, and how several processes share the work, as typed."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from echolung.cache import TokenStore
from echolung.cli import app
from echolung.datasets import phantom_lung
from echolung.text import in_bytes

HOW = "--encoder random:vit_tiny --frames 4 --size 32 --workers 1 --device cpu --precision float32 --batch 2"

Run = Callable[[str], tuple[int, str, str]]


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    phantom_lung.write(folder, videos=6, frames=8, size=48)
    return folder


@pytest.fixture
def extract(phantoms, monkeypatch, capsys) -> Run:
    """Return `echolung extract` in this process: options -> exit code, stdout, stderr (each in one line)."""

    def call(options: str) -> tuple[int, str, str]:
        line = f"extract --dataset phantom-lung --data {phantoms} {HOW} {options}"
        monkeypatch.setattr(sys, "argv", ["echolung", *line.split()])
        monkeypatch.setattr(app, "_debug", False)
        with pytest.raises(SystemExit) as left:
            app.main()
        out, err = (" ".join(text.split()) for text in capsys.readouterr())
        return int(left.value.code or 0), out, err

    return call


def test_parts_and_what_is_said(extract, tmp_path):
    store = tmp_path / "a.zarr"
    code, out, err = extract(f"--store {store} --part 1/2 --json")
    assert code == 0, err
    assert "Part 1/2 is done; 6 clips are of parts that nobody is writing: run those, too." in err
    facts = json.loads(out)
    assert (facts["complete"], facts["clips"], facts["finished"], facts["bytes"]) == (6, 12, False, None)
    code, out, err = extract(f"--store {store} --part 2/2")
    assert code == 0 and "12 of 12 clips, 8 tokens (2 × 2 × 2) of 192 numbers each" in out
    code, out, err = extract(f"--store {store} --part 1/2")
    assert code == 0 and "a.zarr is complete; nothing to do." in err


def test_as_torchrun_starts_it(extract, tmp_path, monkeypatch):
    extract(f"--store {tmp_path / 'one.zarr'}")
    path = tmp_path / "a.zarr"
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, finished in ((1, False), (0, True)):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        code, _, err = extract(f"--store {path}")
        assert code == 0, err
        assert TokenStore.open(path, unfinished=True).finished == finished
    one, two = TokenStore.open(tmp_path / "one.zarr"), TokenStore.open(path)
    np.testing.assert_array_equal(two.tokens(range(12)), one.tokens(range(12)))
    code, _, err = extract(f"--store {path} --part 1/2")
    assert code == 2 and "Leave --part out, or run without torchrun" in err


@pytest.mark.parametrize("part", ["0/2", "3/2", "a/b"])
def test_no_part(extract, part):
    code, _, err = extract(f"--part {part}")
    assert code == 2 and "Error:" in err and f"--part {part} must be i/n" in err and "Traceback" not in err


def test_pooled_rows_only(extract, tmp_path):
    code, out, err = extract(f"--store {tmp_path / 'a.zarr'} --tokens none")
    assert code == 0, err
    size = sum(file.stat().st_size for file in (tmp_path / "a.zarr").rglob("*") if file.is_file())
    assert f"12 of 12 clips, the mean over tokens of 192 numbers each, {in_bytes(size)} on disk" in out
    code, out, _ = extract(f"--store {tmp_path / 'a.zarr'} --tokens none --json")
    assert json.loads(out)["bytes"] == size and json.loads(out)["tokens"] == 0


def test_pooled_tokens_in_shards(extract, tmp_path):
    code, out, err = extract(f"--store {tmp_path / 'a.zarr'} --token-pool 2 --shard 4")
    assert code == 0, err
    assert "2 tokens (2 × 1 × 1) of 192 numbers each" in out
    assert len(list((tmp_path / "a.zarr" / "tokens" / "c").iterdir())) == 3
    code, _, err = extract(f"--store {tmp_path / 'b.zarr'} --token-pool 3")
    assert code == 2 and "does not divide the encoder's token grid of 2 × 2; 2 would fit." in err


def test_help_fits_a_terminal():
    result = subprocess.run(
        [sys.executable, "-m", "echolung.cli", "extract", "--help"],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "80"},
        check=True,
    )
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert all(f"{word} " in result.stdout for word in ("--part", "--shard", "--token-pool", "--tokens"))
    assert "… │" not in result.stdout.replace("python:module:Class, … ", "")  # nothing cut off
