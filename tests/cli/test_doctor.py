"""`echolung doctor` and `extract --dry-run`, as typed."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from echolung.datasets import phantom_lung
from echolung.doctor import decoders, device, examine
from echolung.doctor.finding import Finding

SMALL = ["--encoder", "random:vit_tiny", "--frames", "4", "--size", "32", "--device", "cpu", "--precision", "float32"]


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms")
    phantom_lung.write(folder, videos=6, frames=8, size=48)
    return folder


@pytest.fixture
def quick(monkeypatch):
    """Leave out what takes seconds, and is tested elsewhere."""
    groups = {
        "decoders": lambda: [Finding(name, "pass", "PyAV 18: 12 of 12 frames") for name in ("GIF", "MOV")],
        "space": lambda: [Finding("disk", "warn", "1.00 GB free", "Free some space [soon].")],
    }
    monkeypatch.setattr(examine, "GROUPS", groups)
    return groups


def test_one_screen(typed, quick):
    code, out, _ = typed("doctor")
    lines = [line.rstrip() for line in out.splitlines()]
    assert code == 0
    assert lines == [
        "decoders pass GIF, MOV: PyAV 18: 12 of 12 frames",
        "space    warn disk: 1.00 GB free",
        "         fix  Free some space [soon].",
        "2 pass, 1 warn. echolung can work here.",
    ]


def test_json_and_exit_code(typed, quick):
    quick["threads"] = lambda: [Finding("processors", "fail", "none", "Buy one.")]
    code, out, _ = typed("doctor", "--json")
    found = json.loads(out)
    assert code == 1 and (found["pass"], found["warn"], found["fail"]) == (2, 1, 1)
    fields = {"name": "processors", "level": "fail", "what": "none", "fix": "Buy one."}
    assert found["groups"]["threads"] == [fields]


def test_all_of_it_fits_a_small_terminal_without_colour(tmp_path):
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "80", "ECHOLUNG_HOME": str(tmp_path / "höme")}
    command = [sys.executable, "-m", "echolung.cli", "doctor"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80 and len(lines) <= 32 and "\x1b" not in done.stdout
    assert done.returncode == (" fail" in lines[-1]), done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_chosen_extraction(typed, quick, phantoms, monkeypatch, echolung_home):
    monkeypatch.setattr("echolung.extraction.pace.PATIENCE", 0.01)
    words = ["doctor", "--dataset", "phantom-lung", "--data", phantoms, "--encoder", "random:vit_tiny"]
    code, out, _ = typed(*words)
    assert code == 0 and "phantom-lung by random:vit_tiny: 12 clips," in out and "12 clips remain" in out
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    code, out, _ = typed(*words, "--json")
    found = json.loads(out)
    assert code == 1 and found["estimate"]["tokens"] == 1568
    assert "--token-pool 2" in found["groups"]["extraction"][0]["fix"]
    assert list(echolung_home.iterdir()) == []


@pytest.mark.parametrize(
    "words, expected",
    [
        (["--dataset", "pocus"], "pocus"),
        (["--dataset", "phantom-lung", "--encoder", "random:vit_huuge"], "vit_huge"),
    ],
)
def test_an_extraction_that_cannot_begin(typed, quick, phantoms, words, expected):
    data = ["--data", phantoms] if "phantom-lung" in words else []
    code, out, _ = typed("doctor", *words, *data)
    assert code == 1 and expected in out and "Traceback" not in out


def test_an_encoder_needs_a_dataset(typed, quick):
    code, _, err = typed("doctor", "--encoder", "random:vit_tiny")
    assert code == 2 and "name its --dataset" in " ".join(err.split())


def test_dry_run(typed, phantoms, echolung_home):
    words = ["extract", "--dataset", "phantom-lung", "--data", phantoms, *SMALL, "--batch", "2"]
    code, out, err = typed(*words, "--dry-run", "--write-starts", echolung_home / "starts.csv")
    assert code == 0, err
    text = " ".join(out.split())
    assert "phantom-lung by random:vit_tiny@0: nothing is written." in text
    assert "clips 12, 2 a video tokens 8 (2 × 2 × 2) of 192 numbers a clip" in text
    assert "time a few seconds on cpu" in text and "just now:" in text
    assert list(echolung_home.iterdir()) == []
    code, out, err = typed(*words, "--workers", "1", "--part", "1/2")
    assert code == 0, err
    code, out, _ = typed(*words, "--dry-run", "--json")
    found = json.loads(out)
    assert (found["clips"], found["remaining"], found["fits"]) == (12, 6, True)
    typed(*words, "--workers", "1", "--part", "2/2")
    code, out, _ = typed(*words, "--dry-run")
    assert code == 0 and "there is nothing to do" in out and "0 remain" in out


def test_a_dry_run_does_not_write_the_weights_digest_down(typed, phantoms, echolung_home, tmp_path):
    from echolung.encoders import load_encoder, save_encoder

    checkpoint = tmp_path / "tiny.safetensors"
    save_encoder(checkpoint, load_encoder("random:vit_tiny").model)
    words = ["extract", "--dataset", "phantom-lung", "--data", phantoms, *SMALL[2:], "--encoder", checkpoint]
    code, _, err = typed(*words, "--dry-run")
    assert code == 0, err
    assert list(echolung_home.iterdir()) == []


def test_weights_that_are_not_here_are_estimated_by_random_ones(typed, quick, phantoms, echolung_home, monkeypatch):
    from echolung.downloads import weights

    monkeypatch.setitem(
        weights.WEIGHTS, "vjepa2-vitl", replace(weights.WEIGHTS["vjepa2-vitl"], architecture="vit_tiny")
    )
    words = ["--dataset", "phantom-lung", "--data", phantoms, "--encoder", "vjepa2-vitl"]
    code, out, err = typed("extract", *words, *SMALL[2:], "--dry-run")
    text = " ".join(out.split())
    assert code == 0, err
    assert "phantom-lung by vjepa2-vitl: nothing is written." in text and "8 (2 × 2 × 2) of 192 numbers" in text
    assert "echolung encoders download vjepa2-vitl" in text
    code, out, _ = typed("doctor", *words, "--json")
    found = json.loads(out)
    assert code == 0 and found["estimate"]["dim"] == 192
    assert "are not here" in found["groups"]["extraction"][0]["fix"]
    code, _, err = typed("extract", *words, *SMALL[2:])
    assert code == 2 and "downloads nothing by itself" in " ".join(err.split())
    assert list(echolung_home.iterdir()) == []


def test_the_product_that_is_timed_is_one():
    assert 1e8 < device.speed() < 1e15
    assert len(decoders.picture()) == decoders.FRAMES
