"""The protocols from store to predictions: who saw what, and what was chosen on what."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from echolung.errors import InputError, RunError
from echolung.evaluation import cross_validate, nested, parts
from echolung.evaluation.data import manifest_of
from echolung.evaluation.selection import Choice
from echolung.evaluation.splits import Units, nested_folds
from echolung.evaluation.summary import summarise
from echolung.probes import PROBES, Job, Training, load_features

EPOCHS = 6


@pytest.fixture(scope="module")
def store(write_classes):
    return write_classes()


def relabelled(store, labels):
    manifest = manifest_of(store.snapshot)
    return replace(manifest, videos=manifest.videos.assign(label=labels))


def folds_of(store, k, seed):
    videos = store.snapshot.videos
    classes = tuple(sorted(set(videos["label"])))
    strata = np.array([classes.index(label) for label in videos["label"]])
    return nested_folds(Units(strata, videos["patient"].to_numpy(), "patient", classes), k, seed), strata


# ---- nested ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("probe", list(PROBES))
def test_every_video_is_scored_once_by_a_fold_that_has_not_seen_its_patient(store, probe):
    result = cross_validate(store, probe=probe, cv=3, epochs=EPOCHS)
    videos, table = store.snapshot.videos, result.predictions
    assert table["video_id"].tolist() == videos["video_id"].tolist()
    assert (table["truth"].to_numpy() == videos["label"].to_numpy()).all()
    assert table.groupby("patient")["fold"].nunique().max() == 1 and set(table["fold"]) == {0, 1, 2}
    np.testing.assert_allclose(result.scores.sum(1), 1, atol=1e-5)
    assert (result.folds["groups_shared"] == 0).all() and (result.folds["patients_shared"] == 0).all()
    assert (result.folds["videos_train"] + result.folds["videos_test"] == 48).all()
    assert (result.folds["patients_train"] + result.folds["patients_test"] == 24).all()
    assert result.settings["inner_folds"] == [4] and result.settings["group"] == "patient"
    assert summarise(result).mean["balanced_accuracy"] > 0.7


def test_logistic_is_a_nested_cross_validation_by_hand(store):
    result = cross_validate(store, probe="logistic", cv=3, seed=5)
    (outer, inner), truth = folds_of(store, 3, 5)
    means = load_features(store, pooled=True).values[:, 0, 0].astype(np.float64)
    grid = [setting["C"] for setting in PROBES["logistic"].settings]

    def p(c, train, test):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=2000))
        return model.fit(means[train], truth[train]).predict_proba(means[test])

    def best(folds):
        scores = []
        for c in grid:
            pooled = np.full((48, 3), np.nan)
            for fold in range(folds.count):
                pooled[folds.test(fold)] = p(c, folds.train(fold), folds.test(fold))
            inside = folds.of >= 0
            scores.append(log_loss(truth[inside], pooled[inside]))
        return grid[int(np.argmin(scores))]

    for fold in range(3):
        c = best(inner[fold])
        assert result.chosen[fold] == {"C": c, "epoch": 1}
        expected = p(c, outer.train(fold), outer.test(fold))
        np.testing.assert_allclose(result.scores[outer.test(fold)], expected, atol=1e-5)
    everything = np.ones(48, bool)
    assert result.probe.about["setting"] == {"C": best(inner[3])} and result.probe.about["videos"] == 48
    found = result.probe.predict(load_features(store, pooled=True))
    np.testing.assert_allclose(found, p(best(inner[3]), everything, everything), atol=1e-5)


@pytest.mark.parametrize("probe", ["linear", "knn"])
def test_the_label_of_a_test_video_cannot_reach_its_prediction(store, probe, monkeypatch):
    fixed, truth = folds_of(store, 3, 0)
    monkeypatch.setattr(nested, "nested_folds", lambda *_: fixed)
    honest = cross_validate(store, probe=probe, cv=3, epochs=EPOCHS)
    labels = store.snapshot.videos["label"].to_numpy()
    for fold in range(3):
        test = fixed[0].test(fold)
        flipped = np.where(test, np.array(["class1", "class2", "class0"])[truth], labels)
        lying = cross_validate(store, manifest=relabelled(store, flipped), probe=probe, cv=3, epochs=EPOCHS)
        np.testing.assert_allclose(lying.scores[test], honest.scores[test], rtol=1e-5, atol=1e-7)
        assert lying.chosen[fold] == honest.chosen[fold]
        assert np.abs(lying.scores[~test] - honest.scores[~test]).max() > 0.01  # the others did learn from them


def test_no_probe_learns_from_what_it_is_to_be_judged_on(store, monkeypatch):
    calls = spied(monkeypatch, "knn")
    result = cross_validate(store, probe="knn", cv=3, seed=2)
    (outer, inner), _ = folds_of(store, 3, 2)
    assert result.predictions["fold"].tolist() == outer.of.tolist()
    (choosing, _, _), (final, _, _), (inside, _, _), (looks, _, _) = calls
    jobs = iter(choosing)
    for part, folds in enumerate(inner):
        outside = outer.test(part) if part < 3 else np.zeros(48, bool)
        for fold in range(folds.count):
            for setting in PROBES["knn"].settings:
                job = next(jobs)
                assert job.setting == setting and job.keep is None
                assert not (job.train & (outside | folds.test(fold))).any()
                assert (job.train | outside | folds.test(fold)).all()
    assert next(jobs, None) is None
    assert [job.train.tolist() for job in final[:3]] == [outer.train(fold).tolist() for fold in range(3)]
    assert len(final) == 4 and final[3].train.all()
    # Told, and used for nothing: inner predictions of the choices, and what choosing on the scored folds would have given.
    assert len(inside) == sum(folds.count for folds in inner)
    assert len(looks) == 3 * len(PROBES["knn"].settings)
    plain = cross_validate(store, probe="knn", cv=3, seed=2, diagnose=False)
    assert plain.chosen == result.chosen and len(calls) == 6
    np.testing.assert_array_equal(plain.scores, result.scores)


@pytest.mark.parametrize("probe", ["linear", "attentive"])
def test_a_fold_predicts_with_the_chosen_setting_stopped_at_the_chosen_epoch(store, probe, monkeypatch):
    epochs = iter((2, 5, 1, 3))
    monkeypatch.setattr(parts, "choose", lambda losses, settings: Choice(settings[-1], next(epochs)))
    result = cross_validate(store, probe=probe, cv=3, epochs=EPOCHS, seed=1)
    assert [chosen["epoch"] for chosen in result.chosen] == [2, 5, 1] and result.probe.about["epoch"] == 3
    (outer, _), truth = folds_of(store, 3, 1)
    kind, features = PROBES[probe], load_features(store, pooled=PROBES[probe].pooled)
    for fold, chosen in enumerate(result.chosen):
        setting = {name: value for name, value in chosen.items() if name != "epoch"}
        jobs = [Job(setting, outer.train(fold), keep=chosen["epoch"]), Job(setting, np.ones(48, bool))]
        arrays = kind.fit(features, truth, 3, jobs, Training(EPOCHS, seed=1), lambda *_: None)[0]
        logits = kind.predict(arrays, features, setting)[outer.test(fold)].astype(np.float64)
        expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        np.testing.assert_allclose(result.scores[outer.test(fold)], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("probe", ["linear", "attentive"])
def test_a_seed_fixes_the_predictions_to_the_last_bit(store, probe):
    first, again, other = (cross_validate(store, probe=probe, cv=3, epochs=3, seed=s).predictions for s in (0, 0, 1))
    pd.testing.assert_frame_equal(first, again, check_exact=True)
    assert (first["fold"] != other["fold"]).any() and not np.array_equal(first["p_class0"], other["p_class0"])


def test_memory_does_not_change_what_is_found(store):
    roomy, tight = (cross_validate(store, cv=3, epochs=3, memory=memory) for memory in (4e9, 6e5))
    assert roomy.chosen == tight.chosen
    np.testing.assert_allclose(roomy.scores, tight.scores, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("probe", ["linear", "logistic"])
def test_who_only_knows_the_patient_scores_at_chance(write_classes, probe):
    """Tokens tell the patient and nothing else: by patient that is worth nothing, by video it is worth everything."""
    store = write_classes(36, 4, signal=0.0, identity=3.0, dim=64)
    by_patient, by_video = (
        summarise(cross_validate(store, cv=3, probe=probe, group=group, epochs=30)).mean["balanced_accuracy"]
        for group in ("patient", "video")
    )
    assert by_patient < 0.5
    assert by_video > 0.8


def test_by_source(write_classes):
    store = write_classes(columns={"source": [f"s{i // 2 % 12}" for i in range(48)]})
    result = cross_validate(store, probe="knn", cv=3, group="source")
    assert result.predictions.groupby("source")["fold"].nunique().max() == 1
    assert result.settings["group"] == "source" and (result.folds["groups_shared"] == 0).all()


def test_shared_patients_are_counted(write_classes):
    result = cross_validate(write_classes(12, 4), probe="knn", cv=2, group="video")
    table = result.predictions
    both = table.groupby("patient")["fold"].nunique() == 2
    assert result.folds["patients_shared"].tolist() == [both.sum()] * 2 and both.sum() > 0
    assert result.folds["groups_shared"].tolist() == [0, 0]


def test_inner_folds_that_had_to_be_fewer_are_mentioned(write_classes):
    result = cross_validate(write_classes(9, 2), probe="knn", cv=3)
    assert result.settings["inner_folds"] == [2, 3]
    assert "Settings are chosen on 2 or 3 inner folds: 4 cannot be made everywhere." in result.notes
    with pytest.raises(InputError, match="largest that works is 3"):
        cross_validate(write_classes(9, 2), probe="knn", cv=5)


@pytest.mark.parametrize("probe", ["linear", "knn", "attentive"])
def test_numbers(store, probe):
    result = cross_validate(store, "number", probe=probe, cv=3, epochs=40)
    summary = summarise(result)
    assert list(result.predictions.columns) == ["video_id", "patient", "source", "fold", "truth", "prediction"]
    assert summary.mean["mae"] < 0.8 * summary.guess["mae"] and summary.guess["r2"] <= 0
    assert {"mae", "rmse", "r2"} <= set(summary.interval) and summary.patient["mae"] > 0
    for fold, guess in enumerate(result.folds["guess"]):
        others = result.predictions["truth"][result.predictions["fold"] != fold]
        assert guess == pytest.approx([others.mean()], rel=1e-6)
    with pytest.raises(InputError, match="cannot learn numbers"):
        cross_validate(store, "number", probe="logistic")
    with pytest.raises(InputError, match="needs classes"):
        cross_validate(store, "number", protocol="seed")


def test_what_nobody_can_ask_is_a_type_error(store):
    with pytest.raises(TypeError, match="unexpected keyword argument 'prob'"):
        cross_validate(store, prob="linear")


def test_a_probe_that_diverges_is_an_error_not_a_missing_video(store, monkeypatch):
    kind = PROBES["linear"]

    def fit(features, targets, outputs, jobs, training, on_epoch):
        return kind.fit(
            features, targets, outputs, jobs, training, lambda e, i, o: on_epoch(e, i, o * np.float32("nan"))
        )

    monkeypatch.setitem(PROBES, "linear", replace(kind, fit=fit))
    with pytest.raises(RunError, match="Every setting diverged"):
        cross_validate(store, cv=2, epochs=1)


def test_how_long_it_will_take_is_said_first(store):
    told = []
    cross_validate(store, cv=2, epochs=2, tell=told.append)
    assert len(told) == 1 and re.fullmatch(
        r"108 probes to choose from, 3 to score: about \d+ s on cpu, float32.", told[0]
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"probe": "liner"}, "no probe 'liner'; there are .* Did you mean 'linear'"),
        ({"protocol": "nest"}, "no protocol 'nest'; .* Did you mean 'nested'"),
        ({"protocol": "split"}, "no protocol 'split'"),
        ({"protocol": "seed", "split": "official"}, "--split does not go with --protocol seed"),
        ({"protocol": "seed", "group": "source"}, "--group source does not go with"),
        ({"split": "official", "group": "patient"}, "--group patient does not go with"),
        ({"protocol": "seed", "patience": 3}, "--patience does not go with --protocol seed"),
        ({"hyper": {"loss": "coral"}}, "loss coral is for classes that have an order"),
        ({"hyper": {"loss": "mse"}}, "loss mse is not for a task of classes"),
        ({"seed": 2**31}, "--seed 2147483648 must be from 0"),
        ({"seed": -1}, "--seed -1 must be from 0 to 2147483647"),
        ({"cv": 1}, "at least 2 folds"),
        ({"cv": 1, "protocol": "seed"}, "--cv 1 must be from 2 to 16"),
        ({"cv": 17, "protocol": "seed"}, "--cv 17 must be from 2 to 16"),
        ({"split": "official"}, "needs a column `split`"),
        ({"split": "half"}, "neither 'official' nor shares"),
    ],
)
def test_what_cannot_be_done(store, arguments, message):
    with pytest.raises(InputError, match=message):
        cross_validate(store, **arguments)


# ---- seed --------------------------------------------------------------------------------------------------------------


def spied(monkeypatch, probe="linear"):
    """Return (jobs, training, outputs of each look) of every call that a protocol makes to fit `probe`."""
    kind, calls = PROBES[probe], []

    def fit(features, targets, outputs, jobs, training, on_epoch):
        looks = []

        def look(epoch, indices, values):
            looks.extend((values[n], i, epoch) for n, i in enumerate(indices))
            on_epoch(epoch, indices, values)

        calls.append((jobs, training, looks))
        return kind.fit(features, targets, outputs, jobs, training, look)

    monkeypatch.setitem(PROBES, probe, replace(kind, fit=fit))
    return calls


def test_the_seed_protocol_reports_the_best_of_all_looks_on_the_published_folds(write_classes, monkeypatch):
    published = np.arange(48) // 8 - 1.0
    published[published == -1] = np.nan  # 8 videos that the study did not have
    store = write_classes(columns={"published_fold": published}, signal=0.3)
    calls = spied(monkeypatch)
    result = cross_validate(store, protocol="seed", epochs=3)
    table, truth = result.predictions, store.snapshot.videos["label"].str[-1].astype(int).to_numpy()
    known = ~np.isnan(published)
    assert table["video_id"].tolist() == store.snapshot.videos["video_id"][known].tolist()
    assert table["fold"].tolist() == published[known].tolist()
    assert len(calls) == 5 and all(training.batch == 2 for _, training, _ in calls)
    for fold, (jobs, _, looks) in enumerate(calls):
        test = published == fold
        assert len(looks) == 27 and all((job.train == (known & ~test)).all() for job in jobs)
        assert [job.setting for job in jobs] == list(PROBES["linear"].seed_settings)
        accuracies = [(values[test].argmax(1) == truth[test]).mean() for values, _, _ in looks]
        learnt = truth[known & ~test]
        assert result.folds["guess"][fold] == pytest.approx(np.bincount(learnt) / len(learnt))
        # At a tie the earlier epoch, then the earlier setting.
        best = max(range(27), key=lambda i: (accuracies[i], -looks[i][2], -looks[i][1]))
        values, job, epoch = looks[best]
        assert result.chosen[fold] == {**jobs[job].setting, "epoch": epoch}
        scores = result.scores[table["fold"].to_numpy() == fold]
        np.testing.assert_array_equal(scores.argmax(1), values[test].argmax(1))
    assert result.notes[0].startswith("Optimistic: each fold reports the best of 27 looks (9 settings × 3 epochs)")
    assert "Folds are the published ones. 8 videos that the study did not have are left out." in result.notes
    assert result.probe is None and result.settings["batch"] == 2 and result.settings["group"] == "patient"


def test_the_published_number_of_looks_is_450():
    assert len(PROBES["linear"].seed_settings) * PROBES["linear"].epochs == 450
    assert len(PROBES["attentive"].seed_settings) * PROBES["attentive"].epochs == 450


def test_without_published_folds_videos_are_divided_as_the_study_does(store):
    from sklearn.model_selection import StratifiedKFold

    result = cross_validate(store, protocol="seed", probe="knn")
    table = store.snapshot.videos.sort_values("video_id").set_index("video_id")
    expected = pd.Series(-1, table.index)
    splitter = StratifiedKFold(5, shuffle=True, random_state=42)
    for fold, (_, test) in enumerate(splitter.split(table, table["label"])):
        expected.iloc[test] = fold
    found = result.predictions.set_index("video_id")["fold"]
    assert (found == expected[found.index]).all()
    assert result.settings["group"] == "video" and result.folds["patients_shared"].sum() > 0
    assert any("by video, not by patient" in note for note in result.notes)


def test_published_folds_of_which_one_is_empty(write_classes):
    store = write_classes(columns={"published_fold": np.arange(48) // 2 % 4 * 1.0})
    with pytest.raises(InputError, match="48 videos here are too few for the 5 published folds"):
        cross_validate(store, protocol="seed", probe="knn")


# ---- one split -----------------------------------------------------------------------------------------------------------


def test_an_official_split_chooses_on_val_and_scores_test_once(write_classes, monkeypatch):
    parts = np.array(["TRAIN", "train", "Val", "test"])[np.arange(48) // 2 % 8 // 2]
    store = write_classes(columns={"split": parts}, signal=0.15)
    calls = spied(monkeypatch)
    result = cross_validate(store, split="official", epochs=20)
    train, val, test = (np.char.lower(parts) == part for part in ("train", "val", "test"))
    truth = store.snapshot.videos["label"].str[-1].astype(int).to_numpy()
    assert result.predictions["video_id"].tolist() == store.snapshot.videos["video_id"][test].tolist()
    assert all((job.train == train).all() for jobs, _, _ in calls for job in jobs)
    assert all(np.isnan(values[test]).all() for values, _, _ in calls[0][2])  # not even looked at while choosing
    p = [np.exp(values[val]) / np.exp(values[val]).sum(1, keepdims=True) for values, _, _ in calls[0][2]]
    best = int(np.argmin([log_loss(truth[val], q) for q in p]))
    _, job, epoch = calls[0][2][best]
    assert result.chosen == [{**PROBES["linear"].settings[job], "epoch": epoch}]
    assert result.folds.loc[0, ["videos_train", "videos_test"]].tolist() == [train.sum(), test.sum()]
    assert result.settings["split"] == "official" and result.settings["group"] == "patient"
    assert result.probe.about["videos"] == train.sum()
    found = result.probe.predict(load_features(store, pooled=True))[test]
    np.testing.assert_allclose(found, result.scores, rtol=1e-4, atol=1e-6)
    shares = np.bincount(truth[train]) / train.sum()
    assert summarise(result).guess["accuracy"] == (truth[test] == shares.argmax()).mean()


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (["train"] * 24 + ["test"] * 24, "names no video for val"),
        (["train", "val", "test", ""] * 12, "holds ''; it must say train, val or test"),
        (["val"] + ["train", "test", "val", "test", "val"] * 9 + ["val", "val"], None),
        (["val", "val", "test", "test"] * 11 + ["train"] * 4, "leaves a class without any video in train"),
    ],
)
def test_official_splits_that_cannot_be_used(write_classes, parts, message):
    store = write_classes(columns={"split": parts})
    if message is None:
        result = cross_validate(store, split="official", probe="knn")
        assert result.settings["group"] == "video" and result.folds["patients_shared"][0] > 0  # and says so
        return
    with pytest.raises(InputError, match=message):
        cross_validate(store, split="official", probe="knn")


def test_60_20_20_by_patient(write_classes, monkeypatch):
    store = write_classes(30, 2)
    calls = spied(monkeypatch)
    result = cross_validate(store, split="60/20/20", epochs=2)
    assert result.folds.loc[0, ["videos_train", "videos_test"]].tolist() == [36, 12]
    patients = store.snapshot.videos["patient"]
    train = calls[0][0][0].train
    assert not set(patients[train]) & set(result.predictions["patient"])
    assert result.settings["protocol"] == "split" and "12 validation videos" in result.notes[-1]
    with pytest.raises(InputError, match="--split 85/10/5 is put together from 20 equal parts"):
        cross_validate(store, split="85/10/5", probe="knn")
