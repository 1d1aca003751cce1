"""Checks of folds, choices and results: each trips where it should, and not elsewhere."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from echolung.datasets.manifest import Task
from echolung.errors import InputError
from echolung.evaluation import cross_validate
from echolung.evaluation.checks import choices, folds, forest, outcome
from echolung.evaluation.checks.codes import CHECKS
from echolung.evaluation.checks.run import check_result
from echolung.evaluation.checks.subject import Subject, subject_of
from echolung.evaluation.data import manifest_of
from echolung.evaluation.result import Result
from echolung.evaluation.splits import Folds
from echolung.evaluation.summary import summarise

TASK = Task("classification", "kind", ("a", "b"))
GRID = [{"lr": lr, "weight_decay": wd} for lr in (1e-4, 1e-3, 1e-2) for wd in (0.04, 0.0004)]


def made(right=0.8, k=5, each=12, seed=0, **fields):
    """Return a result whose folds are right as often as told (one number, or one a fold), of one patient a video."""
    random = np.random.default_rng(seed)
    count, fold = k * each, np.repeat(np.arange(k), each)
    truth = np.tile([0, 1], count // 2)
    share = np.broadcast_to(right, k)
    good = np.concatenate([random.permutation(np.arange(each) < round(s * each)) for s in share])
    p = np.where(good == (truth == 1), 0.8, 0.2)
    names = [f"v{i}" for i in range(count)]
    table = {"video_id": names, "patient": names, "source": "s", "fold": fold, "truth": np.array(TASK.classes)[truth]}
    predictions = pd.DataFrame({**table, "p_a": 1 - p, "p_b": p})
    rows = pd.DataFrame({"fold": range(k), "guess": [[0.6, 0.4]] * k})
    settings = {"protocol": "nested", "folds": k, "epochs": 50, "grid": GRID, "group": "patient"}
    chosen = [{**GRID[2], "epoch": 20}] * k
    result = Result(predictions, rows, chosen, None, TASK, settings, (), {"patients": 0, "groups": 0})
    return replace(result, **fields)


def numbers(error=1.0, k=5, each=12):
    random = np.random.default_rng(0)
    result = made(k=k, each=each)
    truth = random.normal(50, 10, k * each)
    noise = np.repeat(np.broadcast_to(error, k), each) * random.normal(size=k * each)
    table = result.predictions.drop(columns=["p_a", "p_b"]).assign(truth=truth, prediction=truth + noise)
    rows = result.folds.assign(guess=[[50.0]] * k)
    return replace(result, predictions=table, folds=rows, task=Task("regression", "age"))


# ---- folds -----------------------------------------------------------------------------------------------------------


def test_shared_patients():
    result = made()
    seen = subject_of(result, None)
    assert folds.shared_patients(result, seen).status == "fine"
    found = folds.shared_patients(replace(result, shared={"patients": 3, "groups": 0}), seen)
    assert found.status == "warning" and found.found.startswith("3 patients")
    nobody = made(predictions=result.predictions.assign(patient=""))
    assert folds.shared_patients(nobody, subject_of(nobody, None)).status == "not applicable"


def test_shared_sources():
    result = made()
    assert folds.shared_sources(subject_of(result, None)).status == "not applicable"
    by_fold = made(predictions=result.predictions.assign(source=result.predictions["fold"].map("s{}".format)))
    assert folds.shared_sources(subject_of(by_fold, None)).status == "fine"
    mixed = made(predictions=result.predictions.assign(source=["s1", "s2"] * 30))
    found = folds.shared_sources(subject_of(mixed, None))
    assert found.status == "warning" and found.found.startswith("60 of 60 tested videos")
    split = replace(mixed, settings={**mixed.settings, "split": "60/20/20"})
    assert folds.shared_sources(subject_of(split, None)).status == "not applicable"


def test_near_duplicates_across_folds():
    random = np.random.default_rng(0)
    names = [f"v{i}" for i in range(40)]
    videos = pd.DataFrame({"video_id": names, "patient": names, "source": "s", "label": ["a", "b"] * 20})
    tokens = {name: random.normal(size=64).astype(np.float32) for name in names}
    seen = Subject(TASK, videos, Folds(np.arange(40) // 8, 5), tokens=tokens)
    assert folds.duplicates_across(seen).status == "fine"
    assert folds.duplicates_across(replace(seen, tokens={})).status == "not applicable"
    assert folds.duplicates_across(replace(seen, folds=None)).status == "not applicable"
    inside = folds.duplicates_across(replace(seen, tokens={**tokens, "v1": tokens["v0"]}))
    assert inside.status == "fine" and "1 pairs are in one fold" in inside.found
    across = folds.duplicates_across(replace(seen, tokens={**tokens, "v39": tokens["v0"]}))
    assert across.status == "warning" and "alike by tokens: v0 and v39 (1.00)" in across.found
    equal = folds.duplicates_across(replace(seen, equal=[["v3", "v30"]]))
    assert equal.status == "warning" and "equal files: v3 and v30" in equal.found


# ---- choices ---------------------------------------------------------------------------------------------------------


def test_the_edge_of_the_grid():
    assert choices.grid_edge(made()).status == "fine"
    edge = [{**GRID[i], "epoch": 20} for i in (0, 0, 1, 2, 2)]
    found = choices.grid_edge(made(chosen=edge))
    assert found.status == "warning" and "3 of 5 folds chose the smallest lr of the grid, 0.0001" in found.found
    assert choices.grid_edge(made(chosen=edge[1:] + edge[-1:])).status == "fine"  # two of five
    held = made(chosen=edge)
    few = replace(held, settings={**held.settings, "grid": GRID[:4]})
    assert choices.grid_edge(few).status == "not applicable"
    ks = [{"k": k} for k in (25, 5, 1)]
    knn = replace(held, settings={**held.settings, "grid": ks}, chosen=[{"k": 25, "epoch": 1}] * 5)
    assert "largest k of the grid, 25" in choices.grid_edge(knn).found


def test_the_last_epoch():
    assert choices.last_epoch(made()).status == "fine"
    for epoch, what in ((50, "last"), (1, "first")):
        found = choices.last_epoch(made(chosen=[{**GRID[2], "epoch": e} for e in (epoch, epoch, epoch, 9, 9)]))
        assert found.status == "warning" and f"3 of 5 folds chose the {what} epoch" in found.found
    once = made(chosen=[{"C": 1.0, "epoch": 1}] * 5)
    assert choices.last_epoch(replace(once, settings={**once.settings, "epochs": 1})).status == "not applicable"


def test_optimism():
    looks = pd.DataFrame({"fold": range(5), "metric": "accuracy", "honest": 0.7, "best": 0.72, "looks": 450})
    assert choices.optimism(made()).status == "not applicable"
    assert choices.optimism(made(looks=looks)).status == "fine"
    found = choices.optimism(made(looks=looks.assign(best=0.84)))
    assert found.status == "warning" and "84.0 % accuracy instead of 70.0 %" in found.found
    assert found.scores["optimism"] == pytest.approx(0.14)
    result = made()
    seed = replace(result, settings={**result.settings, "protocol": "seed"})
    found = choices.optimism(seed)
    assert found.status == "warning" and "the best of 300 looks" in found.found
    mae = looks.assign(metric="mae", honest=5.0, best=4.0)
    assert choices.optimism(replace(numbers(), looks=mae)).status == "warning"
    assert choices.optimism(replace(numbers(), looks=mae.assign(best=4.9))).status == "fine"


def test_inner_against_outer():
    inner = made(0.8, seed=1).predictions.rename(columns={"fold": "part"})
    assert choices.inner_against_outer(made()).status == "not applicable"
    assert choices.inner_against_outer(made(0.8, inner=inner)).status == "fine"
    found = choices.inner_against_outer(made(0.5, inner=inner))
    assert found.status == "warning" and "in the inner folds, 50.0 % in the outer" in found.found
    assert (
        choices.inner_against_outer(made([0.3, 0.9, 0.4, 0.9, 0.9], inner=inner)).status == "fine"
    )  # folds differ too much
    own = numbers()
    inner = own.predictions.rename(columns={"fold": "part"})
    assert choices.inner_against_outer(replace(own, inner=inner)).status == "fine"
    assert choices.inner_against_outer(replace(numbers(3.0), inner=inner)).status == "warning"


# ---- results ---------------------------------------------------------------------------------------------------------


def test_no_better_than_guessing():
    assert outcome.below_guessing(made(), summarise(made())).status == "fine"
    assert outcome.below_guessing(made(0.4), summarise(made(0.4))).status == "warning"
    assert outcome.below_guessing(numbers(), summarise(numbers())).status == "fine"
    assert outcome.below_guessing(numbers(30.0), summarise(numbers(30.0))).status == "warning"


def test_no_better_than_random_weights():
    own, better = summarise(made(0.8)), SimpleNamespace(summary=summarise(made(0.9)))
    worse = SimpleNamespace(summary=summarise(made(0.6)))
    assert outcome.below_random(made(), own, []).status == "not applicable"
    assert outcome.below_random(made(), own, [worse]).status == "fine"
    found = outcome.below_random(made(), own, [better])
    assert found.status == "warning" and found.scores["random"] > found.scores["own"]
    assert outcome.below_random(made(), own, [better, worse]).status == "fine"  # their mean is below
    assert "2 seed" in outcome.below_random(made(), own, [better, worse]).found
    exact = SimpleNamespace(summary=summarise(numbers(0.1)))
    assert outcome.below_random(numbers(), summarise(numbers()), [exact]).status == "warning"


def test_one_fold_unlike_the_others():
    assert outcome.outlier_fold(made([0.75, 0.83, 0.92, 0.67, 0.83])).status == "fine"
    found = outcome.outlier_fold(made([0.9, 0.9, 0.9, 0.9, 0.2]))
    assert found.status == "warning" and "old 4 has 17 %, the others 92 %" in found.found
    assert outcome.outlier_fold(made(0.8, k=3)).status == "not applicable"
    assert outcome.outlier_fold(numbers()).status == "fine"
    assert outcome.outlier_fold(numbers([1, 1, 1, 1, 9])).status == "warning"


def test_noise_in_five_folds_is_rarely_an_outlier():
    random = np.random.default_rng(0)
    tripped = 0
    for _ in range(300):
        result = made(random.binomial(24, 0.75, 5) / 24, each=24, seed=int(random.integers(1e6)))
        tripped += outcome.outlier_fold(result).status == "warning"
    assert tripped <= 6


def test_one_class_for_all():
    result = made()
    assert outcome.constant(result).status == "fine"
    stuck = result.predictions.assign(p_a=0.4, p_b=0.6)
    found = outcome.constant(replace(result, predictions=stuck))
    assert found.status == "warning" and found.found == "All 60 predictions are b."
    first = result.predictions["fold"] == 0
    one = result.predictions.where(~first, stuck)
    found = outcome.constant(replace(result, predictions=one))
    assert found.status == "warning" and "1 of 5 folds predict one class only (fold 0: b for all 12)" in found.found
    assert found.scores == {"collapsed": 1, "folds": 5}
    pure = one.assign(truth=one["truth"].where(~first, "b"))  # the fold has one class, and it is found
    assert outcome.constant(replace(result, predictions=pure)).status == "fine"
    same = numbers()
    assert outcome.constant(same).status == "fine"
    flat = same.predictions.assign(prediction=50.0)
    assert outcome.constant(replace(same, predictions=flat)).status == "warning"


@pytest.mark.parametrize("row", [(0.5, 0.6), (np.nan, 0.5), (-0.2, 1.2), (0.0, 0.0), (np.inf, 0.0)])
def test_rows_that_are_no_probabilities(row):
    result = made()
    assert outcome.no_probabilities(result).status == "fine"
    table = result.predictions.copy()
    table.loc[7, ["p_a", "p_b"]] = row
    found = outcome.no_probabilities(replace(result, predictions=table))
    assert found.status == "warning" and "1 of 60 rows" in found.found and "v7" in found.found


def test_numbers_that_are_none():
    same = numbers()
    assert outcome.no_probabilities(same).status == "fine"
    same.predictions.loc[3, "prediction"] = np.nan
    assert outcome.no_probabilities(same).status == "warning"


def test_no_better_than_the_file_alone():
    from echolung.evaluation.checks.codes import fine, not_applicable

    own = summarise(made(0.8))
    blind = fine("EL107", "", {"accuracy": 0.7, "balanced_accuracy": 0.7})
    assert outcome.below_file(made(), own, blind).status == "fine"
    assert outcome.below_file(made(), own, replace(blind, scores={"balanced_accuracy": 0.9})).status == "warning"
    assert outcome.below_file(made(), own, not_applicable("EL107", "")).status == "not applicable"


def test_predictions_that_are_not_those_of_the_chosen_probe():
    result = made([0.75, 0.5, 1, 0.75, 0.5])
    right = [0.75, 0.5, 1.0, 0.75, 0.5]
    assert outcome.not_the_chosen(result).status == "not applicable"
    looks = pd.DataFrame({"fold": range(5), "metric": "accuracy", "honest": right, "best": 1.0, "looks": 9})
    assert outcome.not_the_chosen(replace(result, looks=looks)).status == "fine"
    found = outcome.not_the_chosen(replace(result, looks=looks.assign(honest=[0.75, 0.5, 0.9, 0.75, 0.5])))
    assert found.status == "warning" and "fold 2 has 1.0000, noted was 0.9000" in found.found
    curves = pd.DataFrame({"part": range(5), "setting": 2, "epoch": 20, "loss": 0.5, "accuracy": right})
    seed = replace(result, settings={**result.settings, "protocol": "seed"}, curves=curves)
    assert outcome.not_the_chosen(seed).status == "fine"
    # What the published study did: the choice of one head beside the predictions of another.
    assert outcome.not_the_chosen(replace(seed, curves=curves.assign(accuracy=0.6))).status == "warning"


# ---- all of them -----------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def small_forest(monkeypatch):
    monkeypatch.setattr(forest, "TREES", 10)


@pytest.fixture(scope="module")
def run(write_classes):
    store = write_classes(patients=24, each=2, classes=2, signal=3.0)
    result = cross_validate(store, "label", cv=3, epochs=4)
    return store, result, summarise(result)


def test_every_check_of_a_result(run):
    store, result, summary = run
    found = {finding.code: finding for finding in check_result(result, summary, store)}
    assert set(found) == set(CHECKS) - {"EL102", "EL105", "EL106"}  # EL203 looks for those across folds
    assert list(found) == sorted(found)
    assert found["EL307"].status == found["EL305"].status == found["EL201"].status == "fine"
    assert found["EL203"].status == "fine" and found["EL202"].status == "warning"
    assert found["EL302"].status == "not applicable"
    muted = check_result(result, summary, store, mute=["EL202", "el204"])
    assert [f.code for f in muted if f.status == "muted"] == ["EL202", "EL204"]
    with pytest.raises(InputError, match="Did you mean 'EL20"):
        check_result(result, summary, store, mute=["EL209"])


@pytest.mark.parametrize(
    "how", [{"split": "60/20/20"}, {"protocol": "seed", "cv": 3, "epochs": 3}, {"cv": 3, "epochs": 3}]
)
def test_other_protocols(write_classes, how):
    store = write_classes(patients=30, each=1, classes=2)
    task = "number" if how == {"cv": 3, "epochs": 3} else "label"
    result = cross_validate(store, task, **how)
    found = {finding.code: finding for finding in check_result(result, summarise(result), store)}
    assert found["EL307"].status in ("fine", "not applicable") and found["EL203"].status == "fine"
    assert found["EL206"].status == "warning" or how != {"protocol": "seed"}
    if "split" in how:
        seen = subject_of(result, store)
        assert len(seen.videos) == 30 and seen.folds.test(0).sum() == len(result.predictions)
        assert seen.folds.train(0).sum() == 30 - len(result.predictions)


def test_one_division_of_labels_that_are_not_the_stores(write_classes):
    store = write_classes(patients=30, each=1, classes=2)
    manifest = manifest_of(store.snapshot)
    column, classes = manifest.tasks["label"].column, ("no", "yes")
    labels = np.array(classes)[np.random.default_rng(0).permutation(30) % 2]
    tasks = {"label": replace(manifest.tasks["label"], classes=classes)}
    other = replace(manifest, videos=manifest.videos.assign(**{column: labels}), tasks=tasks)
    result = cross_validate(store, "label", other, split="60/20/20", epochs=2)
    found = {finding.code: finding for finding in check_result(result, summarise(result), store)}
    assert found["EL107"].status == found["EL203"].status == "not applicable"
    same = cross_validate(store, "label", split="60/20/20", epochs=2)
    told = replace(same, settings={**same.settings, "labels": "some.csv"})
    assert subject_of(same, store).folds is not None and subject_of(told, store).folds is None
