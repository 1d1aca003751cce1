"""Learning from one store, predicting another."""

import json

import numpy as np
import pandas as pd
import pytest

from echolung.cache import TokenStore
from echolung.datasets.manifest import Task
from echolung.errors import InputError
from echolung.evaluation.transfer import read_mapping, transfer
from echolung.probes import load_features

RANDOM = np.random.default_rng(0)
CENTRES = 2 * RANDOM.normal(size=(3, 8))


def make(write_store, classes, centres, dataset, seed, patients=18):
    random = np.random.default_rng(seed)
    label = np.arange(patients) % len(classes)
    values = CENTRES[[centres[i] for i in label]][:, None, None, None] + random.normal(size=(patients, 1, 1, 2, 8))
    names = [f"{dataset}{i}" for i in range(patients)]
    videos = pd.DataFrame({"video_id": names, "patient": [f"p{i}" for i in range(patients)], "source": "s"})
    videos = videos.assign(finding=np.array(classes)[label], size=10 * CENTRES[[centres[i] for i in label]][:, 0])
    tasks = {"finding": Task("classification", "finding", tuple(classes)), "size": Task("regression", "size")}
    return write_store(values, videos, tasks)


@pytest.fixture(scope="module")
def stores(write_store):
    lungs = make(write_store, ["sick", "odd", "well"], [0, 1, 2], "a", 1)
    other = make(write_store, ["negative", "positive"], [2, 0], "b", 2)
    return lungs, other


FAST = {"epochs": 20, "hyper": {"lr": 1e-2}}


def test_what_was_learnt_on_one_is_found_on_the_other(stores):
    result = transfer(*stores, classes={"sick": "positive", "well": "negative"}, **FAST)
    assert result.task.classes == ("negative", "positive")
    table = result.predictions
    assert set(table["video_id"]) == {f"b{i}" for i in range(18)} and table["video_id"].is_unique
    right = np.array(result.task.classes)[result.scores.argmax(1)] == table["truth"]
    assert right.mean() > 0.9
    assert result.settings["protocol"] == "transfer" and result.settings["test"]["classes"]["sick"] == "positive"
    assert result.folds.iloc[0]["videos_train"] == 12 and result.folds.iloc[0]["videos_test"] == 18
    assert any("6 videos of odd" in note for note in result.notes)
    json.dumps(result.settings)


def test_and_back_the_videos_of_an_unlearnt_class_are_not_predicted(stores):
    lungs, other = stores
    result = transfer(other, lungs, classes={"positive": "sick", "negative": "well"}, **FAST)
    assert set(result.predictions["truth"]) == {"sick", "well"} and len(result.predictions) == 12
    assert any("6 videos of odd" in note for note in result.notes)


def test_the_saved_probe_gives_the_predictions(stores):
    lungs, other = stores
    result = transfer(lungs, other, classes={"sick": "positive", "well": "negative"}, **FAST)
    p = result.probe.predict(load_features(other, pooled=True))
    found = pd.DataFrame(p, index=load_features(other, pooled=True).video_ids).loc[result.predictions["video_id"]]
    np.testing.assert_allclose(found.to_numpy(), result.scores, atol=1e-6)


def test_the_test_store_does_not_move_what_is_learnt(stores, write_store):
    lungs, other = stores
    strange = make(write_store, ["negative", "positive"], [1, 1], "c", 5)
    mapping = {"sick": "positive", "well": "negative"}
    first, second = (transfer(lungs, store, classes=mapping, **FAST) for store in (other, strange))
    for name, value in first.probe.arrays.items():
        np.testing.assert_array_equal(value, second.probe.arrays[name])


def test_numbers_need_no_map(stores):
    result = transfer(*stores, task="size", epochs=30, hyper={"lr": 3e-2})
    assert np.corrcoef(result.predictions["truth"], result.predictions["prediction"])[0, 1] > 0.5
    with pytest.raises(InputError, match="--map is for classes"):
        transfer(*stores, task="size", classes={"a": "b"})


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        (None, "At least two classes"),
        ({"ill": "positive", "well": "negative"}, "no class 'ill' to learn; there are sick, odd, well"),
        ({"sick": "yes", "well": "negative"}, "no class 'yes' to predict; there are negative, positive"),
        ({"sick": "positive", "well": "positive"}, "At least two classes"),
    ],
)
def test_classes_that_do_not_fit(stores, mapping, said):
    with pytest.raises(InputError, match=said):
        transfer(*stores, classes=mapping, **FAST)


def test_tokens_made_in_another_way_are_refused(stores, monkeypatch):
    lungs, other = stores
    keys = {lungs.path: {"clips": 1, "encoder": "a"}, other.path: {"clips": 2, "encoder": "b"}}
    monkeypatch.setattr(TokenStore, "key", property(lambda self: keys[self.path]))
    with pytest.raises(InputError, match="differ in encoder, clips"):
        transfer(lungs, other, classes={"sick": "positive", "well": "negative"})


def test_a_map_is_read():
    assert read_mapping("covid=positive, regular = negative") == {"covid": "positive", "regular": "negative"}
    for text in ("", "covid", "covid=", "=x", "a=b,c"):
        with pytest.raises(InputError, match="--map"):
            read_mapping(text)
    with pytest.raises(InputError, match="maps a twice"):
        read_mapping("a=b,a=c")
