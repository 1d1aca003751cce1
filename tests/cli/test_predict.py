"""`echolung predict`: a saved probe on new videos gives what it gives from the store, and says where it should not be trusted."""

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from echolung.cache import TokenStore
from echolung.cli import app
from echolung.clips import ClipPlan
from echolung.datasets import load_manifest, phantom_lung
from echolung.encoders import identify
from echolung.evaluation import cross_validate
from echolung.extraction import make_plan
from echolung.extraction.run import extract
from echolung.probes import Probe, load_features, load_probe
from echolung.probes.predictions import predict_store
from echolung.probes.saved import with_provenance
from echolung.report.run import RECORD_SCHEMA, digest_of
from echolung.settings import home

CLIPS = ClipPlan(segments=2, frames=4, size=32)


@dataclass
class Trained:
    """Videos on disk, the store made of them, and probes fitted on it."""

    videos: Path
    store: TokenStore
    folder: Path

    def probe(self, kind: str = "linear", task: str | None = None, name: str = "", **change: Any) -> Path:
        """Return the folder of a probe, fitted the first time it is asked for."""
        folder = self.folder / f"{kind}-{task}{name}"
        if not folder.is_dir():
            result = cross_validate(self.store, task, probe=kind, cv=3, epochs=3)
            assert result.probe is not None
            fitted = with_provenance(result.probe, self.store, result.predictions)
            folder.mkdir()
            Probe(kind, fitted.classes, fitted.arrays, {**fitted.about, **change}, fitted.reference).save(folder)
        return folder


def make(videos: Path, table: Path, folder: Path, clips: ClipPlan) -> Trained:
    plan = make_plan(
        load_manifest("table", table), identify("random:vit_tiny"), clips, path=folder / "s.zarr", precision="float32"
    )
    return Trained(videos, extract(plan, device="cpu", workers=1), folder)


@pytest.fixture(scope="module")
def lungs(tmp_path_factory) -> Trained:
    folder = tmp_path_factory.mktemp("lungs")
    phantom_lung.write(folder / "videos", videos=18, frames=8, size=48)
    manifest = load_manifest("phantom-lung", folder / "videos")
    table = manifest.videos[["path", "patient", "pattern"]].assign(depth=np.linspace(1, 9, len(manifest.videos)))
    table.to_csv(manifest.root / "lungs.csv", index=False)
    return make(manifest.root, manifest.root / "lungs.csv", folder, CLIPS)


@pytest.fixture
def predict(monkeypatch, capsys):
    """Return `echolung predict` in this process: arguments -> exit code, stdout, stderr in one line."""

    def call(*arguments: object) -> tuple[int, str, str]:
        how = ("--device", "cpu", "--workers", "1")
        monkeypatch.setattr(sys, "argv", ["echolung", "predict", *map(str, arguments), *how])
        monkeypatch.setattr(app, "_debug", False)
        with pytest.raises(SystemExit) as left:
            app.main()
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, " ".join(err.split())

    return call


def check_round_trip(trained: Trained, probe: Path, table: pd.DataFrame) -> None:
    """Predictions on the training videos' files are those of the probe from the store."""
    fitted, expected = load_probe(probe), predict_store(load_probe(probe), trained.store)
    paths = trained.store.snapshot.videos.set_index("video_id")["path"]
    expected["file"] = [Path(paths[name]).name for name in expected["file"]]
    table = table.assign(file=[Path(name).name for name in table["file"]])
    both = expected.merge(table, on="file", suffixes=("", "_new"), validate="1:1")
    assert len(both) == len(expected) == len(table)
    columns = [f"p_{name}" for name in fitted.classes] or ["prediction"]
    np.testing.assert_allclose(both[[f"{name}_new" for name in columns]], both[columns], rtol=2e-5)
    np.testing.assert_allclose(both["novelty_new"], both["novelty"], rtol=1e-3, atol=1e-7)
    scores = fitted.predict(load_features(trained.store, pooled=fitted.kind == "linear"))
    np.testing.assert_array_equal(expected[columns], scores)


