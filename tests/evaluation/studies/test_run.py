"""A whole study in one process: who saw what, what is chosen, what pruning and time limits do."""

import time
from dataclasses import replace

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from echolung.errors import InputError, RunError
from echolung.evaluation.data import manifest_of
from echolung.evaluation.selection import losses
from echolung.evaluation.splits import Units, nested_folds
from echolung.evaluation.studies import objective, run_study
from echolung.evaluation.summary import summarise
from echolung.probes import PROBES, Job, Training, load_features
from echolung.probes.hyper import Number

SMALL = {"cv": 3, "epochs": 6, "trials": 12, "ask": 6}


@pytest.fixture(scope="module")
def store(write_classes):
    return write_classes(signal=0.8)


@pytest.fixture(scope="module")
def found(store, tmp_path_factory):
    return run_study(store, **SMALL, storage=str(tmp_path_factory.mktemp("study") / "one.log"), name="one")


class Fake:
    """A kind of probe whose loss after each epoch is known: outputs are `level(setting, epoch)` times a wrong answer."""

    def __init__(self, monkeypatch, level, epochs=10):
        self.level, self.trained = level, []
        kind = replace(
            PROBES["linear"],
            fit=self.fit,
            estimate=lambda *rest: 0.0,
            epochs=epochs,
            hyper={"x": Number(0.5, -10.0, 10.0, search=(0.0, 1.0))},
        )
        monkeypatch.setitem(PROBES, "fake", kind)

    def fit(self, features, targets, outputs, jobs, training, on_epoch):
        live, epochs = list(range(len(jobs))), np.zeros(len(jobs), int)
        wrong = np.eye(outputs, dtype=np.float32)[(targets + 1) % outputs]
        for epoch in range(1, training.epochs + 1):
            if not live:
                break
            epochs[live] += 1
            values = np.stack([self.level(jobs[i].setting["x"], epoch) * wrong for i in live]).astype(np.float32)
            gone = on_epoch(epoch, live, values) or ()
            live = [i for i in live if i not in gone]
        self.trained.append(list(zip([job.setting["x"] for job in jobs], epochs.tolist(), strict=True)))
        return [{"made": np.zeros(1)} if job.keep else None for job in jobs]


def test_every_video_is_scored_once_by_a_study_that_has_not_seen_its_patient(store, found):
    result = found.result
    assert result.predictions["video_id"].tolist() == store.snapshot.videos["video_id"].tolist()
    assert result.settings["protocol"] == "nested" and result.settings["inner_folds"] == [4]
    assert result.shared == {"patients": 0, "groups": 0}
    assert {part: len(trials) for part, trials in found.trials.items()} == dict.fromkeys(
        ["fold-0", "fold-1", "fold-2", "all"], 12
    )
    told = result.settings["study"]["told"]
    assert told["complete"] + told["pruned"] == 48
    assert result.chosen == [
        {**found.choices[f"fold-{i}"].setting, "epoch": found.choices[f"fold-{i}"].epoch} for i in range(3)
    ]
    assert result.probe.about["setting"] == found.choices["all"].setting
    assert summarise(result).mean["balanced_accuracy"] > 0.7


def test_a_trials_value_is_the_least_pooled_inner_loss(store, found):
    videos = store.snapshot.videos
    classes = tuple(sorted(set(videos["label"])))
    targets = np.array([classes.index(label) for label in videos["label"]])
    _, inner = nested_folds(Units(targets, videos["patient"].to_numpy(), "patient", classes), 3, 0)
    trial = next(trial for trial in found.trials["fold-1"] if trial.state == TrialState.COMPLETE)
    features, folds, total = load_features(store, pooled=True), inner[1], np.zeros(6)
    jobs = [Job(trial.params, folds.train(fold)) for fold in range(folds.count)]

    def on_epoch(epoch, indices, outputs):
        for i, output in zip(indices, outputs, strict=True):
            total[epoch - 1] += losses(output[folds.test(i)], targets[folds.test(i)]).sum()

    # The batches are those of all videos that the round's jobs learn from, here all of them.
    everyone = Job(trial.params, np.ones(len(targets), bool))
    PROBES["linear"].fit(
        features, targets, 3, [*jobs, everyone], Training(6), lambda e, i, o: on_epoch(e, i[:4], o[:4])
    )
    mean = total / (folds.of >= 0).sum()
    assert trial.value == pytest.approx(mean.min(), rel=1e-4)
    assert trial.user_attrs["epoch"] == mean.argmin() + 1
    assert list(trial.intermediate_values.values()) == pytest.approx(mean[:-1], rel=1e-4)


