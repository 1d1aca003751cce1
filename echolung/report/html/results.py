"""The sections that show what the run scored: folds, classes, curves, calibration, and what it is held against."""

from typing import Any

import pandas as pd

from echolung.evaluation import metrics
from echolung.evaluation.metrics import LABELS
from echolung.evaluation.result import Result, is_optimistic, score_columns
from echolung.report.html.section import Material, Section, section
from echolung.report.html.tables import (
    Cell,
    Table,
    between,
    counted,
    head,
    main_metric,
    measured,
    named,
    plus_minus,
    shown_metrics,
    spread,
    text_cell,
)
from echolung.report.run import Run, Twin

SHARED = "patients_shared"

SIZES = {
    "patients_train": "patients, train#",
    "patients_test": "patients, test#",
    "videos_train": "videos, train#",
    "videos_test": "videos, test#",
    SHARED: "patients shared#",
}
"""Column of `Result.folds` -> what the table calls it."""


def folds(of: Material) -> Section:
    """Return the table with a row for every fold."""
    result = of.run.result
    if is_optimistic(result.settings):
        read = "reported folds"
    elif len(result.folds) > 1:
        read = "folds"
    else:
        read = "transfer" if result.settings["protocol"] == "transfer" else "one split"
    images = of.images("folds") if len(result.folds) > 1 else []
    tables = [_fold_table(of.run), *_fit_table(of.run), _metric_table(of.run)]
    return section("folds", images, tables, read=read)


def confusion(of: Material) -> Section:
    """Return truth against predicted class."""
    return section("confusion", of.images("confusion"))


def scatter(of: Material) -> Section:
    """Return truth against predicted number, what guessing scores, and the number as a classifier."""
    if of.run.result.task.classes:
        return section("scatter")
    tables = [_number_table(of.run), *_reduced_table(of.run)]
    return section("scatter", of.images("scatter"), tables)


def curves(of: Material) -> Section:
    """Return ROC and precision-recall curves."""
    return section("roc", of.images("roc-pr"), read="roc" if len(of.run.result.folds) > 1 else "roc once")


def reliability(of: Material) -> Section:
    """Return what was right against how sure it was, and the temperatures."""
    pairs = zip(of.run.result.folds["fold"], of.run.result.temperatures, strict=False)
    rows = [[counted(int(fold)), measured("", value)] for fold, value in pairs]
    heat = Table(
        "Temperature of each fold (above 1: its probe was too sure)", ("fold#", "temperature#"), rows, folded=True
    )
    read = "reliability and temperature" if rows else "reliability"
    return section("reliability", of.images("reliability"), [_calibration_table(of.run), heat], read=read)


def training(of: Material) -> Section:
    """Return held-out loss and accuracy over epochs."""
    read = "training on reported folds" if is_optimistic(of.run.result.settings) else "training"
    return section("training", of.images("curves"), read=read)


def twins(of: Material) -> Section:
    """Return the run beside the same model with random weights."""
    record, images = of.run.record, of.images("twins")
    if of.run.twins or record.get("random_twin") or "random" in str(record.get("encoder")):
        return section("twins", images)
    without = "No run of this model with random weights stands beside this one, so nothing says how much is due to pretraining."
    settings = of.run.result.settings
    if "study" in settings or settings["protocol"] == "transfer":
        advice = "This kind of run makes none by itself: make the same run of a store of random:NAME, and hold them side by side."
    else:
        advice = "Make a store with echolung extract --encoder random:NAME, and repeat the run."
    return section("twins", read="none", note=f"{without} {advice}")


def inner_outer(of: Material) -> Section:
    """Return what was seen while choosing beside what was scored once."""
    return section("inner", of.images("inner-outer"), [*_inner_table(of.run), *_looks_table(of.run.result)])


def measure(result: Result, table: pd.DataFrame) -> dict[str, float]:
    """Return every metric of some rows of predictions."""
    scores = table[score_columns(result.task)].to_numpy(float)
    if not result.task.classes:
        return metrics.regression(table["truth"].to_numpy(float), scores[:, 0])
    truth = table["truth"].map({name: i for i, name in enumerate(result.task.classes)}).to_numpy(int)
    return metrics.classification(truth, scores, result.task.ordinal)


def seed_of(twin: Twin) -> str:
    """Return how a twin is told from others: by its seed."""
    return f"@{twin.encoder.rpartition('@')[2]}"


