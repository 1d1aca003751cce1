"""Probes that begin from a saved head, and heads that are scored as they are: honesty, records, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import mean_absolute_error

from echolung.datasets.manifest import Task
from echolung.errors import InputError
from echolung.evaluation import cross_validate
from echolung.evaluation.summary import summarise
from echolung.evaluation.transfer import transfer
from echolung.probes import Probe, load_features
from echolung.probes.start import Start

V, D = 60, 8
LINEAR = {"hidden": "none", "norm": "none"}


@pytest.fixture(scope="module")
def store(write_store):
    """Sixty hearts of three clips each and one random view: the first coordinate tells EF."""
    random = np.random.default_rng(0)
    ef = random.uniform(20, 75, V)
    values = random.normal(size=(V, 2, 3, 1, D))
    values[..., 0] += ((ef - 55) / 8)[:, None, None, None]
    videos = pd.DataFrame(
        {
            "video_id": [f"v{i:02d}" for i in range(V)],
            "patient": [f"p{i}" for i in range(V)],
            "source": "s",
            "ef": ef,
            "label": np.where(ef < 50, "reduced", "normal"),
            "split": np.array(["train", "train", "train", "val", "test"])[np.arange(V) % 5],
        }
    )
    tasks = {"ef": Task("regression", "ef"), "label": Task("classification", "label", ("normal", "reduced"))}
    return write_store(values, videos, tasks, dataset="hearts")


def start(classes: tuple[str, ...] = (), **about) -> Start:
    """Return a head that knows EF, or (of two classes) the sign of the first coordinate."""
    weight = np.zeros((len(classes) or 1, D), np.float32)
    weight[-1, 0] = 8 if not classes else -2
    bias = np.zeros(len(classes), np.float32) if classes else np.full(1, 55.0, np.float32)
    arrays = {"linear.weight": weight, "linear.bias": bias}
    return Start(Probe("mlp", classes, arrays, {"setting": LINEAR, **about}), "core.head", "d" * 64)


def by_hand(store, rows: np.ndarray) -> np.ndarray:
    """Return the mean of what the head says of the three clips of each video's fixed view."""
    clips = load_features(store, pooled=True, fusion="late").values[rows, 0]
    return (8 * clips[:, :, 0] + 55).mean(1)


def test_a_head_as_it_is_predicts_the_mean_of_three_clips_on_the_test_part(store):
    result = cross_validate(store, "ef", split="official", fusion="late", start=start(), as_is=True)
    test = np.arange(V) % 5 == 4
    assert result.predictions["video_id"].tolist() == [f"v{i:02d}" for i in np.flatnonzero(test)]
    np.testing.assert_allclose(result.predictions["prediction"], by_hand(store, np.flatnonzero(test)), rtol=1e-5)
    assert summarise(result).mean["mae"] == pytest.approx(
        mean_absolute_error(store.snapshot.videos["ef"][test], by_hand(store, np.flatnonzero(test))), rel=1e-5
    )
    assert sorted(result.inner["video_id"]) == [f"v{i:02d}" for i in np.flatnonzero(np.arange(V) % 5 == 3)]
    assert result.settings["as_is"] and result.settings["start"]["digest"] == "d" * 64
    assert result.chosen == [{"hidden": "none", "norm": "none", "batch_norm": "no", "epoch": 0}]
    assert result.train is None and result.curves is None and result.probe is not None
    np.testing.assert_array_equal(result.probe.arrays["linear.weight"], start().probe.arrays["linear.weight"])


def test_without_a_split_every_video_is_scored_in_the_folds_of_cross_validation(store):
    result = cross_validate(store, "label", start=start(("normal", "reduced")), as_is=True, cv=3)
    trained = cross_validate(store, "label", probe="logistic", cv=3)
    assert result.predictions[["video_id", "fold"]].equals(trained.predictions[["video_id", "fold"]])
    assert summarise(result).mean["auroc"] > 0.9 and len(result.temperatures) == 3
    for fold, part in result.predictions.groupby("fold"):
        others = result.inner[result.inner["part"] == fold]
        assert set(others["video_id"]) == set(result.predictions["video_id"]) - set(part["video_id"])


