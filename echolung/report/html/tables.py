"""Tables as the page shows them: cells with what they sort by, and how a metric is written."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from echolung.evaluation.metrics import LABELS, MAIN
from echolung.evaluation.result import Result

PER_CENT = ("accuracy", "balanced_accuracy", "within_one")
"""Metrics that are written in per cent."""

LOWER = ("mae", "rmse", "score_mae", "log_loss", "ece", "brier")
"""Metrics of which less is better."""


@dataclass(frozen=True)
class Cell:
    """What stands in a place of a table.

    Attributes:
        text: what is read.
        order: what it sorts by: a number, or a text; None puts it last.
        small: a second, smaller line.
    """

    text: str
    order: int | float | str | None = None
    small: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: what it holds.
        columns: the heads; one that ends in "#" is of numbers, which stand at the right.
        rows: cells, as many as there are columns.
        foot: rows below that stay there when the others are sorted.
        folded: whether it is shown only when asked for.
        sortable: whether a click on a head sorts by it.
    """

    title: str
    columns: tuple[str, ...]
    rows: list[list[Cell]]
    foot: list[list[Cell]] = field(default_factory=list)
    folded: bool = False
    sortable: bool = True

    @property
    def heads(self) -> list[tuple[str, bool]]:
        """Each head, and whether its column is of numbers."""
        return [(name.removesuffix("#"), name.endswith("#")) for name in self.columns]


def main_metric(result: Result) -> str:
    """Return the metric that the page is headed by."""
    return MAIN[result.task.kind]


def shown_metrics(result: Result) -> list[str]:
    """Return the metrics of a task that tables have room for, the main one first."""
    if not result.task.classes:
        return ["mae", "rmse", "r2", "pearson"]
    return ["balanced_accuracy", "accuracy", "auroc", *(["qwk", "score_mae"] if result.task.ordinal else [])]


def head(metric: str) -> str:
    """Return the head of a metric's column."""
    return f"{LABELS.get(metric, metric.replace('_', ' '))}{' %' if metric in PER_CENT else ''}#"


def in_words(metric: str) -> str:
    """Return what a sentence calls a metric."""
    return LABELS.get(metric, metric.replace("_", " ")).replace("acc.", "accuracy")


def number(metric: str, value: int | float | None) -> str:
    """Return a metric as tables show it: per cent, three decimals, or "—" where it is not defined."""
    if value is None or value != value:
        return "—"
    if metric in PER_CENT:
        text = f"{100 * value:.1f}"
    else:
        text = f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
    return text.replace("-", "−")


def with_unit(metric: str, value: int | float | None) -> str:
    """Return a metric as a sentence has it."""
    return f"{number(metric, value)}{' %' if metric in PER_CENT and value == value else ''}"


def measured(metric: str, value: int | float | None, small: str = "") -> Cell:
    """Return the cell of a metric."""
    return Cell(number(metric, value), None if value is None or value != value else float(value), small)


def spread(metric: str, mean: int | float, sd: int | float | None, small: str = "") -> Cell:
    """Return the cell of a mean over folds and its standard deviation."""
    behind = f" {plus_minus(metric, mean, sd)}" if sd == sd and sd is not None else ""
    return Cell(number(metric, mean) + behind, None if mean != mean else mean, small)


def plus_minus(metric: str, mean: int | float, sd: int | float | None) -> str:
    """Return a standard deviation with as many digits as its mean has, "" where there is none."""
    if sd is None or sd != sd:
        return ""
    return f"± {sd:.1f}" if abs(mean) >= 10 and metric not in PER_CENT else f"± {number(metric, sd)}"


def between(metric: str, interval: Sequence[float] | None) -> str:
    """Return an interval as text, "" where there is none."""
    return "" if interval is None else " – ".join(number(metric, end) for end in interval)


def counted(count: int | float) -> Cell:
    """Return the cell of a count."""
    return Cell(f"{count:,.0f}", float(count))


def named(value: object) -> Cell:
    """Return the cell of a name, which sorts as text even where it looks like a number."""
    return Cell(str(value), str(value))


def text_cell(value: Any) -> Cell:
    """Return the cell of a name or of a number as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Cell(str(value), str(value))
    return Cell(f"{value:.4g}", float(value)) if value == value else Cell("—")


def two_columns(title: str, rows: Iterable[tuple[str, Any]], folded: bool = False) -> Table:
    """Return a table of names and what they are; rows without a value are left out."""
    cells = [[Cell(name), Cell(str(value))] for name, value in rows if value not in (None, "", [], {})]
    return Table(title, ("what", "value"), cells, folded=folded, sortable=False)