def _calibration_table(run: Run) -> Table:
    values, columns = run.summary.calibration, {"": "as predicted#"}
    if run.result.temperatures:
        columns["_after"] = "after temperature#"
    names = [name for name in values if not name.endswith("_after")]
    rows = [[named(LABELS[name]), *(measured("", values[name + when]) for when in columns)] for name in names]
    return Table("Calibration", ("all predictions pooled; less is better", *columns.values()), rows)


def _fold_table(run: Run) -> Table:
    result, summary, metric = run.result, run.summary, main_metric(run.result)
    names, keys = shown_metrics(result), _setting_keys(result)
    sizes = {size: name for size, name in SIZES.items() if size in result.folds}
    if SHARED in sizes and not result.folds[SHARED].any():
        del sizes[SHARED]  # the head of the page says so
    scores = {head(name): summary.folds[name] for name in names}
    if run.twins:
        twins = pd.DataFrame([twin.summary.folds[metric] for twin in run.twins]).mean()
        scores[f"random {'twins' if len(run.twins) > 1 else 'twin'}, {head(metric)}"] = twins
    kinds = [*names, metric]
    rows = []
    for (_, fold), chosen in zip(result.folds.iterrows(), result.chosen, strict=True):
        values = [
            measured(kind, column.get(fold["fold"])) for kind, column in zip(kinds, scores.values(), strict=False)
        ]
        about = [counted(int(fold[size])) for size in ("fold", *sizes)]
        rows.append([*about, *(text_cell(chosen[key]) for key in keys), *values])
    ends = [(k, column.mean(), column.std(ddof=1)) for k, column in zip(kinds, scores.values(), strict=False)]
    spreads = [measured(k, mean, plus_minus(k, mean, sd)) for k, mean, sd in ends]
    foot = [[Cell("mean ± sd"), *[Cell("")] * (len(sizes) + len(keys)), *spreads]] if len(rows) > 1 else []
    numeric = [all(isinstance(chosen[key], int | float) for chosen in result.chosen) for key in keys]
    settings = [f"{key.replace('_', ' ')}{'#' * number}" for key, number in zip(keys, numeric, strict=True)]
    columns = ("fold#", *sizes.values(), *settings, *scores)
    return Table("Folds: sizes, the setting chosen, metrics", columns, rows, foot)


FIT = ("accuracy", "balanced_accuracy", "auroc", "auprc", "mae", "rmse", "r2")
"""Metrics of which train and test stand side by side."""


def _fit_table(run: Run) -> list[Table]:
    """Return what each probe scores on the videos it learnt from beside those it did not; nothing where not kept."""
    summary = run.summary
    rows = [
        [
            named(head(name).removesuffix("#")),
            spread(name, summary.train[name], summary.train_sd[name]),
            spread(name, summary.mean[name], summary.sd[name]),
            measured(name, summary.guess.get(name)),
        ]
        for name in FIT
        if name in summary.train
    ]
    what = "mean ± sd over folds" if len(summary.folds) > 1 else "one division"
    columns = ("metric", "on its own training part#", "on the test part#", "guessing#")
    return [Table(f"How well it fits what it learnt from, and how well it does: {what}", columns, rows, sortable=False)]


def _number_table(run: Run) -> Table:
    """Return every metric of numbers with its interval, by video, patient and visit, beside mean and median."""
    summary = run.summary
    levels = {
        "by video": (summary.mean, summary.interval),
        "by patient": (summary.patient, summary.patient_interval),
        f"by visit ({summary.visits})": (summary.visit, summary.visit_interval),
    }
    known = {name: each for name, each in levels.items() if each[0]}
    floors = {"the mean": summary.guess, "the median": summary.median}
    rows = [
        [
            named(LABELS[name]),
            *(measured(name, values.get(name), between(name, ends.get(name))) for values, ends in known.values()),
            *(measured(name, values.get(name)) for values in floors.values()),
        ]
        for name in summary.mean
    ]
    columns = ("metric", *(f"{name}#" for name in known), *(f"guessing {name}#" for name in floors))
    several = "means over folds, " if len(summary.folds) > 1 else ""
    title = f"Numbers by video: {several}95 % interval of all predictions together below, patients drawn"
    return Table(title, columns, rows, sortable=False)