@pytest.mark.parametrize(("kind", "task"), [("linear", "pattern"), ("linear", "depth"), ("attentive", "pattern")])
def test_training_videos_are_predicted_as_from_the_store(lungs, predict, kind, task, tmp_path):
    probe, file = lungs.probe(kind, task), tmp_path / "new" / "predictions.csv"
    code, out, err = predict(probe, lungs.videos, "--out", file)
    assert code == 0, err
    check_round_trip(lungs, probe, pd.read_csv(file, keep_default_na=False))
    assert err.count("Not a medical device") == 1 and f"Saved in {file}" in err
    assert f"lungs · {task} · {kind} probe on random:vit_tiny@0" in " ".join(out.split())


def test_real_videos_are_predicted_as_from_the_store(real_data, predict, tmp_path):
    folder = real_data / "covid19_ultrasound" / "data" / "pocus_videos" / "convex"
    chosen = []
    for prefix in ("Cov", "Pneu", "Reg"):
        chosen += sorted(folder.glob(f"{prefix}*"), key=lambda file: file.stat().st_size)[:4]
    pd.DataFrame({"path": chosen, "label": [file.name[:3] for file in chosen]}).to_csv(
        tmp_path / "few.csv", index=False
    )
    few = make(folder, tmp_path / "few.csv", tmp_path, ClipPlan(frames=8, size=64))
    probe = few.probe("linear", "label")
    code, out, err = predict(probe, *reversed(chosen), "--json")
    assert code == 0, err
    found = json.loads(out)
    assert [row["file"] for row in found["videos"]] == [file.name for file in reversed(chosen)]
    rows = [{**row, **{f"p_{c}": p for c, p in row["probabilities"].items()}} for row in found["videos"]]
    check_round_trip(few, probe, pd.DataFrame(rows))


def test_what_programs_get(lungs, predict, tmp_path):
    file = tmp_path / "out.json"
    code, out, err = predict(
        lungs.probe("linear", "pattern"), next(lungs.videos.rglob("*.avi")), "--json", "--out", file
    )
    assert code == 0, err
    found = json.loads(out)
    assert json.loads(file.read_text()) == found
    assert (found["dataset"], found["task"], found["encoder"]) == ("lungs", "pattern", "random:vit_tiny@0")
    (row,) = found["videos"]
    assert set(row) >= {"file", "prediction", "probabilities", "novelty", "novelty_percentile", "warning", "error"}
    assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-6)
    assert max(row["probabilities"], key=row["probabilities"].get) == row["prediction"]
    assert set(row["calibrated"]) == set(found["classes"]) and found["temperature"] > 0


def test_an_unreadable_video_among_good_ones_costs_its_row(lungs, predict, tmp_path):
    good = sorted(lungs.videos.rglob("*.avi"))[:2]
    for name, content in (("a/x.avi", good[0]), ("b/x.avi", good[1]), ("b/broken.avi", None)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content.read_bytes() if content else b"no video")
    code, out, err = predict(lungs.probe("linear", "pattern"), tmp_path, "--json")
    assert code == 0, err
    rows = {row["file"]: row for row in json.loads(out)["videos"]}
    assert set(rows) == {"a/x.avi", "b/x.avi", "b/broken.avi"}
    broken = rows.pop("b/broken.avi")
    assert "cannot be decoded" in broken["error"] and broken["prediction"] is None and broken["novelty"] is None
    assert set(broken["probabilities"].values()) == {None}
    assert all(row["error"] == "" and row["prediction"] for row in rows.values())
    code, out, err = predict(lungs.probe("linear", "pattern"), tmp_path / "b")
    assert code == 0 and "broken.avi" in out and "cannot be" in out
    code, out, err = predict(lungs.probe("linear", "pattern"), tmp_path / "b" / "broken.avi")
    assert code == 1 and "could be read" in err and "Traceback" not in err


def test_noise_is_far_from_lungs(lungs, predict, write_video, tmp_path):
    random = np.random.default_rng(0)
    write_video(tmp_path / "noise.mp4", random.integers(0, 255, (10, 48, 64, 3), np.uint8).astype(np.uint8))
    code, out, err = predict(lungs.probe("linear", "pattern"), tmp_path / "noise.mp4", "--json")
    assert code == 0, err
    (row,) = json.loads(out)["videos"]
    assert row["warning"] == "far" and row["novelty_percentile"] == 100


