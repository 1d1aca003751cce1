"""The sections that say on whom the run does well or badly: sources, patients, single videos, and where these lie."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from echolung.evaluation.facts import facts_of
from echolung.evaluation.result import score_columns
from echolung.evaluation.statistics.subgroups import subgroups
from echolung.report.html.section import Material, Section, section
from echolung.report.html.tables import Cell, Table, between, counted, head, measured, named, shown_metrics
from echolung.report.run import Run

MOST = 100
"""Rows of a table of videos or patients; predictions.csv has all."""


def groups(of: Material) -> Section:
    """Return results by source and by patient."""
    rows = by_video(of.run)
    tables = [_group_table(of.run, rows, level) for level in ("source", "patient")]
    return section("groups", of.images("sources"), [*(t for t in tables if len(t.rows) > 1), *_subgroup_table(of)])


def mistakes(of: Material) -> Section:
    """Return the worst mistakes as pictures, and a table of them."""
    return section(
        "mistakes", of.images("mistakes"), [_mistake_table(of.run)], note=of.drawn.problems.get("mistakes", "")
    )


def embedding(of: Material) -> Section:
    """Return the maps of embeddings, and of numbers how smoothly they change over them."""
    tables = [_continuity_table(of.run.record["continuity"])] if of.run.record.get("continuity") else []
    note = of.drawn.problems.get("map", "")
    return section("map", of.images("map"), tables, note=note, scored=False)


def attention(of: Material) -> Section:
    """Return film strips of what an attentive probe attends to."""
    return section("attention", of.images("attention"), note=of.drawn.problems.get("attention", ""), scored=False)


def samples(of: Material) -> Section:
    """Return what the videos look like."""
    return section("samples", of.images("samples"), note=of.drawn.problems.get("samples", ""), scored=False)


def by_video(run: Run) -> pd.DataFrame:
    """Return one row a scored video, the mean of its predictions where there are several.

    Beside video_id, patient, source, fold and truth: predicted and wrong_by; of classes right, sure (the highest probability)
    and of_truth (that of the true class); of numbers error.
    """
    columns, classes = score_columns(run.result.task), run.result.task.classes
    kinds = {**dict.fromkeys(("patient", "source", "fold", "truth"), "first"), **dict.fromkeys(columns, "mean")}
    table = run.result.predictions.groupby("video_id", sort=True).agg(kinds).reset_index()
    scores = table[columns].to_numpy(float)
    if not classes:
        error = scores[:, 0] - table["truth"].to_numpy(float)
        return table.assign(predicted=scores[:, 0], error=error, wrong_by=np.abs(error))
    places = table["truth"].map({name: i for i, name in enumerate(classes)}).to_numpy(int)
    predicted, sure = np.array(classes)[scores.argmax(1)], scores.max(1)
    of_truth = scores[np.arange(len(scores)), places]
    right = predicted == table["truth"].to_numpy()
    return table.assign(predicted=predicted, right=right, sure=sure, of_truth=of_truth, wrong_by=sure - of_truth)


def _continuity_table(found: Mapping[str, Any]) -> Table:
    """Return how smoothly the number changes over the embeddings, in all their dimensions."""
    rows = [
        [
            named("Spearman of distance and difference, pairs of different patients"),
            measured("", found["spearman"], between("", found["spearman_interval"])),
            measured("", 0.0),
        ],
        [
            named("MAE of the mean of the 5 nearest of other patients"),
            measured("", found["knn_mae"], between("", found["knn_mae_interval"])),
            measured("", found["knn_mae_chance"]),
        ],
        [
            named("trustworthiness of the number as a map (5 neighbours)"),
            measured("", found["trustworthiness"]),
            measured("", found["trustworthiness_chance"]),
        ],
    ]
    title = f"How smoothly the number changes over the embeddings ({found['videos']} videos, in all dimensions)"
    return Table(title, ("", "embeddings, 95 % interval below#", "by chance#"), rows, sortable=False)


def _group_table(run: Run, table: pd.DataFrame, level: str) -> Table:
    """Return a row a source (or patient), the worst first."""
    classes, sources = run.result.task.classes, level == "source"
    metric = "accuracy" if classes else "mae"
    value = table["right"].astype(float) if classes else table["wrong_by"]
    known = table.assign(value=value)[table[level] != ""]
    means = known.groupby(level)["value"].mean().sort_values(ascending=bool(classes), kind="stable")
    rows = []
    for name, mean in means.head(MOST).items():
        part = known[known[level] == name]
        sizes = [counted(len(part)), *([counted(part["patient"].nunique())] if sources else [])]
        rows.append([named(name), *sizes, _truths(part, classes), measured(metric, mean)])
    columns = (level, "videos#", *(["patients#"] if sources else []), "truth" if classes else "mean truth#")
    more = f" (the {MOST} worst of {len(means)})" if len(means) > MOST else ""
    score = "accuracy %#" if classes else "MAE#"
    return Table(f"By {level}, the worst first{more}", (*columns, score), rows, folded=not sources)


def _subgroup_table(of: Material) -> list[Table]:
    """Return results by sex, age, quality, length and frame rate; nothing without the store, which knows them."""
    if of.store is None:
        return []
    result = of.run.result
    classes = bool(result.task.classes)
    found = subgroups(result.predictions, facts_of(of.store), result.task)
    names = [name for name in shown_metrics(result) if any(name in group.values for group in found)]
    rows = []
    for group in found:
        counts = [", ".join(f"{name}: {count}" for name, count in group.per_class.items() if count)] * classes
        values = [measured(n, group.values.get(n), between(n, group.interval.get(n))) for n in names]
        about = [named(group.by), named(group.name), counted(group.videos), counted(group.patients)]
        rows.append([*about, *map(named, counts), *values, Cell(group.note)])
    columns = ("by", "group", "videos#", "patients#", *["truth"] * classes, *(head(name) for name in names), "note")
    title = "By what is known of patients and videos, 95 % interval below; groups differ in more than their name"
    return [Table(title, columns, rows)]


def _truths(part: pd.DataFrame, classes: tuple[str, ...]) -> Cell:
    if not classes:
        return measured("mae", part["truth"].mean())
    counts = part["truth"].value_counts()
    return named(", ".join(f"{name}: {counts[name]}" for name in classes if name in counts))


def _mistake_table(run: Run) -> Table:
    classes, table = run.result.task.classes, by_video(run)
    wrong = table[~table["right"]] if classes else table
    worst = wrong.sort_values(["wrong_by", "video_id"], ascending=[False, True])
    rows = [_mistake(row, bool(classes)) for row in worst.head(MOST).to_dict("records")]
    mark, numbers = ("", ("sure of it %#", "gave the truth %#")) if classes else ("#", ("error#",))
    columns = ("video", "patient", "source", "fold#", f"truth{mark}", f"predicted{mark}", *numbers)
    what = (
        f"{len(wrong)} of {len(table)} videos are wrong" if classes else f"{len(table)} videos, the farthest off first"
    )
    more = f"; the {MOST} worst (predictions.csv has all)" if len(wrong) > MOST else ""
    return Table(what + more, columns, rows, folded=True)


def _mistake(row: Mapping[Any, Any], classes: bool) -> list[Cell]:
    about = [*(named(row[name]) for name in ("video_id", "patient", "source")), counted(int(row["fold"]))]
    if classes:
        shares = [measured("accuracy", row[name]) for name in ("sure", "of_truth")]
        return [*about, named(row["truth"]), named(row["predicted"]), *shares]
    return [*about, *(measured("mae", row[name]) for name in ("truth", "predicted", "error"))]
