"""The page of a comparison: one HTML file that needs no network."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from echolung.evaluation.comparison import Comparison
from echolung.evaluation.statistics.resampled import WHY_THEY_DIFFER
from echolung.report import comparison_text as text
from echolung.report.html.images import embed
from echolung.report.html.tables import Cell, Table, measured


def write_page(found: Comparison, record: dict[str, Any], figure: Path, path: Path) -> None:
    """Write the page: what is gained, tests and why they differ, what differs between the arms, every fold."""
    pages = Environment(
        loader=PackageLoader("echolung.report.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = pages.get_template("comparison.html").render(
        title=text.title(found),
        about=text.about(found),
        optimistic=found.optimistic,
        image=embed(figure),
        contrasts=[
            {
                "title": f"A {found.a} against B {each.b}",
                "verdict": text.verdict(found, each),
                "table": _gains(found, i),
                "said": text.sentences(found, each),
                "folds": _folds(found, i),
            }
            for i, each in enumerate(found.contrasts)
        ],
        why=WHY_THEY_DIFFER if any(each.tests for each in found.contrasts) else "",
        seeds=text.seeds(found),
        differing=_differing(found),
        smooth=_smoothness(record),
        notes=found.notes,
        runs=[run["name"] for run in record["runs"]],
        command=record["command"],
        version=record["versions"]["echolung"],
        at=record["at"],
    )
    path.write_text(page, "utf-8")


def _gains(found: Comparison, i: int) -> Table:
    contrast = found.contrasts[i]
    heads = ("metric", "A#", "B#", "gain A − B by fold#", "gain pooled, 95 % interval#", "p#")
    rows = [[Cell(cell) for cell in row] for row in text.rows(found, contrast)]
    return Table("Mean ± sd over folds; a gain above 0 is in favour of A", heads, rows, sortable=False)


def _folds(found: Comparison, i: int) -> Table:
    contrast, name = found.contrasts[i], found.metric
    each = contrast.folds[contrast.folds["metric"] == name].to_dict("records") if len(contrast.folds) else []
    rows = [
        [Cell(str(row["fold"]), float(row["fold"])), *(measured(name, float(row[arm])) for arm in ("a", "b", "gain"))]
        for row in each
    ]
    return Table(f"{text.label(name)}, fold by fold", ("fold#", "A#", "B#", "gain#"), rows, folded=True)


def _differing(found: Comparison) -> Table:
    rows = [[Cell(fact), *map(Cell, texts)] for fact, texts in found.differing.items()]
    return Table("What differs", ("", *found.names), rows, sortable=False)


def _smoothness(record: dict[str, Any]) -> Table:
    name, *heads = text.SMOOTHNESS
    rows = [[Cell(cell) for cell in row] for row in text.smoothness(record["runs"])]
    title = "How smoothly the number changes over the embeddings, 95 % intervals of each alone"
    return Table(title, (name, *(f"{head}#" for head in heads)), rows, sortable=False)