def test_alone_a_study_repeats_itself(store, found, tmp_path):
    again = run_study(store, **SMALL, storage=str(tmp_path / "again.log"), name="again")
    other = run_study(store, **SMALL, seed=1, storage=str(tmp_path / "other.log"), name="other")
    for part, trials in found.trials.items():
        assert [trial.params for trial in again.trials[part]] == [trial.params for trial in trials]
        assert [trial.values for trial in again.trials[part]] == [trial.values for trial in trials]
    np.testing.assert_array_equal(again.result.scores, found.result.scores)
    assert other.trials["all"][3].params != found.trials["all"][3].params


def test_the_parts_do_not_search_alike(found):
    assert found.trials["fold-0"][0].params == found.trials["all"][0].params, "the defaults come first"
    assert found.trials["fold-0"][1].params != found.trials["all"][1].params


def test_labels_that_mean_nothing_score_nothing(write_classes):
    nested, flat = [], []
    for seed in range(4):
        store = write_classes(patients=30, each=1, classes=2, signal=0.0, seed=seed)
        arguments = {"cv": 3, "trials": 24, "ask": 24, "epochs": 8, "sampler": "random", "pruner": "none"}
        for values, is_flat in ((nested, False), (flat, True)):
            result = run_study(store, **arguments, flat=is_flat, seed=seed, name=f"{seed}{is_flat}").result
            values.append(summarise(result).mean["balanced_accuracy"])
            assert any(note.startswith("Optimistic") for note in result.notes) == is_flat
            assert result.settings["protocol"] == ("flat" if is_flat else "nested")
    assert np.mean(nested) == pytest.approx(0.5, abs=0.1)
    assert np.mean(flat) > np.mean(nested) + 0.02


def test_pruning_takes_jobs_out_of_the_bank(store, monkeypatch):
    fake = Fake(monkeypatch, lambda x, epoch: x + 1 / epoch)
    done = run_study(store, probe="fake", cv=3, trials=20, ask=10, sampler="random")
    first, second, final, inside = fake.trained
    assert {epochs for _, epochs in first} == {10}, "nothing to compare with yet"
    assert len(first) == len(second) == 4 * 10 * 4
    assert min(epochs for _, epochs in second) < 10
    pruned = [t for trials in done.trials.values() for t in trials if t.state == TrialState.PRUNED]
    assert len(pruned) == done.result.settings["study"]["told"]["pruned"] > 10
    stopped = {x for x, epochs in second if epochs < 10}
    assert stopped == {trial.params["x"] for trial in pruned}
    kept = {x for x, epochs in second if epochs == 10}
    assert np.mean(sorted(kept)) < np.mean(sorted(stopped)), "the better go on"
    assert {epochs for _, epochs in final} == {10}
    assert len(inside) == 3 * 4, "the chosen of each outer fold once more, for their inner predictions"


@pytest.mark.parametrize("pruner", ["successive-halving", "hyperband", "percentile"])
def test_other_pruners(store, monkeypatch, pruner):
    fake = Fake(monkeypatch, lambda x, epoch: x + 1 / epoch)
    if pruner == "percentile":
        with pytest.raises(InputError, match="needs more than a name"):
            run_study(store, probe="fake", cv=3, trials=2, pruner=pruner)
        return
    run_study(store, probe="fake", cv=3, trials=20, pruner=pruner, sampler="random")
    assert min(epochs for _, epochs in fake.trained[0]) < 10, "compares trials of the same round, too"


