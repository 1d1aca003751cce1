"""Learning from shares of the patients: that all of them is the plain protocol, that a share is what it would be alone."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score

from echolung.evaluation import cross_validate
from echolung.evaluation.label_efficiency import label_efficiency
from echolung.evaluation.splits import Units, nested_folds
from echolung.evaluation.subsets import draw_subsets
from echolung.evaluation.summary import summarise
from echolung.probes import PROBES, Job, Training, load_features


@pytest.fixture(scope="module")
def store(write_classes):
    return write_classes(36)


def test_a_share_too_small_is_raised_and_said(store):
    found = label_efficiency(store, fractions=(0.01, 0.05, 0.5), seeds=2, probe="knn", cv=3)
    assert found.settings["label_fractions"] == [0.05, 0.5, 1.0]
    few = found.table[found.table["fraction"] == 0.05]
    assert (few["patients"] == 6).all() and (few["inner_folds"] == 2).all()
    assert "The share 0.01 comes to the same patients as 0.05, and is left out." in found.notes
    assert any(note.startswith("A share of 0.05 would be 1.2 patients; 6.0 are learnt from") for note in found.notes)


@pytest.mark.parametrize("probe", ["linear", "logistic", "knn"])
def test_all_patients_are_the_plain_protocol(store, probe):
    found = label_efficiency(store, fractions=(0.5, 1), seeds=2, probe=probe, cv=3, epochs=6)
    plain = cross_validate(store, probe=probe, cv=3, epochs=6)
    whole = found.predictions[found.predictions["fraction"] == 1].drop(columns=["fraction", "seed"])
    # A bank of another size may round the last bit differently.
    pd.testing.assert_frame_equal(whole.reset_index(drop=True), plain.predictions, rtol=0, atol=5e-7)
    rows = found.table[found.table["fraction"] == 1]
    assert rows["epoch"].tolist() == [chosen["epoch"] for chosen in plain.chosen]
    for name, value in plain.chosen[0].items():
        assert rows.iloc[0][name] == value
    summary = summarise(plain)
    curve = found.by_fraction()
    assert curve.loc[1.0, "balanced_accuracy"] == pytest.approx(summary.mean["balanced_accuracy"])
    assert curve.loc[1.0, "auroc"] == pytest.approx(summary.mean["auroc"], abs=1e-6)
    assert found.intervals[1.0] == pytest.approx(summary.interval["balanced_accuracy"])
    assert found.guess == pytest.approx(summary.guess, nan_ok=True)


def test_a_share_chooses_and_predicts_by_its_own_patients_only(store):
    found = label_efficiency(store, fractions=(0.4,), seeds=2, probe="knn", cv=3)
    videos, kind = store.snapshot.videos, PROBES["knn"]
    classes = ("class0", "class1", "class2")
    units = Units(videos["label"].map(classes.index).to_numpy(), videos["patient"].to_numpy(), "patient", classes)
    outer, inner = nested_folds(units, 3, 0)
    subsets = draw_subsets(units, outer, inner, (0.4,), 2, 0)
    features = load_features(store, pooled=True)
    for subset in subsets:
        row = found.table.query(f"fraction == 0.4 and seed == {subset.seed} and fold == {subset.fold}").iloc[0]
        assert row["videos"] == subset.chosen.sum() and row["patients"] == len(set(units.groups[subset.chosen]))
        job = Job({"k": row["k"]}, subset.chosen, keep=1)
        (arrays,) = kind.fit(features, units.strata, 3, [job], Training(1), lambda *_: None)
        outputs = kind.predict(arrays, features, job.setting)
        test = outer.test(subset.fold)
        p = found.predictions.query(f"fraction == 0.4 and seed == {subset.seed}")[["p_class0", "p_class1", "p_class2"]]
        np.testing.assert_allclose(p.to_numpy()[test], np.exp(outputs[test]), atol=1e-5)
        expected = balanced_accuracy_score(units.strata[test], p.to_numpy()[test].argmax(1))
        assert row["balanced_accuracy"] == pytest.approx(expected)


@pytest.mark.parametrize("probe", ["linear", "knn"])
def test_other_shares_do_not_change_what_one_scores(store, probe):
    one, many = (
        label_efficiency(store, fractions=fractions, seeds=seeds, probe=probe, cv=3, epochs=4).predictions
        for fractions, seeds in (((0.4,), 1), ((0.2, 0.4, 0.7), 2))
    )
    keys = {"fraction": 0.4, "seed": 0}
    same = [table[(table[list(keys)] == pd.Series(keys)).all(axis=1)].reset_index(drop=True) for table in (one, many)]
    pd.testing.assert_frame_equal(*same, rtol=0, atol=5e-7)


def test_every_video_is_scored_once_a_share_and_draw_and_more_labels_help(store):
    found = label_efficiency(store, fractions=(0.25, 0.5), seeds=3, probe="logistic", cv=3)
    sizes = found.predictions.groupby(["fraction", "seed"])["video_id"].agg(["size", "nunique"])
    assert len(sizes) == 7 and (sizes == 72).all(axis=None)
    curve = found.by_fraction()
    assert curve["seeds"].tolist() == [3, 3, 1] and np.isnan(curve.loc[1.0, "accuracy_sd"])
    draws = found.by_draw().loc[0.25, "accuracy"]
    assert curve.loc[0.25, "accuracy_sd"] == pytest.approx(draws.std(ddof=1))
    assert curve["accuracy"].is_monotonic_increasing and found.shared["patients"] == 0


def test_numbers(store):
    found = label_efficiency(store, "number", fractions=(0.5,), seeds=2, probe="knn", cv=3)
    plain = summarise(cross_validate(store, "number", probe="knn", cv=3))
    assert found.metric == "mae" and found.by_fraction().loc[1.0, "mae"] == pytest.approx(plain.mean["mae"])
    assert found.intervals[1.0] == pytest.approx(plain.interval["mae"], rel=1e-5)
