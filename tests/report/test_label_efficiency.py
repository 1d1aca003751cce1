"""The folder of a label-efficiency run: numbers that can be recomputed, a curve that can be looked at."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score

from echolung.evaluation.label_efficiency import label_efficiency
from echolung.report.label_efficiency import draw_curve, save_label_efficiency


@pytest.fixture(scope="module")
def store(write_classes):
    return write_classes()


@pytest.mark.parametrize("task", ["label", "number"])
def test_the_folder_holds_what_its_numbers_come_from(store, task, echolung_home):
    found = label_efficiency(store, task, fractions=(0.5,), seeds=2, probe="knn", cv=3)
    folder = save_label_efficiency(found, store, 1.23)
    assert folder.parent == echolung_home / "runs"
    assert folder.name.endswith(f"-synthetic-{task}-knn-label-efficiency-patient")
    assert [p.name for p in folder.parent.iterdir()] == [folder.name], "nothing half-written is left"
    files = ["curve.png", "label_efficiency.csv", "predictions.csv", "record.json"]
    assert sorted(p.name for p in folder.iterdir()) == files
    table, predictions = (pd.read_csv(folder / name) for name in files[1:3])
    assert len(table) == 3 * 3 and len(predictions) == 3 * 48
    for (fraction, seed, fold), rows in predictions.groupby(["fraction", "seed", "fold"]):
        row = table.query(f"fraction == {fraction} and seed == {seed} and fold == {fold}").iloc[0]
        if task == "number":
            assert row["mae"] == pytest.approx((rows["prediction"] - rows["truth"]).abs().mean(), rel=1e-4)
        else:
            told = rows[["p_class0", "p_class1", "p_class2"]].to_numpy().argmax(1)
            assert row["accuracy"] == pytest.approx(accuracy_score(rows["truth"].str[-1].astype(int), told), rel=1e-5)
    record = json.loads((folder / "record.json").read_text())
    assert record["settings"]["label_fractions"] == [0.5, 1.0] and record["settings"]["label_seeds"] == 2
    half, whole = record["label_efficiency"]
    draws = table[table["fraction"] == 0.5].groupby("seed")[found.metric].mean()
    assert half[found.metric] == pytest.approx(draws.mean(), rel=1e-5) and half["seeds"] == 2
    assert half[f"{found.metric}_sd"] == pytest.approx(draws.std(ddof=1), rel=1e-3)
    assert whole[f"{found.metric}_sd"] is None and whole["patients"] == 16
    assert save_label_efficiency(found, store, 1.23) != folder


@pytest.mark.parametrize(("sizes", "log"), [((4, 20, 40), True), ((6, 14, 58), False)])
def test_the_curve_has_a_log_axis_where_it_spans_a_decade(store, tmp_path, monkeypatch, sizes, log):
    from matplotlib.axes import Axes

    scales, lines = [], []
    monkeypatch.setattr(Axes, "set_xscale", lambda self, scale: scales.append(scale))
    monkeypatch.setattr(Axes, "axhline", lambda self, y, **_: lines.append(y))
    found = label_efficiency(store, fractions=(0.4, 0.7), seeds=1, probe="knn", cv=3)
    found.table["patients"] = np.repeat(sizes, 3)
    draw_curve(found, tmp_path / "curve.png")
    assert scales == ["log"] * log and lines == [pytest.approx(100 / 3)]
    with Image.open(tmp_path / "curve.png") as image:
        image.load()
        assert image.format == "PNG" and min(image.size) > 400
