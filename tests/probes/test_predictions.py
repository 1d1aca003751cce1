"""A saved probe on a store: the table, what it refuses, and what it only mentions."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import zarr

from echolung.cache import TokenStore
from echolung.errors import InputError
from echolung.evaluation import cross_validate
from echolung.probes import Probe, load_features, load_probe
from echolung.probes.predictions import check_key, needed_key, predict_store
from echolung.probes.saved import softmax, with_provenance

KEY = {
    "dataset": {"name": "lungs"},
    "encoder": {"kind": "checkpoint", "architecture": "vjepa2", "weights": "sha256:a", "timm": "1.0"},
    "precision": "float32",
    "clips": {"segments": 2, "frames": 16, "views": 2},
    "resampling": "bilinear, pillow 12",
    "decoder": {".mp4": "decord 0.6.0"},
    "token_pool": 1,
}


@pytest.fixture(scope="module")
def store(write_classes):
    return write_classes(patients=12, segments=2, unreadable=["v003"])


def fit(store, task="label", kind="linear", temperature=None, **asked) -> Probe:
    result = cross_validate(store, task, probe=kind, cv=2, epochs=2, **asked)
    probe = with_provenance(result.probe, store, result.predictions)
    return replace(probe, about={**probe.about, "temperature": temperature})


def test_provenance_is_saved_with_the_probe(store, tmp_path):
    probe = fit(store)
    probe.save(tmp_path)
    loaded = load_probe(tmp_path)
    assert loaded.about["store_key"] == {"made": "up"} and loaded.about["dataset"] == "synthetic"
    assert loaded.about == json.loads(json.dumps(probe.about)) and loaded.arrays.keys() == probe.arrays.keys()
    assert loaded.reference is not None and (loaded.reference.k, loaded.reference.unit) == (5, "patient")
    features = load_features(store, pooled=True)
    assert len(loaded.reference.embeddings) == len(features) == 23
    np.testing.assert_array_equal(np.sort(loaded.reference.embeddings, 0), np.sort(features.held[:, 0, 0], 0))
    pd.testing.assert_frame_equal(predict_store(loaded, store), predict_store(probe, store))


def test_the_reference_holds_only_what_was_learnt_from(store):
    videos = store.snapshot.videos
    some = videos[~videos["video_id"].isin(["v003"])].head(9)
    probe = with_provenance(Probe("linear", (), {}, {}), store, some)
    features = load_features(store, pooled=True)
    rows = [features.video_ids.index(name) for name in some["video_id"]]
    np.testing.assert_array_equal(probe.reference.embeddings, features.held[rows, 0, 0])


@pytest.mark.parametrize("kind", ["linear", "logistic", "knn", "mlp", "attentive-lite", "attentive"])
def test_a_row_a_video_as_the_probe_predicts_it(store, kind):
    probe = fit(store, kind=kind)
    table = predict_store(probe, store)
    assert table["file"].tolist() == store.rows["video_id"].unique().tolist()
    read = table[table["error"] == ""]
    features = load_features(store, pooled=kind not in ("attentive", "attentive-lite"))
    assert tuple(read["file"]) == features.video_ids and len(read) == len(table) - 1
    np.testing.assert_array_equal(read[[f"p_class{c}" for c in range(3)]], probe.predict(features))
    best = read[[f"p_class{c}" for c in range(3)]].to_numpy().argmax(1)
    assert read["prediction"].tolist() == [f"class{c}" for c in best]
    assert not any(column.startswith("calibrated") for column in table)


def test_an_unreadable_video_is_a_row_with_its_reason(store):
    row = predict_store(fit(store), store).set_index("file").loc["v003"]
    assert row["error"] == "cannot be read" and row["prediction"] == "" and row["warning"] == ""
    assert np.isnan(row[["p_class0", "novelty", "novelty_percentile"]].astype(float)).all()


def test_a_temperature_adds_columns_and_changes_no_answer(store):
    plain, warm = predict_store(fit(store), store), predict_store(fit(store, temperature=2.5), store)
    shares = [f"p_class{c}" for c in range(3)]
    pd.testing.assert_frame_equal(warm[plain.columns], plain)
    calibrated = warm[[f"calibrated_class{c}" for c in range(3)]]
    np.testing.assert_allclose(calibrated, softmax(np.log(plain[shares].to_numpy()) / 2.5), atol=1e-6)
    known = plain["error"] == ""
    assert (calibrated.max(axis=1) < plain[shares].max(axis=1))[known].all()


def test_numbers(store):
    probe = fit(store, task="number")
    table = predict_store(probe, store)
    assert list(table) == ["file", "prediction", "novelty", "novelty_percentile", "warning", "error"]
    expected = probe.predict(load_features(store, pooled=True))[:, 0]
    np.testing.assert_array_equal(table["prediction"][table["error"] == ""], expected)
    assert table["prediction"].isna().sum() == 1


def test_segments_as_in_training(store):
    probe = fit(store, fusion="late")
    assert probe.about["fusion"] == "late"
    table = predict_store(probe, store)
    expected = probe.predict(load_features(store, pooled=True, fusion="late"))
    np.testing.assert_array_equal(table[table["error"] == ""][["p_class0", "p_class1", "p_class2"]], expected)


def test_a_probe_of_one_patient_says_nothing_about_novelty(store):
    probe = replace(fit(store), reference=None)
    assert [c for c in predict_store(probe, store) if c in ("novelty", "novelty_percentile", "warning")] == []


def test_a_probe_that_does_not_say_what_it_needs(store):
    probe = Probe("linear", ("a", "b"), {}, {"setting": {}})
    with pytest.raises(InputError, match=r"does not say by which encoder .* Repeat the run"):
        predict_store(probe, store)
    with pytest.raises(InputError, match="Repeat the run"):
        needed_key(probe)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"clips": {**KEY["clips"], "frames": 8}}, "clips.frames: is 8, expected 16"),
        ({"clips": {**KEY["clips"], "segments": 1}}, "clips.segments: is 1, expected 2"),
        (
            {"encoder": {**KEY["encoder"], "weights": "sha256:b"}},
            "encoder.weights: is 'sha256:b', expected 'sha256:a'",
        ),
        ({"encoder": {**KEY["encoder"], "branch": "encoder"}}, "encoder.branch: is 'encoder', expected 'absent'"),
    ],
)
def test_another_window_or_encoder_is_named(change, named):
    probe = Probe("linear", (), {}, {"store_key": KEY, "encoder": "vitl"})
    with pytest.raises(InputError, match="belongs to vitl") as caught:
        check_key(probe, {**KEY, **change}, "new.zarr")
    assert named in str(caught.value) and str(caught.value).startswith("new.zarr is not made as the tokens")


@pytest.mark.parametrize(
    ("change", "slight"),
    [
        ({"dataset": {"name": "hearts"}}, []),
        ({"clips": {**KEY["clips"], "views": 0}}, []),
        ({"resampling": "bilinear, pillow 13"}, ["resampling"]),
        ({"decoder": {".mp4": "av 18"}}, ["decoder..mp4"]),
        ({"precision": "bfloat16"}, ["precision"]),
        ({"encoder": {**KEY["encoder"], "timm": "1.1"}}, ["encoder.timm"]),
    ],
)
def test_what_hardly_changes_a_number_is_no_reason_to_refuse(change, slight):
    probe = Probe("attentive", (), {}, {"store_key": KEY})
    found = check_key(probe, {**KEY, **change}, "new.zarr")
    assert [line.partition(":")[0] for line in found] == slight


def test_how_tokens_are_kept_matters_to_a_probe_on_tokens_alone():
    about = {"store_key": KEY}
    assert check_key(Probe("linear", (), {}, about), {**KEY, "token_pool": "none"}, "x") == []
    with pytest.raises(InputError, match="token_pool: is 2, expected 1"):
        check_key(Probe("attentive", (), {}, about), {**KEY, "token_pool": 2}, "x")


def test_other_weights_under_the_same_name(write_classes):
    """A random initialisation may differ between versions of torch, with the same recipe and so the same key."""
    store = write_classes(patients=12)
    probe = fit(store)
    zarr.open_group(store.path, mode="r+").attrs["weights_tensors"] = "sha256:new"
    store = TokenStore.open(store.path)
    assert len(predict_store(probe, store)) == 24, "a probe that does not say is not doubted"
    for tensors, fits in (("sha256:new", True), ("sha256:old", False)):
        told = replace(probe, about={**probe.about, "weights_tensors": tensors})
        if fits:
            predict_store(told, store)
        else:
            with pytest.raises(InputError, match=r"digest is sha256:new, expected sha256:old"):
                predict_store(told, store)
