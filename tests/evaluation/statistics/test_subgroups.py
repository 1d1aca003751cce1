"""Women and men, young and old: numbers where there are patients enough, names where there are not."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from echolung.datasets.manifest import Task
from echolung.evaluation.statistics.subgroups import age_bands, subgroups

TASK = Task("classification", "x", ("a", "b"))


def tables(v: int = 80):
    random = np.random.default_rng(0)
    patient = np.arange(v) // 2
    truth = patient % 2
    p = random.dirichlet([1, 1], v)
    predictions = pd.DataFrame({"video_id": [f"v{i}" for i in range(v)], "patient": [f"p{i}" for i in patient]})
    predictions = predictions.assign(
        fold=patient // 2 % 2, truth=np.array(TASK.classes)[truth], p_a=p[:, 0], p_b=p[:, 1]
    )
    sex = np.array(["female", "female", "female", "male", ""])[patient // 2 % 5]
    age = np.array([20.0, 50.0, 50.0, 85.0, np.nan])[patient // 4 % 5]
    age[patient >= 36] = 62
    videos = pd.DataFrame({"video_id": predictions["video_id"], "sex": sex, "age": age})
    return predictions, videos.sample(frac=1, random_state=0)


def test_each_group_has_the_metrics_of_its_videos():
    predictions, videos = tables()
    found = {(group.by, group.name): group for group in subgroups(predictions, videos, TASK)}
    assert [name for by, name in found if by == "sex"] == ["female", "male", "unknown"]
    assert [name for by, name in found if by == "age"] == ["< 40", "40–59", "60–79", "80 +", "unknown"]
    whose = videos.set_index("video_id").loc[predictions["video_id"], "sex"].to_numpy()
    own = predictions[whose == "female"]
    women = found["sex", "female"]
    assert (women.videos, women.patients, women.per_class) == (48, 24, {"a": 24, "b": 24})
    told = np.where(own["p_b"] > own["p_a"], "b", "a")
    assert women.values["accuracy"] == pytest.approx(sk.accuracy_score(own["truth"], told))
    by_fold = [sk.roc_auc_score(part["truth"] == "b", part["p_b"]) for _, part in own.groupby("fold")]
    assert women.values["auroc"] == pytest.approx(np.mean(by_fold))
    for metric, value in women.values.items():
        low, high = women.interval[metric]
        assert low < value < high
    assert sum(group.videos for (by, _), group in found.items() if by == "age") == 80


def test_a_group_of_few_patients_is_named_and_gets_no_number():
    found = {(group.by, group.name): group for group in subgroups(*tables(), TASK)}
    old = found["age", "60–79"]
    assert (old.patients, old.values, old.interval) == (4, {}, {}) and "fewer than 5" in old.note


def test_no_mistake_says_what_so_few_patients_cannot_exclude():
    predictions, videos = tables()
    right = (predictions["truth"] == "a").astype(float)
    found = subgroups(predictions.assign(p_a=right, p_b=1 - right), videos, TASK)
    women = next(group for group in found if group.name == "female")
    assert women.values["accuracy"] == 1 and "with 24 patients a true accuracy of 86 % is not excluded" in women.note


def test_what_the_dataset_does_not_know_has_no_groups():
    predictions, videos = tables()
    assert subgroups(predictions, videos[["video_id"]], TASK) == []
    assert subgroups(predictions, videos.assign(sex="", age=np.nan), TASK) == []


def test_numbers():
    predictions, videos = tables()
    numbers = np.random.default_rng(0).normal(55, 10, (2, 80))
    table = predictions[["video_id", "patient", "fold"]].assign(truth=numbers[0], prediction=numbers[1])
    group = subgroups(table, videos, Task("regression", "x"))[0]
    assert set(group.values) == {"mae", "r2", "pearson"} and group.per_class == {}


def test_short_and_long_videos_and_poor_images_apart():
    predictions, _ = tables()
    frames = np.r_[np.full(20, 40.0), np.full(30, 140.0), np.full(30, 200.0)]
    quality = np.where(np.arange(80) < 60, "Good+Medium", "Poor")
    known = {
        "frames": frames,
        "fps": 50.2,
        "quality_group": quality,
        "padded": np.where(frames < 141, "padded", "whole"),
    }
    truth = np.random.default_rng(0).normal(55, 10, 80)
    table = predictions[["video_id", "patient", "fold"]].assign(truth=truth, prediction=truth + frames / 10)
    found = subgroups(table, predictions[["video_id"]].assign(**known), Task("regression", "x"))
    mae = {(group.by, group.name): group.values["mae"] for group in found}
    assert mae == pytest.approx(
        {
            ("length, frames", "< 140"): 4,
            ("length, frames", "140–199"): 14,
            ("length, frames", "200 +"): 20,
            ("padding", "padded"): (20 * 4 + 30 * 14) / 50,
            ("padding", "whole"): 20,
            ("image quality", "Good+Medium"): (20 * 4 + 30 * 14 + 10 * 20) / 60,
            ("image quality", "Poor"): 20,
        }
    )  # every video has the same frame rate: nothing to compare
    assert all(group.values["pearson"] > 0.6 for group in found)


def test_ages_in_one_band_are_cut_into_terciles():
    ages = np.array([1.0, 2, 3, 7, 8, 9, 14, 15, 16, np.nan])
    assert age_bands(ages).tolist() == ["< 6"] * 3 + ["6–10"] * 3 + ["11 +"] * 3 + ["unknown"]
    assert set(age_bands(np.array([5.0, 5.0]))) == {"5 +"}
    assert age_bands(np.array([39.9, 40, 59.5, 60, 80])).tolist() == ["< 40", "40–59", "40–59", "60–79", "80 +"]
