"""Comparisons of results made by hand: what is better by construction, and what is only noise."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, mean_absolute_error, roc_auc_score

from echolung.datasets.manifest import Task
from echolung.errors import InputError
from echolung.evaluation.comparison import _patient_gains, compare
from echolung.evaluation.pairing import Arm, pair
from echolung.evaluation.result import Result
from echolung.evaluation.statistics.resampled import holm

CLASSES = ("covid", "pneumonia", "regular")


def classes(signal, seed, patients=36, each=2, folds=4, repeats=1, **about):
    """Return predictions of three classes: noise, and `signal` added to the score of the right one."""
    person = np.tile(np.repeat(np.arange(patients), each), repeats)
    truth = person % 3
    noise = np.random.default_rng(seed).normal(size=(len(person), 3))
    logits = noise + signal * np.eye(3)[truth]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    fold = (person // 3) % folds + folds * np.repeat(np.arange(repeats), patients * each)
    table = pd.DataFrame(
        {"video_id": [f"v{i:03d}" for i in range(patients * each)] * repeats, "patient": [f"p{i}" for i in person]}
    )
    table = table.assign(
        source="", fold=fold, truth=np.array(CLASSES)[truth], **{f"p_{c}": p[:, i] for i, c in enumerate(CLASSES)}
    )
    return result(table, Task("classification", "label", CLASSES), folds, repeats, **about)


def numbers(noise, seed, patients=40, folds=4):
    """Return predictions of numbers that are off by so much."""
    random = np.random.default_rng(7)
    truth = random.normal(50, 10, patients)
    off = np.random.default_rng(seed).normal(0, noise, patients)
    table = pd.DataFrame(
        {"video_id": [f"v{i}" for i in range(patients)], "patient": [f"p{i}" for i in range(patients)]}
    )
    table = table.assign(source="", fold=np.arange(patients) % folds, truth=truth, prediction=truth + off)
    return result(table, Task("regression", "number"), folds, 1)


def result(table, asked, folds, repeats, **about):
    order = np.unique(table["fold"])
    tested = np.array([(table["fold"] == fold).sum() for fold in order])
    sizes = pd.DataFrame({"fold": order, "videos_test": tested, "videos_train": len(table) // repeats - tested})
    how = {
        "dataset": "made",
        "task": "label",
        "group": "patient",
        "protocol": "nested",
        "folds": folds,
        "repeats": repeats,
        "seed": 0,
    }
    return Result(table, sizes, [], None, asked, {**how, **about})


def arm(name, *results, seeded=False, **facts):
    return Arm(name, results, {"encoder": name, **facts}, tuple(f"{name}-{i}" for i in range(len(results))), seeded)


GOOD, BAD = arm("good", classes(2.5, 1)), arm("bad", classes(0.3, 2))


def test_what_is_better_by_construction_is_better():
    found = compare([GOOD, BAD])
    (contrast,) = found.contrasts
    for name, gain in contrast.gains.items():
        assert gain.low > 0 and gain.p < 0.01, name
        assert gain.low < gain.pooled < gain.high
    assert contrast.delong.p < 0.001 and contrast.tests.corrected.p < 0.05
    assert contrast.gains["accuracy"].pooled > contrast.smallest > 0 and contrast.dz > 0.3
    assert found.about == {
        "dataset": "made", "task": "label", "group": "patient", "patients": 36, "videos": 72, "folds": 4, "resamples": 2000,
    }  # fmt: skip
    assert found.names == ["good", "bad"] and found.notes == () and not found.optimistic


def test_two_seeds_of_noise_show_nothing():
    found = compare([arm("a", classes(0.5, 3)), arm("b", classes(0.5, 4))])
    for gain in found.contrasts[0].gains.values():
        assert gain.low < 0 < gain.high and gain.p > 0.05
    assert found.contrasts[0].tests.corrected.p > 0.05


def test_numbers_are_those_of_scikit_learn():
    contrast = compare([GOOD, BAD]).contrasts[0]
    tables = [each.results[0].predictions for each in (GOOD, BAD)]
    columns = [f"p_{name}" for name in CLASSES]

    def measured(table, name):
        if name == "auroc":
            return roc_auc_score(table["truth"], table[columns], multi_class="ovr", labels=CLASSES)
        return balanced_accuracy_score(table["truth"], np.array(CLASSES)[table[columns].to_numpy().argmax(1)])

    for name in ("balanced_accuracy", "auroc"):
        by_fold = np.array([[measured(t[t["fold"] == fold], name) for t in tables] for fold in range(4)])
        gain, rows = contrast.gains[name], contrast.folds[contrast.folds["metric"] == name]
        np.testing.assert_allclose(rows[["a", "b"]], by_fold)
        np.testing.assert_allclose(rows["gain"], by_fold[:, 0] - by_fold[:, 1])
        assert (gain.a, gain.b_sd) == pytest.approx((by_fold[:, 0].mean(), by_fold[:, 1].std(ddof=1)))
        assert (gain.mean, gain.sd) == pytest.approx((rows["gain"].mean(), rows["gain"].std(ddof=1)))
    pooled = measured(tables[0], "balanced_accuracy") - measured(tables[1], "balanced_accuracy")
    assert contrast.gains["balanced_accuracy"].pooled == pytest.approx(pooled)
    assert contrast.gains["auroc"].pooled == pytest.approx(contrast.gains["auroc"].mean)
    assert contrast.delong.difference == pytest.approx(contrast.gains["auroc"].pooled)


def test_of_errors_less_is_a_gain():
    close, far = numbers(2, 1), numbers(9, 2)
    found = compare([arm("close", close), arm("far", far)])
    gain = found.contrasts[0].gains["mae"]
    errors = [mean_absolute_error(r.predictions["truth"], r.predictions["prediction"]) for r in (close, far)]
    assert gain.pooled == pytest.approx(errors[1] - errors[0]) and gain.a < gain.b
    assert 0 < gain.low < gain.pooled < gain.high and gain.p < 0.01
    assert found.metric == "mae" and found.contrasts[0].delong is None
    r2 = found.contrasts[0].gains["r2"]
    assert r2.a > r2.b and r2.pooled > 0


@pytest.mark.parametrize("metric", ["balanced_accuracy", "accuracy", "brier"])
@given(signal=st.floats(0, 2), seed=st.integers(0, 1000), repeats=st.integers(1, 2))
@settings(max_examples=5, deadline=None)
def test_what_patients_add_is_the_gain(metric, signal, seed, repeats):
    arms = [
        arm("a", classes(1.0, seed, repeats=repeats)),
        arm("b", *(classes(signal, seed + i, repeats=repeats) for i in (1, 2))),
    ]
    paired = pair(arms)
    sums = _patient_gains(paired, *paired.runs, metric)
    gain = compare(arms, resamples=10).contrasts[0].gains[metric]
    assert len(sums) == 36 and sums.sum() == pytest.approx(gain.pooled, abs=1e-12)


@given(st.integers(0, 10_000))
@settings(max_examples=5, deadline=None)
def test_the_other_way_round_it_is_a_loss(seed):
    arms = [arm("a", classes(1.0, seed)), arm("b", classes(0.7, seed + 1))]
    there, back = (compare(order, resamples=200).contrasts[0] for order in (arms, arms[::-1]))
    for name, gain in there.gains.items():
        other = back.gains[name]
        assert (gain.pooled, gain.mean, gain.p) == pytest.approx((-other.pooled, -other.mean, other.p))
        assert (gain.low, gain.high) == pytest.approx((-other.high, -other.low))
    assert there.delong.p == pytest.approx(back.delong.p) and there.smallest == pytest.approx(back.smallest)


def test_seeds_of_the_encoder_widen_the_interval():
    middle = classes(0.8, 5)
    jitter = [
        replace(middle, predictions=middle.predictions.assign(p_covid=middle.predictions["p_covid"] + i * 1e-5))
        for i in range(3)
    ]
    alike = compare([GOOD, arm("b", *jitter, seeded=True)])
    apart = compare([GOOD, arm("b", classes(0.0, 5), middle, classes(1.6, 5), seeded=True)])
    for name in ("accuracy", "auroc"):
        narrow, wide = (found.contrasts[0].gains[name] for found in (alike, apart))
        assert wide.high - wide.low > 1.2 * (narrow.high - narrow.low)
    assert len(apart.per_run["b"]["accuracy"]) == 3 and apart.notes == ()


def test_one_seed_is_said_to_be_one():
    (note,) = compare([GOOD, arm("random@0", classes(0.3, 2), seeded=True)], resamples=100).notes
    assert "One encoder seed of random@0" in note


def test_several_comparisons_are_corrected_for():
    found = compare([GOOD, BAD, arm("middling", classes(1.6, 3)), arm("near", classes(2.2, 4))])
    p = [contrast.gains[found.metric].p for contrast in found.contrasts]
    assert [contrast.p_holm for contrast in found.contrasts] == holm(p)
    assert all(contrast.p_holm >= each for contrast, each in zip(found.contrasts, p, strict=True))


def test_repeats_are_compared_fold_by_fold():
    found = compare([arm("a", classes(2.0, 1, repeats=3)), arm("b", classes(0.5, 2, repeats=3))])
    contrast = found.contrasts[0]
    assert found.about["folds"] == 12 and found.about["videos"] == 72 and len(contrast.folds) == 4 * 12
    assert contrast.tests.naive.df == 11 and contrast.tests.corrected.p > contrast.tests.naive.p


def test_the_order_of_rows_is_of_no_matter():
    shuffled = BAD.results[0].predictions.sample(frac=1, random_state=0)
    other = replace(BAD.results[0], predictions=shuffled)
    a, b = (compare([GOOD, arm("bad", r)], resamples=100).contrasts[0].gains for r in (BAD.results[0], other))
    assert a == b


def test_what_differs_is_named():
    arms = [
        arm("a", classes(1, 1), probe="linear", window="16"),
        arm("b", classes(1, 2), probe="knn", window="16", fusion="late"),
    ]
    assert compare(arms, resamples=100).differing == {
        "encoder": ["a", "b"],
        "probe": ["linear", "knn"],
        "fusion": ["—", "late"],
    }


def fewer(result):
    return replace(result, predictions=result.predictions.iloc[6:])


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (classes(0.5, 2, folds=3), "their folds differ"),
        (fewer(classes(0.5, 2)), "their videos differ (6 only in good-0: v000, v001 and 4 more)"),
        (classes(0.5, 2, task="pattern"), "good-0 answers made · label, b-0 made · pattern"),
        (classes(0.5, 2, protocol="seed"), "b-0 is optimistic"),
        (classes(0.5, 2, repeats=2), "their folds differ"),
    ],
)
def test_what_is_not_comparable_is_refused_unless_told(other, says):
    arms = [GOOD, arm("b", other)]
    with pytest.raises(InputError) as refused:
        compare(arms)
    assert says in str(refused.value) and "--anyway" in str(refused.value)
    found = compare(arms, anyway=True, resamples=200)
    assert any(says in note and note.startswith("Compared anyway") for note in found.notes)
    contrast = found.contrasts[0]
    assert contrast.gains["accuracy"].low > 0
    if "folds" in says or "videos" in says:
        assert contrast.tests is None and contrast.delong is None and contrast.folds.empty
        assert found.about["folds"] is None and any("pooled over folds" in note for note in found.notes)
    assert found.optimistic == ("optimistic" in says)


def test_anyway_compares_the_videos_in_common():
    short = fewer(classes(0.5, 2))
    found = compare([GOOD, arm("b", short)], anyway=True, resamples=200)
    assert found.about["videos"] == 66 and found.about["patients"] == 33
    same = fewer(GOOD.results[0])
    sliced = compare([arm("good", same), arm("b", short)], resamples=200)
    assert found.contrasts[0].gains["accuracy"].pooled == pytest.approx(sliced.contrasts[0].gains["accuracy"].pooled)


def renamed(result):
    names = "x" + result.predictions["video_id"]
    return replace(result, predictions=result.predictions.assign(video_id=names))


def with_rounding(result):
    return replace(result, predictions=result.predictions.assign(p_covid=result.predictions["p_covid"] + 1e-8))


def twice(result):
    return replace(result, predictions=pd.concat([result.predictions, result.predictions[:1]], ignore_index=True))


def other_truth(result):
    table = result.predictions.copy()
    table.loc[3, "truth"] = "regular"
    return replace(result, predictions=table)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (GOOD.results[0], "hold the same predictions: a run cannot be compared with itself"),
        (replace(GOOD.results[0], predictions=GOOD.results[0].predictions[::-1]), "the same predictions"),
        (replace(GOOD.results[0], predictions=GOOD.results[0].predictions[8:]), "the same predictions"),
        (with_rounding(GOOD.results[0]), "the same predictions"),
        (twice(BAD.results[0]), "b-0 has several predictions of v000"),
        (other_truth(classes(0.5, 2)), "1 of 72 videos have another label (first: v003)"),
        (numbers(3, 1), "predicts covid, pneumonia, regular, and b-0 predicts numbers"),
        (renamed(BAD.results[0]), "no video in common"),
    ],
)
def test_what_nothing_can_compare_is_always_refused(other, says):
    for anyway in (False, True):
        with pytest.raises(InputError) as refused:
            compare([GOOD, arm("b", other)], anyway=anyway)
        assert says in str(refused.value)


def test_one_arm_or_an_unknown_metric():
    with pytest.raises(InputError, match="two runs or more"):
        compare([GOOD])
    with pytest.raises(InputError, match="Did you mean 'accuracy'"):
        compare([GOOD, BAD], "acuracy")
    assert compare([GOOD, BAD], "auroc", resamples=100).metric == "auroc"
