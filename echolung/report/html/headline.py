"""The head of the page: the number, its interval, and what must stand beside it before anybody believes it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from echolung.evaluation.result import is_optimistic
from echolung.report.html.prose import OPTIMISTIC
from echolung.report.html.results import seed_of
from echolung.report.html.tables import (
    LOWER,
    PER_CENT,
    Cell,
    Table,
    between,
    head,
    in_words,
    main_metric,
    measured,
    shown_metrics,
    spread,
    with_unit,
)
from echolung.report.run import Run

BLIND = {
    "EL107": "a forest that saw no pixel",
    "EL108": "a forest that saw only the source",
    "EL109": "clinical variables alone",
}
"""Check -> whose score it found, to be shown beside the model's."""


@dataclass(frozen=True)
class Row:
    """A result that stands beside the others.

    Attributes:
        name: whose.
        about: what that is, in a few words.
        mean: metric -> value.
        sd: metric -> standard deviation over folds (of several twins: over their seeds).
        interval: metric -> 95 % interval.
    """

    name: str
    about: str
    mean: Mapping[str, int | float]
    sd: Mapping[str, int | float]
    interval: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Bar:
    """A row of the picture beside the number; places are per cent of its width.

    Attributes:
        name: whose.
        value: its number, as text.
        at: where the number is.
        low: where its interval begins; None where there is none.
        high: where that ends.
    """

    name: str
    value: str
    at: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Headline:
    """The head of the page.

    Attributes:
        title: dataset and task.
        subtitle: probe and encoder.
        facts: protocol and size, a few words each.
        optimistic: why the number is optimistic; "" where it is not.
        metric: what the number is.
        value: the number.
        sd: its standard deviation over folds, "" where there is one fold.
        sd_repeats: standard deviation over repeats, "" where there is one.
        interval: its 95 % interval.
        bars: it and the others on one axis.
        verdict: what its interval lies above, and what not.
        permutation: what came of permuted labels, "" where none were.
        table: it and the others, by every metric.
    """

    title: str
    subtitle: str
    facts: list[str]
    optimistic: str
    metric: str
    value: str
    sd: str
    sd_repeats: str
    interval: str
    bars: list[Bar]
    verdict: str
    permutation: str
    table: Table


def headline(run: Run) -> Headline:
    """Return the head of a run's page."""
    settings, metric = run.result.settings, main_metric(run.result)
    rows = rows_beside(run)
    given = ", ".join(f"{name} {value}" for name, value in settings.get("hyper", {}).items())
    title = f"{settings['dataset']} · {settings['task']}"
    if "test" in settings:
        title += f" → {settings['test']['dataset']} · {settings['test']['task']}"
    each = _each_twin(run) if len(run.twins) > 1 else []
    sd, between_repeats = run.summary.sd[metric], run.summary.sd_repeats.get(metric)
    return Headline(
        title=title,
        subtitle=f"{settings['probe']} probe{f' ({given})' if given else ''} on {run.record.get('encoder')}",
        facts=facts(run),
        optimistic=OPTIMISTIC.get(settings["protocol"], "") if is_optimistic(settings) else "",
        metric=in_words(metric),
        value=with_unit(metric, run.summary.mean[metric]),
        sd=with_unit(metric, sd) if sd == sd else "",
        sd_repeats=with_unit(metric, between_repeats) if between_repeats is not None else "",
        interval=between(metric, run.summary.interval.get(metric)) + (" %" if metric in PER_CENT else ""),
        bars=_bars(rows, metric),
        verdict=_verdict(rows, metric),
        permutation=_permutation(run.record.get("permutation")),
        table=_table(run, [rows[0], *_by_patient(run), *rows[1:2], *each, *rows[2:]]),
    )


def facts(run: Run) -> list[str]:
    """Return protocol and size in a few words each."""
    settings, summary = run.result.settings, run.summary
    predictions = run.result.predictions
    patients = predictions["patient"][predictions["patient"] != ""].nunique()
    per_class = ", ".join(f"{name}: {count}" for name, count in summary.patients_per_class.items())
    repeats = settings.get("repeats", 1)
    count = len(run.result.folds)
    folds = (
        f"{count // repeats} folds" + (f" × {repeats} repeats" if repeats > 1 else "") if count > 1 else "scored once"
    )
    size = f"{predictions['video_id'].nunique():,} videos" + (f" of {patients:,} patients" if patients else "")
    shared = run.result.shared
    between_them = f"{shared.get('patients', 0)} patients shared by train and test"
    if settings["group"] == "source":
        between_them += f", {shared.get('groups', 0)} sources shared"
    return [
        f"protocol {settings['protocol']}, {folds}, each {settings['group']} kept together",
        size + (f" ({per_class})" if per_class and patients else ""),
        between_them,
    ]