def test_what_the_head_has_seen_is_said(store):
    def notes(about, **how):
        found = cross_validate(
            store, "ef", start=start(**about), **{"as_is": True, "cv": 3, "fusion": "late", **how}
        ).notes
        return " ".join(found)

    seen = {"dataset": "hearts", "task": "ef"}
    assert "Optimistic: the head core.head has seen hearts" in notes(seen)
    assert "Optimistic" in notes(seen, split="60/20/20") and "Optimistic" in notes(seen | {"dataset": ["a", "hearts"]})
    assert "Optimistic" not in notes(seen, split="official")
    assert "Optimistic" in notes(seen | {"protocol": "nested"}, split="official"), "fitted on all videos"
    assert "Optimistic" in notes({"dataset": "others", "start": {"seen": ["hearts"]}}), "by way of another head"
    others = notes({"dataset": "others", "task": "lvef"})
    assert "Optimistic" not in others and "trained for the task lvef" in others
    assert "--fusion late" in notes({}, fusion="early") and "--fusion late" not in notes(
        {"fusion": "early"}, fusion="early"
    )
    assert "Optimistic" in notes(seen, as_is=False, epochs=1)


def test_every_probe_begins_from_the_head(store):
    """With a learning rate of nearly nothing all folds say what the head says; from random parameters none would."""
    result = cross_validate(
        store, "ef", start=start(dataset="others"), cv=3, epochs=2, fusion="late", hyper={"lr": 1e-7, "weight_decay": 0}
    )
    np.testing.assert_allclose(result.predictions["prediction"], by_hand(store, np.arange(V)), atol=1e-3)
    assert result.settings["probe"] == "mlp" and result.settings["hyper"]["hidden"] == "none"
    assert result.settings["start"] == {"name": "core.head", "digest": "d" * 64, "seen": ["others"], "task": None}
    assert result.probe.about["start"]["seen"] == ["others"]
    again = Start(result.probe, "again", "")
    assert again.seen == ("hearts", "others")


def test_numbers_go_on_in_the_heads_own_unit(store):
    """A head in standardised units and one in per cent that say the same begin the same."""
    arrays = start().probe.arrays
    unit = {"target.shift": np.full(1, 55, np.float32), "target.scale": np.full(1, 8, np.float32)}
    arrays = {"linear.weight": arrays["linear.weight"] / 8, "linear.bias": arrays["linear.bias"] - 55, **unit}
    other = Start(Probe("mlp", (), arrays, {"setting": LINEAR}), "unit", "")
    how = {"cv": 3, "epochs": 1, "fusion": "late", "hyper": {"lr": 1e-7, "weight_decay": 0}}
    found = [cross_validate(store, "ef", start=s, **how).predictions["prediction"] for s in (start(), other)]
    np.testing.assert_allclose(*found, atol=1e-3)


def test_the_train_part_is_told_beside_the_test_part(store):
    result = cross_validate(store, "label", probe="logistic", cv=3)
    table = result.predictions
    for fold in range(3):
        own = result.train[result.train["part"] == fold]
        assert sorted(own["video_id"]) == sorted(table["video_id"][table["fold"] != fold])
    assert set(result.train["part"]) == {0, 1, 2} and list(result.train.columns) == list(result.inner.columns)
    assert cross_validate(store, "label", probe="logistic", cv=3, diagnose=False).train is None
    split = cross_validate(store, "label", probe="logistic", split="official")
    assert len(split.train) == 36 and len(split.predictions) == 12


def test_a_transfer_says_what_the_head_has_seen_of_the_other_dataset(store, write_store):
    videos = store.snapshot.videos.drop(columns="path").assign(video_id=lambda t: "w" + t["video_id"])
    values = np.random.default_rng(1).normal(size=(V, 1, 3, 1, D))
    other = write_store(values, videos, {"ef": Task("regression", "ef")}, dataset="others")
    result = transfer(store, other, task="ef", start=start(dataset="others"), epochs=1, fusion="late")
    assert "has seen others" in " ".join(result.notes)


