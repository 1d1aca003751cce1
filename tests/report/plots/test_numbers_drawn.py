"""The numbers that figures show, read off what they drew, against scikit-learn, pandas or a slow way."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from echolung.evaluation.summary import summarise
from echolung.report.plots import bars, calibration, confusion, curves, regression, sources, training


def truths(run, name):
    return (run.result.predictions["truth"] == name).to_numpy()


@pytest.mark.parametrize("classes", [("no", "yes"), ("a", "b", "c"), tuple("abcdefgh")])
def test_confusion_counts_and_shares(make_run, tmp_path, drawn, classes):
    run = make_run(classes=classes, patients=40)
    confusion.draw_confusion(run, tmp_path / "a.png")
    told = np.array(classes)[run.result.scores.argmax(1)]
    table = sk.confusion_matrix(run.result.predictions["truth"], told, labels=list(classes))
    left, right = ([text.get_text() for text in axes.texts] for axes in drawn[0].axes)
    assert left == [str(n) for n in table.ravel()]
    assert right == [f"{100 * s:.0f}" for s in (table / table.sum(1, keepdims=True)).ravel()]


def test_a_class_that_no_video_has_takes_no_share(make_run, tmp_path, drawn):
    run = make_run(classes=("a", "b", "c"))
    table = run.result.predictions[run.result.predictions["truth"] != "b"].reset_index(drop=True)
    confusion.draw_confusion(replace(run, result=replace(run.result, predictions=table)), tmp_path / "a.png")
    assert [text.get_text() for text in drawn[0].axes[1].texts][3:6] == ["–"] * 3


def test_areas_are_those_of_scikit_learn(make_run):
    run = make_run(classes=("a", "b", "c"), patients=30)
    table = run.result.predictions
    for found, name in zip(curves.class_curves(run.result), "abc", strict=True):
        parts = [(part["truth"] == name, part[f"p_{name}"]) for _, part in table.groupby("fold")]
        assert found.areas == pytest.approx([sk.roc_auc_score(*part) for part in parts])
        assert found.averages == pytest.approx([sk.average_precision_score(*part) for part in parts])
        # The area below a curve read off a grid is the area itself, but for the width of a step.
        assert np.trapezoid(found.roc, curves.GRID) == pytest.approx(found.areas, abs=0.02)
        assert np.trapezoid(found.precision, curves.GRID) == pytest.approx(found.averages, abs=0.02)
        assert found.share == pytest.approx((table["truth"] == name).mean())


def test_precision_at_a_recall_is_that_of_the_first_threshold_that_reaches_it():
    random = np.random.default_rng(0)
    truth, score = random.random(40) < 0.4, random.random(40).round(1)
    precision, recall, thresholds = sk.precision_recall_curve(truth, score)
    for wanted in (0.01, 0.3, 0.5, 0.77, 1.0):
        threshold = max(t for t in thresholds if (score[truth] >= t).mean() >= wanted - 1e-12)
        expected = truth[score >= threshold].mean()
        assert curves.precision_at(np.array([wanted]), precision, recall)[0] == pytest.approx(expected)


def test_the_interval_of_two_classes_is_the_one_in_the_table(make_run, tmp_path, drawn):
    run = make_run()
    [found] = curves.class_curves(run.result)
    assert found.name == "yes" and found.interval == pytest.approx(run.summary.interval["auroc"])
    curves.draw_roc_pr(run, tmp_path / "a.png")
    text = drawn[0].axes[0].get_title()
    low, high = run.summary.interval["auroc"]
    assert f"AUROC {run.summary.mean['auroc']:.2f} ± {run.summary.sd['auroc']:.2f}" in text
    assert f"{low:.2f} – {high:.2f}" in text and "of 4 folds" not in text


def test_a_fold_without_a_class_is_left_out_and_counted(make_run, tmp_path, drawn):
    run = make_run()
    table = run.result.predictions
    table = table[~((table["fold"] == 2) & (table["truth"] == "yes"))].reset_index(drop=True)
    run = replace(run, result=replace(run.result, predictions=table))
    [found] = curves.class_curves(run.result)
    assert len(found.areas) == 3 and found.folds == 4
    curves.draw_roc_pr(run, tmp_path / "a.png")
    assert "3 of 4 folds" in drawn[0].axes[0].get_title()
    only = replace(run.result, predictions=table[table["truth"] == "no"].reset_index(drop=True))
    assert not curves.draw_roc_pr(replace(run, result=only), tmp_path / "b.png")


def test_reliability_before_and_after_temperatures(make_run, tmp_path, drawn):
    run = make_run(cv=2, temperatures=(2.0, 0.5))
    calibration.draw_reliability(run, tmp_path / "a.png")
    before, after, counts, counts_after = drawn[0].axes
    p = run.result.scores
    heat = np.where(run.result.predictions["fold"] == 0, 2.0, 0.5)[:, None]
    scaled = p ** (1 / heat) / (p ** (1 / heat)).sum(1, keepdims=True)
    right = (p[:, 1] > 0.5) == truths(run, "yes")
    for axes, bar, q in ((before, counts, p), (after, counts_after, scaled)):
        top = q.max(1)
        places = np.minimum((top * 10).astype(int), 9)
        x, y = axes.lines[1].get_data()
        assert x == pytest.approx([top[places == b].mean() for b in np.unique(places)])
        assert y == pytest.approx([right[places == b].mean() for b in np.unique(places)])
        assert [patch.get_height() for patch in bar.patches] == np.bincount(places)[np.unique(places)].tolist()
    assert f"ECE {run.summary.calibration['ece']:.3f}" == before.texts[0].get_text()
    assert f"ECE {run.summary.calibration['ece_after']:.3f}" == after.texts[0].get_text()
    assert calibration.draw_reliability(make_run(temperatures=()), tmp_path / "b.png") and len(drawn[1].axes) == 2


def test_training_curves_are_of_the_chosen_setting_and_mark_its_epoch(make_run, tmp_path, drawn):
    run = make_run()
    training.draw_curves(run, tmp_path / "a.png")
    table = run.result.curves.set_index(["part", "setting", "epoch"]).sort_index()
    loss, accuracy = drawn[0].axes
    for axes, column, scale in ((loss, "loss", 1), (accuracy, "accuracy", 100)):
        assert len(axes.lines) == 8
        for fold in range(4):
            line, dot = axes.lines[2 * fold : 2 * fold + 2]
            assert line.get_ydata() == pytest.approx(scale * table.loc[(fold, fold % 2), column].to_numpy())
            assert dot.get_xdata() == [2 + fold % 4]
            assert dot.get_ydata() == pytest.approx(scale * table.loc[(fold, fold % 2, 2 + fold % 4), column])


def test_curves_of_one_epoch_or_of_settings_that_no_grid_has_are_no_figure(make_run, tmp_path):
    run = make_run()
    once = replace(run.result, curves=run.result.curves[run.result.curves["epoch"] == 1])
    assert not training.draw_curves(replace(run, result=once), tmp_path / "a.png")
    assert not training.draw_curves(make_run(grid=[{"lr": 7.0}]), tmp_path / "a.png")


def test_every_look_of_the_seed_protocol_is_drawn(make_run, tmp_path, drawn):
    run = make_run(protocol="seed", classes=("a", "b", "c"))
    training.draw_curves(run, tmp_path / "a.png")
    assert drawn[0].get_suptitle().startswith("Optimistic: the best of 12 looks")
    table = run.result.curves.set_index(["part", "setting", "epoch"]).sort_index()["accuracy"]
    for fold, axes in enumerate(drawn[0].axes[:4]):
        assert len(axes.lines) == 4  # two settings, the chosen one again, its epoch
        assert axes.lines[2].get_ydata() == pytest.approx(100 * table.loc[fold, fold % 2].to_numpy())
        assert axes.lines[3].get_ydata() == pytest.approx([100 * table.loc[fold, fold % 2, 2 + fold % 4]])


def test_twins_show_means_spreads_and_folds(make_run, tmp_path, drawn):
    run = make_run(twins=2)
    bars.draw_twins(run, tmp_path / "a.png")
    summaries = [run.summary, *(twin.summary for twin in run.twins)]
    for axes, metric, scale in zip(
        drawn[0].axes, ("balanced_accuracy", "accuracy", "auroc"), (100, 100, 1), strict=True
    ):
        widths = [patch.get_width() for patch in axes.patches]
        assert widths == pytest.approx(
            [scale * v for v in [*(s.mean[metric] for s in summaries), run.summary.guess[metric]]]
        )
        dots = [line.get_xdata() for line in axes.lines if line.get_marker() == "o"]
        assert len(dots) == 3
        for own, summary in zip(dots, summaries, strict=True):
            assert own == pytest.approx(scale * summary.folds[metric].to_numpy())
    assert [text.get_text() for text in drawn[0].axes[0].get_yticklabels()] == [
        "pretrained", "random @0", "random @1", "majority",
    ]  # fmt: skip
    assert "join the same fold" in drawn[0].get_suptitle()


def test_folds_of_other_videos_are_not_joined(make_run, tmp_path, drawn):
    run, other = make_run(twins=1), make_run(twins=1, seed=5)
    assert bars.same_folds(run.result, run.twins[0].result) and not bars.same_folds(run.result, other.result)
    bars.draw_twins(replace(run, twins=other.twins), tmp_path / "a.png")
    assert "join" not in drawn[0].get_suptitle()
    shuffled = run.result.predictions.sample(frac=1, random_state=0)
    assert bars.same_folds(run.result, replace(run.result, predictions=shuffled))


def test_folds_have_the_height_of_their_metric(make_run, tmp_path, drawn):
    run = make_run(classes=("a", "b", "c"))
    table = run.result.predictions
    table = table[~((table["fold"] == 1) & (table["truth"] == "b"))].reset_index(drop=True)
    result = replace(run.result, predictions=table)
    run = replace(run, result=result, summary=summarise(result))
    assert np.isnan(run.summary.folds["auroc"][1])
    bars.draw_folds(run, tmp_path / "a.png")
    for axes, metric, scale in zip(
        drawn[0].axes, ("balanced_accuracy", "accuracy", "auroc"), (100, 100, 1), strict=True
    ):
        heights = [patch.get_height() for patch in axes.patches[:4]]
        assert heights == pytest.approx(np.nan_to_num(scale * run.summary.folds[metric].to_numpy()))
    assert [text.get_text() for text in drawn[0].axes[2].texts][1] == "–"


@pytest.mark.parametrize("classes", [("no", "yes"), ()])
def test_validation_test_and_best_look(make_run, tmp_path, drawn, classes):
    run = make_run(classes=classes)
    found = bars.inner_outer(run)
    for part, own in run.result.inner.groupby("part"):
        if part < 0:
            continue
        if classes:
            expected = ((own["p_yes"] > 0.5) == (own["truth"] == "yes")).mean()
        else:
            expected = sk.mean_absolute_error(own["truth"], own["prediction"])
        assert found["inner"][part] == pytest.approx(expected)
    metric = "accuracy" if classes else "mae"
    assert found["outer"].tolist() == run.summary.folds[metric].tolist() and found["best"].tolist() == [0.9] * 4
    assert bars.draw_inner_outer(run, tmp_path / "a.png")
    labels = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert len(labels) == 3 and labels[2].startswith("best of 12 looks at the test fold (optimistic)")
    assert bars.draw_inner_outer(make_run(classes=classes, looks=None), tmp_path / "b.png")
    assert bars.draw_inner_outer(make_run(classes=classes, inner=None), tmp_path / "c.png")
    assert not bars.draw_inner_outer(make_run(classes=classes, inner=None, looks=None), tmp_path / "d.png")


@pytest.mark.parametrize("repeats", [1, 3])
def test_sources_and_patients(make_run, repeats):
    run = make_run(classes=("a", "b", "c"), sources=4, repeats=repeats)
    table = run.result.predictions.assign(
        right=run.result.scores.argmax(1) == run.result.predictions["truth"].map(ord) - 97
    )
    found = sources.source_table(run.result)
    assert found["videos"].tolist() == sorted(found["videos"], reverse=True) and found["videos"].sum() == 60
    for name, own in table.groupby("source"):
        row = found.loc[name]
        assert row["value"] == pytest.approx(own["right"].mean()) and row["low"] <= row["value"] <= row["high"]
        assert row["patients"] == own["patient"].nunique() and row["videos"] == own["video_id"].nunique()
        assert row["n_b"] == own[own["truth"] == "b"]["video_id"].nunique()
    each = sources.patient_values(run.result)
    pd.testing.assert_series_equal(
        each["value"], table.groupby("patient")["right"].mean(), check_names=False, check_dtype=False
    )
    assert each.loc["p1", "class"] == "b"


def test_patients_of_several_classes_and_unknown_ones(make_run, tmp_path):
    run = make_run()
    table = run.result.predictions.copy()
    table.loc[table["video_id"] == "v000", "truth"] = "yes"
    table.loc[table["patient"] == "p3", "patient"] = ""
    result = replace(run.result, predictions=table)
    each = sources.patient_values(result)
    assert each.loc["p0", "class"] == sources.SEVERAL and "p3" not in each.index and len(each) == 19
    assert sources.draw_sources(replace(run, result=result), tmp_path / "a.png")


def test_agreement_of_numbers(make_run, tmp_path, drawn):
    run = make_run(classes=())
    regression.draw_scatter(run, tmp_path / "a.png")
    left, right = drawn[0].axes
    table = run.result.predictions
    assert len(left.collections) == 4
    for fold, part in enumerate(left.collections):
        own = table[table["fold"] == fold]
        np.testing.assert_allclose(part.get_offsets(), own[["truth", "prediction"]])
    difference = table["prediction"] - table["truth"]
    limits = [difference.mean() + k * difference.std() for k in (0, 1.96, -1.96)]
    assert [line.get_ydata()[0] for line in right.lines[1:]] == pytest.approx(limits)
    assert left.get_title().startswith(f"MAE {run.summary.mean['mae']:.2f} ± {run.summary.sd['mae']:.2f} [")