def _reduced_table(run: Run) -> list[Table]:
    rows = []
    for each in run.summary.reduced:
        told = measured("auroc", each.auroc, between("auroc", each.interval)) if each.auroc is not None else None
        rows.append(
            [named(f"< {each.below:g}"), counted(each.positive), counted(each.negative), told or Cell("not defined")]
        )
    columns = ("positive", "videos below#", "videos not below#", "AUROC of the predicted number#")
    name = run.result.task.column
    title = (
        f"{name.upper() if name == 'ef' else name} below a threshold, told by the predicted number; 95 % interval below"
    )
    return [Table(title, columns, rows, sortable=False)]


def _metric_table(run: Run) -> Table:
    """Return every metric in a row, by video and by patient."""
    summary, rows = run.summary, []
    for name, mean in summary.mean.items():
        by_video = spread(name, mean, summary.sd[name], between(name, summary.interval.get(name)))
        by_patient = measured(name, summary.patient.get(name), between(name, summary.patient_interval.get(name)))
        rows.append(
            [named(head(name).removesuffix("#")), by_video, by_patient, measured(name, summary.guess.get(name))]
        )
    if summary.delong is not None:
        delong = spread("auroc", summary.mean["auroc"], None, between("auroc", summary.delong))
        rows.append([named("AUROC, clustered DeLong"), delong, Cell(""), Cell("")])
    folds = "mean ± sd over folds#" if len(summary.folds) > 1 else "one prediction a video#"
    columns = ("metric", folds, "one prediction a patient#", "guessing#")
    mixed = f"; {summary.mixed_patients} patients of several classes left out" if summary.mixed_patients else ""
    return Table(f"Every metric, 95 % interval below{mixed}", columns, rows, folded=True)


def _setting_keys(result: Result) -> list[str]:
    """Return what was chosen: hyper-parameters that differ between the settings, and the epoch."""
    grid: list[dict[str, Any]] = result.settings.get("grid", [])
    first = grid[0] if len(grid) > 1 else {}
    same = {key for key in first if len({str(setting.get(key)) for setting in grid}) == 1}
    return [key for key in result.chosen[0] if key not in same and (key != "epoch" or result.settings["epochs"] > 1)]


def _inner_table(run: Run) -> list[Table]:
    # In accuracy, as the looks below and the figure are.
    result, metric, rows = run.result, "accuracy" if run.result.task.classes else "mae", []
    if result.inner is None:
        return []
    scored = run.summary.folds[metric]
    for fold in sorted(set(result.inner["part"]) & set(scored.index)):
        part = result.inner[result.inner["part"] == fold]
        inner, outer = measure(result, part)[metric], float(scored[fold])
        values = [measured(metric, value) for value in (inner, outer, inner - outer)]
        rows.append([counted(int(fold)), counted(len(part)), *values])
    name = head(metric).removesuffix("#")
    columns = ("fold#", "videos validated on#", f"validation {name}#", f"test {name}#", "difference#")
    return [Table("Validation against test", columns, rows)]


def _looks_table(result: Result) -> list[Table]:
    looks = result.looks
    if looks is None or looks.empty:
        return []
    metric, grid, rows = str(looks["metric"].iloc[0]), result.settings.get("grid", []), []
    keys = [key for key in _setting_keys(result) if key != "epoch"]
    for look in looks.to_dict("records"):
        setting = grid[look["setting"]] if look["setting"] < len(grid) else {}
        which = [
            *(f"{key.replace('_', ' ')} {setting[key]}" for key in keys if key in setting),
            f"epoch {look['epoch']}",
        ]
        values = _gap(metric, look["honest"], look["best"])
        rows.append([counted(look["fold"]), *values, counted(look["looks"]), Cell(" · ".join(which))])
    foot = [Cell("mean"), *_gap(metric, looks["honest"].mean(), looks["best"].mean()), Cell(""), Cell("")]
    columns = ("fold#", "chosen inside#", "best look#", "difference#", "looks#", "which look was best")
    name = head(metric).removesuffix("#")
    title = f"What choosing on the scored fold itself would have reported (optimistic): {name}"
    return [Table(title, columns, rows, [foot])]


def _gap(metric: str, honest: int | float, best: int | float) -> list[Cell]:
    return [measured(metric, value) for value in (honest, best, best - honest)]