def rows_beside(run: Run) -> list[Row]:
    """Return the run and what stands beside it: random twins, what saw no pixel, guessing."""
    summary = run.summary
    rows = [Row(f"this run{_called(run)}", str(run.record.get("encoder")), summary.mean, summary.sd, summary.interval)]
    rows += _twins(run)
    for finding in run.findings:
        values = {name: value for name, value in finding.scores.items() if isinstance(value, int | float)}
        if values and finding.code in BLIND:
            rows.append(Row(BLIND[finding.code], f"check {finding.code}, in the same folds", values, {}, {}))
    guess = "majority class" if run.result.task.classes else "the mean"
    rows.append(Row(guess, "guessing from the training part's labels", summary.guess, {}, {}))
    return rows


def _by_patient(run: Run) -> list[Row]:
    """Return the run's numbers with one prediction a patient, where patients are known."""
    summary = run.summary
    if not summary.patient:
        return []
    mixed = f"; {summary.mixed_patients} patients of several classes left out" if summary.mixed_patients else ""
    about = f"the mean over a patient's videos{mixed}"
    return [Row(f"one prediction a patient{_called(run)}", about, summary.patient, {}, summary.patient_interval)]


def _twins(run: Run) -> list[Row]:
    """Return the random twin; of several their mean. Runs of schema 1 kept the numbers of one, without its name."""
    rows = _each_twin(run)
    if len(rows) > 1:
        values = pd.DataFrame([row.mean for row in rows])
        mean, sd = (
            {str(name): float(value) for name, value in each.items()} for each in (values.mean(), values.std(ddof=1))
        )
        return [Row(f"random twins{_called(run)}", f"mean of {len(rows)} seeds ± sd over seeds", mean, sd, {})]
    old: dict[str, Any] | None = run.record.get("random_twin")
    if old:
        mean, sd = ({k: v for k, v in old[name].items() if v is not None} for name in ("mean", "sd"))
        interval = {k: (v[0], v[1]) for k, v in old["interval"].items() if None not in v}
        return [Row(f"random twin{_called(run)}", "same model, random weights", mean, sd, interval)]
    return rows


def _each_twin(run: Run) -> list[Row]:
    rows = []
    for twin in run.twins:
        name = f"random twin{_called(run)}" if len(run.twins) == 1 else f"random twin {seed_of(twin)}{_called(run)}"
        about, summary = f"{twin.encoder}: same model, random weights", twin.summary
        rows.append(Row(name, about, summary.mean, summary.sd, summary.interval))
    return rows


def _called(run: Run) -> str:
    return " (optimistic)" if is_optimistic(run.result.settings) else ""


def _permutation(found: dict[str, Any] | None) -> str:
    if not found:
        return ""
    metric = found["metric"]
    observed, mean, limit = (with_unit(metric, found[name]) for name in ("observed", "null_mean", "null_95"))
    return (
        f"p = {found['p']:.3g} by {found['permutations']} permutations ({found['kind']}): {in_words(metric)} {observed} "
        f"against {mean} on average and {limit} at the 95 % quantile of permuted labels."
    )


def _table(run: Run, rows: list[Row]) -> Table:
    metrics = shown_metrics(run.result)
    cells = []
    for row in rows:
        values = [
            spread(metric, row.mean[metric], row.sd.get(metric), between(metric, row.interval.get(metric)))
            if metric in row.mean
            else measured(metric, None)
            for metric in metrics
        ]
        cells.append([Cell(row.name, row.name, row.about), *values])
    what = "mean over folds ± standard deviation" if len(run.result.folds) > 1 else "the same question"
    columns = ("", *(head(metric) for metric in metrics))
    return Table(f"Beside it: {what}, 95 % interval below", columns, cells, sortable=False)


def _bars(rows: list[Row], metric: str) -> list[Bar]:
    """Return the rows on one axis: from 0 to 100 %, or to the largest number there is."""
    rows = [row for row in rows if row.mean.get(metric, float("nan")) == row.mean.get(metric)]
    ends = [row.interval[metric][1] if metric in row.interval else row.mean[metric] for row in rows]
    scale = 100 / (1.0 if metric in PER_CENT else max([*ends, 1e-12]))
    bars = []
    for row in rows:
        low, high = (scale * end for end in row.interval[metric]) if metric in row.interval else (None, None)
        bars.append(Bar(row.name, with_unit(metric, row.mean[metric]), scale * row.mean[metric], low, high))
    return bars


def _verdict(rows: list[Row], metric: str) -> str:
    """Say what the interval lies wholly beyond and what it does not; it is no test, and says so."""
    mine, others = rows[0], [row for row in rows[1:] if row.mean.get(metric, float("nan")) == row.mean.get(metric)]
    if metric not in mine.interval or not others:
        return ""
    low, high = mine.interval[metric]
    better, side = (lambda x: high < x, "below") if metric in LOWER else (lambda x: low > x, "above")
    beyond = [row.name for row in others if better(row.mean[metric])]
    within = [row.name for row in others if not better(row.mean[metric])]
    parts = []
    if beyond:
        parts.append(f"Its interval lies wholly {side} {_listed(beyond)}.")
    if within:
        parts.append(f"{'It' if parts else 'Its interval'} does not lie wholly {side} {_listed(within)}.")
    return " ".join(parts)


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
