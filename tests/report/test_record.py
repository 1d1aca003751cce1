"""The folder of a run: everything in it, and enough to recompute its numbers."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from echolung.evaluation import cross_validate
from echolung.evaluation.summary import summarise
from echolung.probes import load_features, load_probe
from echolung.report.record import save_run

FILES = [
    "confusion.png", "curves.csv", "folds.csv", "inner.csv", "looks.csv", "predictions.csv", "probe.json",
    "probe.safetensors", "record.json", "train.csv",
]  # fmt: skip


def run(store, folder=None, **arguments):
    result = cross_validate(store, **{"cv": 3, "epochs": 3, **arguments})
    return result, save_run(result, summarise(result), store, 1.23, folder)


@pytest.fixture(scope="module")
def store(write_classes):
    return write_classes()


def test_all_files_are_there_and_say_how_they_came_about(store, echolung_home):
    result, folder = run(store, probe="attentive", seed=4)
    assert folder.parent == echolung_home / "runs" and sorted(p.name for p in folder.iterdir()) == FILES
    assert folder.name.endswith("-synthetic-label-attentive-nested-patient")
    record = json.loads((folder / "record.json").read_text())
    assert record["settings"] == result.settings and record["settings"]["seed"] == 4
    assert record["settings"]["grid"][0] == {"lr": 1e-4, "weight_decay": 0.04}
    assert record["store"] == {
        "name": "synthetic.zarr",
        "key": {"made": "up"},
        "key_digest": store.group.attrs["key_digest"],
    }
    assert record["optimistic"] is False and record["videos"] == 48 and record["seconds"] == 1.2
    assert set(record["versions"]) >= {"echolung", "python", "torch", "numpy", "scikit-learn", "zarr"}
    assert all(record["versions"].values())
    assert [fold["chosen"] for fold in record["folds"]] == result.chosen
    assert record["metrics"]["mean"]["accuracy"] == summarise(result).mean["accuracy"]
    assert len(pd.read_csv(folder / "folds.csv")) == 3


def test_a_file_of_predictions_holds_the_numbers_behind_every_metric(store, tmp_path):
    result, folder = run(store, tmp_path)
    table = pd.read_csv(folder / "predictions.csv", dtype={"video_id": str})
    assert list(table.columns) == ["video_id", "patient", "source", "fold", "truth", "p_class0", "p_class1", "p_class2"]
    assert sorted(table["video_id"]) == sorted(store.snapshot.videos["video_id"])
    again = summarise(replace(result, predictions=table))
    summary = summarise(result)
    pd.testing.assert_frame_equal(again.folds, summary.folds, rtol=1e-6)
    assert again.mean == pytest.approx(summary.mean, rel=1e-6) and again.patient == pytest.approx(summary.patient)
    assert again.interval["auroc"] == pytest.approx(summary.interval["auroc"])
    fold = result.predictions.set_index("video_id").loc[table["video_id"]]
    np.testing.assert_array_equal(table["p_class1"].astype(np.float32), fold["p_class1"])


def test_numbers_as_they_were_given(write_classes, tmp_path):
    store = write_classes(columns={"number": np.arange(48) / 10})
    _, folder = run(store, tmp_path, task="number")
    assert sorted(p.name for p in folder.iterdir()) == [name for name in FILES if name != "confusion.png"]
    table = pd.read_csv(folder / "predictions.csv")
    assert set(table["truth"]) == set(np.arange(48) / 10) and "prediction" in table


@pytest.mark.parametrize("probe", ["linear", "knn"])
def test_the_same_seed_gives_the_same_file_byte_for_byte(store, tmp_path, probe):
    files = [run(store, tmp_path / str(i), probe=probe, seed=s)[1] / "predictions.csv" for i, s in enumerate((0, 0, 1))]
    contents = [file.read_bytes() for file in files]
    assert contents[0] == contents[1] != contents[2]


def test_the_saved_probe_is_the_one_fitted_on_everything(store, tmp_path):
    result, folder = run(store, tmp_path)
    features = load_features(store, pooled=True)
    probe = load_probe(folder)
    np.testing.assert_array_equal(probe.predict(features), result.probe.predict(features))
    assert probe.classes == ("class0", "class1", "class2") and probe.about["videos"] == 48


def test_a_seed_run_is_called_optimistic_everywhere(store, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    titles = []
    monkeypatch.setattr(Figure, "suptitle", lambda self, text, **_: titles.append(text))
    _, folder = run(store, tmp_path, protocol="seed")
    record = json.loads((folder / "record.json").read_text())
    assert record["optimistic"] is True and record["notes"][0].startswith("Optimistic:")
    assert "optimistic" in titles[0]
    assert not (folder / "probe.safetensors").exists()


def test_two_runs_in_a_second_get_two_folders(store):
    assert run(store, probe="knn")[1] != run(store, probe="knn")[1]
