"""`echolung explain` on heart phantoms: pictures, the table, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from echolung.datasets.echonet_layout import write_dynamic
from echolung.pretraining.labelled.regressor import Regressor, to_probe


@pytest.fixture(scope="module")
def hearts(tmp_path_factory) -> Path:
    """Return a folder of small phantoms in EchoNet-Dynamic's layout."""
    folder = tmp_path_factory.mktemp("hearts") / "echonet-dynamic"
    write_dynamic(folder, videos=6, frames=20, size=64)
    return folder


def write_head(folder: Path, dim: int, classes: tuple[str, ...] = (), **about: object) -> Path:
    """Write a random head, of classes or of an EF around 55."""
    folder.mkdir()
    torch.manual_seed(0)
    head = Regressor(dim, len(classes) or 1, hidden="8", norm="batch")
    if not classes:
        head.begin_at(55.6)
    to_probe(head.eval(), classes, {"task": "ef-reduced" if classes else "ef", **about}).save(folder)
    return folder


@pytest.fixture
def explain(typed, hearts, tmp_path):
    """Return `echolung explain` in this process: words -> (exit code, stdout, stderr in one line)."""

    def run(*words: object) -> tuple[int, str, str]:
        how = ("--dataset", "echonet-dynamic", "--data", hearts, "--device", "cpu", "--out", tmp_path / "out")
        code, out, err = typed("explain", *how, *words)
        return code, out, " ".join(err.split())

    return run


SMALL = ("--frames", 8, "--size", 48, "--count", 2)


def test_pictures_and_shares_of_a_convolutional_encoder(explain, tmp_path):
    clips = {"frames": 8, "stride": 2, "size": 48, "segments": 4, "views": 3, "pad": "black", "crop": "whole"}
    head = write_head(tmp_path / "head", 192, store_key={"clips": clips})
    words = ("--encoder", "random:uniformer_tiny", "--head", head, "--count", 2, "--stage", "stage 3")
    code, out, err = explain(*words)
    assert code == 0, err
    assert "Clips: 8 frames, every 2. of the video, 48 × 48 pixels (as the head was trained)" in err
    assert "of the map inside the ventricle" in out
    table = pd.read_csv(tmp_path / "out" / "explain.csv")
    assert table["method"].eq("grad-cam").all()
    assert table["stage"].eq("stage 3").all()
    assert table["traced_frames"].between(1, 2).all()
    assert table["area_inside"].between(0.02, 0.5).all()
    known = table[table["mass_inside"].notna()]
    np.testing.assert_allclose(known["ratio"], known["mass_inside"] / known["area_inside"])
    for video in table["video_id"]:
        with Image.open(tmp_path / "out" / f"{video}.png") as strip, Image.open(strip.filename[:-3] + "webp") as moving:
            assert (strip.mode, moving.n_frames) == ("RGB", 8)
            assert strip.width > 8 * 112


def test_stopped_it_leaves_nothing_that_the_same_command_would_refuse(explain, tmp_path, monkeypatch):
    from echolung.cli import explain as module

    draw = module._draw

    def stopped(seen, folder):
        draw(seen, folder)
        assert len(list(folder.iterdir())) == 2
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_draw", stopped)
    words = ("--encoder", "random:uniformer_tiny", "--head", write_head(tmp_path / "head", 192), *SMALL)
    code, _, err = explain(*words)
    assert code == 130 and "Nothing half-written is left. To begin again: echolung explain" in err
    assert {path.name for path in tmp_path.iterdir()} == {"head", "out"} and not list((tmp_path / "out").iterdir())


def test_classes_and_what_is_explained(explain, tmp_path):
    head = write_head(tmp_path / "head", 192, ("EF >= 50", "EF < 50"))
    words = ("--encoder", "random:uniformer_tiny", "--head", head, *SMALL, "--no-pictures", "--json")
    code, out, err = explain(*words, "--class", "EF < 50")
    assert code == 0, err
    told = json.loads(out)
    assert {video["explained"] for video in told["videos"]} == {"EF < 50"}
    assert {video["prediction"] for video in told["videos"]} <= {"EF >= 50", "EF < 50"}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["explain.csv", "run.json"]


@pytest.mark.parametrize("method", ["attention", "rollout"])
def test_attention_needs_no_head(explain, tmp_path, method):
    code, out, err = explain("--encoder", "random:vit_tiny", "--method", method, *SMALL, "--json")
    assert code == 0, err
    told = json.loads(out)
    assert all(video["prediction"] is None for video in told["videos"])
    assert set(told["mean"]) == {"mass_inside", "area_inside", "ratio"}
    # a random transformer attends to all tokens nearly alike
    assert told["mean"]["ratio"]["mean"] == pytest.approx(1, abs=0.2)
    assert told["mean"]["ratio"]["low"] <= told["mean"]["ratio"]["mean"] <= told["mean"]["ratio"]["high"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "has no head that gives one. Name it with --head"),
        (("--method", "attention", "--lowers"), "--lowers is for --method grad-cam"),
        (("--method", "saliency"), "must be one of grad-cam, attention, rollout"),
        (("--head", "nowhere"), "There is no head nowhere"),
        (("--method", "attention", "--videos", "0XNONE"), "has no video 0XNONE"),
        (("--method", "attention", "--stage", "block 5"), "no stage 'block 5'; it has 'stage 1'"),
    ],
)
def test_what_cannot_be_is_said(explain, words, message):
    code, _, err = explain("--encoder", "random:uniformer_tiny", *SMALL, *words)
    assert (code, message in err) == (2, True), err


def test_heads_of_another_width_or_kind_are_refused(explain, tmp_path):
    words = ("--encoder", "random:uniformer_tiny", *SMALL)
    code, _, err = explain(*words, "--head", write_head(tmp_path / "wide", 64))
    assert (code, "takes tokens of width 64, and the encoder's are 192 wide" in err) == (2, True), err


def test_a_number_has_no_class(explain, tmp_path):
    head = write_head(tmp_path / "head", 192)
    code, _, err = explain("--encoder", "random:uniformer_tiny", *SMALL, "--head", head, "--class", "low")
    assert (code, "predicts a number, so there is no --class 'low'" in err) == (2, True), err


def test_a_video_that_cannot_be_read_costs_that_video(explain, hearts, tmp_path):
    names = sorted(path.stem for path in (hearts / "Videos").iterdir())[:2]
    file = hearts / "Videos" / f"{names[0]}.avi"
    kept = file.read_bytes()
    file.write_bytes(b"nothing")
    try:
        words = ("--encoder", "random:vit_tiny", "--method", "attention", *SMALL, "--no-pictures")
        code, _, err = explain(*words, "--videos", ",".join(names))
    finally:
        file.write_bytes(kept)
    assert code == 0, err
    assert f"{names[0]} cannot be read" in err
    assert list(pd.read_csv(tmp_path / "out" / "explain.csv")["video_id"]) == names[1:]