@pytest.mark.parametrize(
    ("task", "classes", "how", "said"),
    [
        ("label", (), {}, "predicts numbers, and the task label is of classes"),
        ("ef", ("a", "b"), {}, "predicts classes, and the task ef is of numbers"),
        ("label", ("a", "b", "c"), {}, r"linear\.weight is 3 × 8.*2 outputs it would be 2 × 8"),
        ("label", ("no", "yes"), {"as_is": True}, "tells no, yes apart.*asks for normal, reduced"),
        ("ef", (), {"as_is": True, "hyper": {"lr": 1}}, "trains nothing"),
        ("ef", (), {"as_is": True, "protocol": "seed"}, "trains nothing"),
        ("ef", (), {"as_is": True, "cv": 500}, "--cv 500"),
        ("ef", (), {"hyper": {"hidden": "12"}}, "has hidden none"),
    ],
)
def test_what_does_not_fit_is_refused(store, task, classes, how, said):
    with pytest.raises(InputError, match=said):
        cross_validate(store, task, start=start(classes), **{"cv": 3, "epochs": 1, **how})
    if classes == ("no", "yes"):
        found = cross_validate(store, task, start=start(classes), cv=3, epochs=1)
        assert "told no, yes apart" in " ".join(found.notes)


def test_as_is_needs_a_head(store):
    with pytest.raises(InputError, match="--start-from"):
        cross_validate(store, "ef", as_is=True)


def test_any_saved_probe_can_be_scored_as_it_is(store):
    saved = cross_validate(store, "label", probe="logistic", cv=3).probe
    result = cross_validate(store, "label", start=Start(saved, "run", ""), as_is=True, cv=3)
    np.testing.assert_allclose(result.scores, saved.predict(load_features(store, pooled=True)), rtol=1e-5)
    with pytest.raises(InputError, match="at once"):
        cross_validate(store, "label", start=Start(saved, "run", ""), cv=3)


# ---- tiny cohorts ------------------------------------------------------------------------------------------------------


SEVERAL = {
    "logistic": {"l1_ratio": ["0", "0.5", "1"], "C": ["0.1", "1"]},
    "linear": {"dropout": ["0", "0.5"], "l1": 1e-3, "l2": 1e-2, "lr": 3e-3},
}


@pytest.mark.parametrize("cv", [7, 5, 3, 2])
@pytest.mark.parametrize("probe", SEVERAL)
def test_seven_positives_of_thirty_four_can_be_divided(write_classes, cv: int, probe: str):
    died = np.arange(34) % 5 == 0
    tiny = write_classes(34, 1, 2, columns={"label": np.where(died, "class1", "class0")}, seed=4)
    assert died.sum() == 7
    result = cross_validate(tiny, probe=probe, cv=cv, epochs=2, hyper=SEVERAL[probe], diagnose=False)
    tested = result.predictions[result.predictions["truth"] == "class1"].groupby("fold").size()
    assert tested.sum() == 7 and len(tested) == cv and tested.max() - tested.min() <= 1
    assert set(result.settings["inner_folds"]) <= {3, 4}


def test_more_folds_than_positives_is_explained(write_classes):
    tiny = write_classes(34, 1, 2, columns={"label": np.where(np.arange(34) % 5 == 0, "class1", "class0")}, seed=4)
    with pytest.raises(InputError, match=r"class1: 7.*largest that works is 7"):
        cross_validate(tiny, cv=8)


def test_a_head_belongs_to_the_tokens_that_it_learnt_from(store, monkeypatch):
    held = {**store.group.attrs, "encoder": "vits", "weights_tensors": "sha256:1"}
    monkeypatch.setattr(type(store.group), "attrs", held)
    asked = {"split": "official", "fusion": "late", "epochs": 2}
    own, other = (start(weights_tensors=f"sha256:{i}", encoder="vits") for i in (1, 2))
    assert not any("belongs to" in note for note in cross_validate(store, "ef", start=own, as_is=True, **asked).notes)
    with pytest.raises(
        InputError, match=r"core\.head belongs to vits.*other weights under the same name.*means nothing"
    ):
        cross_validate(store, "ef", start=other, as_is=True, **asked)
    notes = cross_validate(store, "ef", probe="mlp", start=other, hyper=other.hyper({"lr": "1e-4"}), **asked).notes
    assert any("hardly better than random numbers" in note for note in notes)
    renamed = start(weights_tensors="sha256:2", encoder="coreecho")
    with pytest.raises(InputError, match=r"belongs to coreecho, and .* the tokens of another encoder, vits"):
        cross_validate(store, "ef", start=renamed, as_is=True, **asked)
