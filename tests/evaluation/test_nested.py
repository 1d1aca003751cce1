"""Beside its predictions nested cross-validation leaves what chose them, and what choosing on the scored folds would claim."""

from dataclasses import replace

import numpy as np
import pytest

from echolung.errors import InputError
from echolung.evaluation import cross_validate
from echolung.evaluation.summary import summarise

HYPER = {"lr": [0.3, 0.03]}


@pytest.fixture(scope="module")
def store(write_classes):
    return write_classes(signal=0.5, identity=1.0)


@pytest.fixture(scope="module")
def result(store):
    return cross_validate(store, cv=3, epochs=4, hyper=HYPER)


def test_inner_predictions_are_of_the_part_alone_each_video_once(result):
    scored = result.predictions.groupby("fold")["video_id"].agg(set)
    everything = set(result.predictions["video_id"])
    for part, table in result.inner.groupby("part"):
        assert table["video_id"].is_unique
        assert set(table["video_id"]) == (everything if part == -1 else everything - scored[part])
    np.testing.assert_allclose(result.inner[["p_class0", "p_class1", "p_class2"]].sum(axis=1), 1, atol=1e-5)


def test_inner_predictions_have_the_loss_that_chose_them(result):
    """Trained a second time, for their outputs, the inner probes are those whose losses chose."""
    grid = result.settings["grid"]
    for fold, choice in enumerate(result.chosen):
        table = result.inner[result.inner["part"] == fold]
        p = table[["p_class0", "p_class1", "p_class2"]].to_numpy(np.float64)
        loss = -np.log(p[np.arange(len(p)), table["truth"].str[-1].astype(int)]).mean()
        place = grid.index({k: v for k, v in choice.items() if k != "epoch"})
        curves = result.curves.set_index(["part", "setting", "epoch"]).sort_index()
        assert loss == pytest.approx(curves.loc[(fold, place, choice["epoch"]), "loss"], rel=1e-4)
        assert curves.loc[fold, "loss"].min() == curves.loc[(fold, place, choice["epoch"]), "loss"]


def test_curves_hold_every_setting_and_epoch_with_its_accuracy(result):
    assert len(result.curves) == 4 * len(result.settings["grid"]) * 4  # parts, settings, epochs
    assert result.curves["accuracy"].between(0, 1).all()


def test_the_best_look_is_no_worse_than_honesty_and_is_what_the_seed_protocol_does(store, result):
    looks = result.looks
    by_fold = result.predictions.assign(right=lambda t: t[["p_class0", "p_class1", "p_class2"]].to_numpy().argmax(1))
    by_fold["right"] = by_fold["right"] == by_fold["truth"].str[-1].astype(int)
    assert looks["honest"].tolist() == pytest.approx(by_fold.groupby("fold")["right"].mean().tolist())
    # The chosen setting at its epoch is one of the looks.
    assert (looks["best"] >= looks["honest"] - 1e-9).all()
    assert (looks["looks"] == len(result.settings["grid"]) * 4).all()


def test_without_diagnosis_the_same_numbers(store, result):
    plain = cross_validate(store, cv=3, epochs=4, hyper=HYPER, diagnose=False)
    assert plain.inner is None and plain.looks is None and plain.temperatures == ()
    np.testing.assert_array_equal(plain.scores, result.scores)


def test_temperatures_lower_the_inner_loss(result):
    assert len(result.temperatures) == 3 and all(t > 0 for t in result.temperatures)
    for fold, temperature in enumerate(result.temperatures):
        table = result.inner[result.inner["part"] == fold]
        logs = np.log(table[["p_class0", "p_class1", "p_class2"]].to_numpy(np.float64))
        truth = table["truth"].str[-1].astype(int).to_numpy()

        def loss(t, logs=logs, truth=truth):
            scaled = logs / t
            return (np.log(np.exp(scaled).sum(1)) - scaled[np.arange(len(truth)), truth]).mean()

        near = np.clip([1.0, temperature * 1.1, temperature / 1.1], 0.1, 10)  # the range it is looked for in
        assert loss(temperature) <= min(loss(t) for t in near) + 1e-6
    assert result.probe.about["temperature"] > 0


def test_numbers_have_looks_by_absolute_error_and_no_temperature(store):
    result = cross_validate(store, task="number", cv=3, epochs=4)
    assert set(result.looks["metric"]) == {"mae"} and (result.looks["best"] <= result.looks["honest"] + 1e-4).all()
    assert result.temperatures == () and result.curves["accuracy"].isna().all()
    assert {"part", "video_id", "truth", "prediction"} == set(result.inner)


def test_repeats_divide_anew_and_score_every_video_once_each(store, result):
    repeated = cross_validate(store, cv=3, epochs=4, hyper=HYPER, repeats=3)
    table = repeated.predictions.assign(repeat=repeated.predictions["fold"] // 3)
    assert sorted(set(table["fold"])) == list(range(9)) == repeated.folds["fold"].tolist()
    for _, part in table.groupby("repeat"):
        assert part["video_id"].is_unique and len(part) == len(result.predictions)
    first = table[table["repeat"] == 0].drop(columns="repeat").reset_index(drop=True)
    columns = ["p_class0", "p_class1", "p_class2"]
    np.testing.assert_allclose(first[columns], result.predictions[columns], atol=1e-4)
    folds = table.set_index(["repeat", "video_id"])["fold"].unstack(0) % 3
    assert not (folds[0] == folds[1]).all()
    summary = summarise(repeated)
    assert len(summary.folds) == 9 and summary.mean["accuracy"] == pytest.approx(summary.folds["accuracy"].mean())
    assert len(repeated.chosen) == len(repeated.temperatures) == len(repeated.looks) == 9


def test_more_repeats_do_not_narrow_the_interval_as_more_patients_would(store):
    """The patients stay the same: repeats take away noise of the division, not of who was scored."""
    one, four = (summarise(cross_validate(store, cv=3, epochs=3, repeats=r, diagnose=False)) for r in (1, 4))
    widths = [np.diff(s.interval["accuracy"])[0] for s in (one, four)]
    assert widths[1] > 0.5 * widths[0]


@pytest.mark.parametrize(
    "arguments", [{"repeats": 0}, {"repeats": 2, "protocol": "seed"}, {"repeats": 2, "split": "60/20/20"}]
)
def test_what_cannot_be_repeated(store, arguments):
    with pytest.raises(InputError, match="--repeats"):
        cross_validate(store, cv=3, epochs=2, **arguments)


def test_one_published_fold_alone_is_that_fold_of_all(store):
    whole = cross_validate(store, protocol="seed", cv=3, epochs=2)
    alone = cross_validate(store, protocol="seed", cv=3, epochs=2, only_fold=1)
    part = whole.predictions[whole.predictions["fold"] == 1].reset_index(drop=True)
    columns = ["p_class0", "p_class1", "p_class2"]
    np.testing.assert_allclose(alone.predictions[columns], part[columns], atol=1e-5)
    assert alone.chosen == whole.chosen[1:2] and alone.settings["only_fold"] == 1
    assert len(whole.curves) == 3 * 9 * 2
    with pytest.raises(InputError, match="folds 0 to 2"):
        cross_validate(store, protocol="seed", cv=3, epochs=2, only_fold=3)
    assert replace(alone).looks is None