def test_a_store_in_place_of_videos(lungs, predict):
    code, out, err = predict(lungs.probe("attentive", "pattern"), lungs.store.path, "--json")
    assert code == 0, err
    assert len(json.loads(out)["videos"]) == 18 and "s in the encoder" not in err


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_other_weights(lungs, predict):
    code, _, err = predict(lungs.probe("linear", "pattern"), lungs.videos, "--encoder", "random:vit_tiny@1")
    assert code == 2 and "The encoder random:vit_tiny@1 is not made as the tokens that this probe was fitted on" in err
    now, then = (identify(spec).weights[:19] for spec in ("random:vit_tiny@1", "random:vit_tiny"))
    assert f"encoder.weights: is '{now}…', expected '{then}…'" in err


def test_another_window(lungs, predict, tmp_path):
    manifest = load_manifest("table", lungs.videos / "lungs.csv")
    clips = ClipPlan(segments=1, frames=2, size=32)
    plan = make_plan(manifest, identify("random:vit_tiny"), clips, path=tmp_path / "o.zarr", precision="float32")
    extract(plan, device="cpu", workers=1)
    code, _, err = predict(lungs.probe("linear", "pattern"), tmp_path / "o.zarr")
    assert code == 2 and "clips.frames: is 2, expected 4, clips.segments: is 1, expected 2" in err


def test_another_version_is_mentioned(lungs, predict):
    key = {**lungs.store.key, "resampling": "bilinear, pillow 1"}
    probe = lungs.probe("linear", "pattern", "-old-pillow", store_key=key)
    code, out, err = predict(probe, lungs.store.path, "--json")
    assert code == 0 and "expected 'bilinear, pillow 1': numbers may differ a little" in err
    assert len(json.loads(out)["notes"]) == 2


def test_a_run_by_its_name_and_one_that_was_changed(lungs, predict, tmp_path):
    run = home() / "runs" / "mine"
    shutil.copytree(lungs.probe("linear", "pattern"), run)
    record = {"record_schema": RECORD_SCHEMA, "files": {"probe.safetensors": digest_of(run / "probe.safetensors")}}
    (run / "record.json").write_text(json.dumps(record))
    code, out, err = predict("mine", lungs.store.path, "--json")
    assert code == 0 and len(json.loads(out)["videos"]) == 18, err
    (run / "record.json").write_text(json.dumps({**record, "record_schema": RECORD_SCHEMA + 1}))
    assert predict("mine", lungs.store.path)[0] == 2
    (run / "record.json").write_text(json.dumps(record))
    shutil.copy(lungs.probe("linear", "depth") / "probe.safetensors", run)
    for named in (run, run / "probe.safetensors"):
        code, _, err = predict(named, lungs.store.path)
        assert code == 2 and "probe.safetensors is not what the run wrote" in err
    (run / "probe.safetensors").unlink()
    code, _, err = predict(run, lungs.store.path)
    assert code == 2 and "not whole: probe.safetensors missing" in err


def test_a_probe_of_an_older_run(lungs, predict):
    probe = lungs.probe("linear", "pattern", "-older", store_key=None)
    code, _, err = predict(probe, lungs.videos)
    assert code == 2 and "Repeat the run (echolung probe, or study) with this version" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.mp4"], "no video or folder at nowhere.mp4"),
        (["."], "no video in the folder"),
        ([".", "--out", "x.xlsx"], "--out x.xlsx must end in .csv or .json"),
    ],
)
def test_bad_arguments(lungs, predict, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    code, _, err = predict(lungs.probe("linear", "pattern"), *arguments)
    assert code == 2 and said in err and "Traceback" not in err


def test_no_probe(predict, tmp_path):
    code, _, err = predict(tmp_path, tmp_path)
    assert code == 2 and "There is no saved probe at" in err
    (tmp_path / "record.json").write_text('{"record_schema": 2}')
    code, _, err = predict(tmp_path, tmp_path)
    assert code == 2 and "saved no probe" in err