def test_a_trial_that_diverges_is_never_chosen(store, monkeypatch):
    Fake(monkeypatch, lambda x, epoch: np.nan if x < 0.9 else 1 + epoch / 10)
    done = run_study(store, probe="fake", cv=3, trials=30, pruner="none", sampler="random")
    assert all(choice.setting["x"] >= 0.9 and choice.epoch == 1 for choice in done.choices.values())
    assert {trial.value for trial in done.trials["all"] if trial.params["x"] < 0.9} == {np.inf}
    Fake(monkeypatch, lambda x, epoch: np.nan)
    with pytest.raises(RunError, match="No trial of fold-0 came to an end with a finite loss"):
        run_study(store, probe="fake", cv=3, trials=3, name="hopeless")


def test_a_choice_at_the_edge_is_said(store, monkeypatch):
    Fake(monkeypatch, lambda x, epoch: x)
    arguments = {"probe": "fake", "cv": 3, "trials": 20, "sampler": "qmc"}
    (note,) = [note for note in run_study(store, **arguments).result.notes if "edge" in note]
    assert note.startswith("x was chosen at the lower edge of 0 to 1 by fold-0, fold-1, fold-2, all")
    assert "--search x=LOW:HIGH" in note
    bounded = run_study(store, **arguments, ranges={"x": (-10.0, 1.0)}, name="bounded")
    assert not any("lower" in note for note in bounded.result.notes), "nothing lower is allowed"
    assert min(trial.params["x"] for trial in bounded.trials["all"]) < 0


def test_a_time_limit_ends_the_study_after_a_round(store, monkeypatch):
    Fake(monkeypatch, lambda x, epoch: time.sleep(0.001) or x)
    said = []
    done = run_study(store, probe="fake", cv=3, trials=100, ask=2, timeout=0.01, tell=said.append, name="short")
    assert len(done.trials["all"]) == 2
    assert "392 of 400 trials not finished" in said[-1]
    more = run_study(store, probe="fake", cv=3, trials=3, name="short", resume=True)
    assert len(more.trials["all"]) == 3 and more.trials["all"][0].params == done.trials["all"][0].params


def test_the_time_told_is_that_of_the_trials_that_are_missing(store, monkeypatch):
    Fake(monkeypatch, lambda x, epoch: x)
    monkeypatch.setitem(PROBES, "fake", replace(PROBES["fake"], estimate=lambda *rest: 100.0))
    said = []
    arguments = {"probe": "fake", "cv": 3, "ask": 3, "name": "told", "tell": said.append}
    run_study(store, **arguments, trials=9)
    run_study(store, **arguments, trials=15, resume=True)
    first, again = (text for text in said if "rounds" in text)
    assert "3 rounds" in first and "5.0 minutes" in first
    assert "2 rounds" in again and "3.3 minutes" in again


def test_an_interrupted_round_is_handed_on(store, monkeypatch):
    fake = Fake(monkeypatch, lambda x, epoch: x)

    def interrupt(*rest):
        raise KeyboardInterrupt

    monkeypatch.setitem(PROBES, "fake", replace(PROBES["fake"], fit=interrupt))
    arguments = {"probe": "fake", "cv": 3, "trials": 6, "ask": 3, "name": "stopped"}
    with pytest.raises(KeyboardInterrupt):
        run_study(store, **arguments)
    monkeypatch.setitem(PROBES, "fake", replace(PROBES["fake"], fit=fake.fit))
    done = run_study(store, **arguments, resume=True)
    for trials in done.trials.values():
        states = [trial.state for trial in trials]
        assert states[:3] == [TrialState.FAIL] * 3 and states[3:] == [TrialState.COMPLETE] * 6
        assert [t.params for t in trials[:3]] == [t.params for t in trials[3:6]]
        assert [t.user_attrs["retry_of"] for t in trials[3:6]] == [0, 1, 2]


def test_a_regression_searches_nothing_that_is_of_classes(store):
    done = run_study(store, "number", cv=3, trials=6, ask=3, epochs=4)
    assert set(done.result.chosen[0]) == {"lr", "weight_decay", "dropout", "epoch"}
    assert list(done.result.predictions.columns[-2:]) == ["truth", "prediction"]


def test_an_objective_for_a_study_of_ones_own(store, found):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        sampler=optuna.samplers.RandomSampler(seed=0), pruner=optuna.pruners.MedianPruner(n_startup_trials=2)
    )
    study.optimize(objective(store, cv=3, epochs=6, outer=1, hyper={"dropout": 0.1}), n_trials=12)
    assert set(study.best_params) == {"lr", "weight_decay", "label_smoothing", "class_weights"}
    assert 1 <= study.best_trial.user_attrs["epoch"] <= 6
    assert any(trial.state == TrialState.PRUNED for trial in study.trials)
    with pytest.raises(InputError, match="one of the 3 folds"):
        objective(store, cv=3, outer=3)


def test_a_study_of_something_else_does_not_go_on(store, found, tmp_path):
    def go_on(**changes):
        run_study(store, **{**SMALL, "storage": found.where, "name": "one", "resume": True, **changes})

    with pytest.raises(InputError, match=r"There is a study one in .* already.*--resume"):
        go_on(resume=False)
    with pytest.raises(InputError, match="say which with --name"):
        go_on(name=None)
    for changes, difference in (
        ({"hyper": {"dropout": 0.1}}, "its fixed was dropout absent and is now dropout 0.1"),
        ({"ranges": {"lr": (1e-6, 1e-1)}}, "its space was lr .*1e-05.* and is now lr .*1e-06"),
        ({"probe": "mlp"}, "its probe was linear and is now mlp"),
        ({"task": "number"}, "its task was label and is now number"),
        ({"cv": 4}, "its folds was 3 and is now 4"),
        ({"epochs": 7}, "its epochs was 6 and is now 7"),
        ({"seed": 3}, "its seed was 0 and is now 3"),
    ):
        with pytest.raises(InputError, match=difference):
            go_on(**changes)
    manifest = manifest_of(store.snapshot)
    videos = manifest.videos.assign(label=np.roll(manifest.videos["label"], 2))
    with pytest.raises(InputError, match="its labels and folds was"):
        go_on(manifest=replace(manifest, videos=videos))
    go_on()  # unchanged, it has nothing left to do


def test_bad_arguments(store):
    for arguments, text in (
        ({"sampler": "tpee"}, "no sampler 'tpee'.*Did you mean 'tpe'"),
        ({"pruner": "medain"}, "no pruner 'medain'.*Did you mean 'median'"),
        ({"sampler": "grid"}, "needs more than a name"),
        ({"sampler": "bruteforce"}, "cannot search this space"),
        ({"probe": "linaer"}, "Did you mean 'linear'"),
        ({"trials": 0}, "above 0"),
        ({"name": "../mine"}, "letters, digits"),
        ({"hyper": {"droput": 0.1}}, "Did you mean 'dropout'"),
        ({"ranges": {"lr": (1.0, 0.1)}}, "must rise"),
        ({"ranges": {"class_weights": (0.0, 1.0)}}, "no number 'class_weights' to search"),
        ({"probe": "knn", "hyper": {"k": 3}}, "nothing left to search"),
        ({"cv": 40}, "--cv"),
    ):
        with pytest.raises(InputError, match=text):
            run_study(store, **{"cv": 3, **arguments})


def test_several_values_are_chosen_from(store):
    done = run_study(
        store, cv=3, epochs=3, trials=6, sampler="random", hyper={"dropout": ["0.1", "0.3"]}, pruner="none"
    )
    assert {trial.params["dropout"] for trial in done.trials["all"]} == {0.1, 0.3}
