"""The whole page: figures drawn, sections put in the order a sceptical reader wants, one file written."""

import re
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from echolung.cache import TokenStore
from echolung.errors import InputError
from echolung.evaluation.result import is_optimistic
from echolung.report.html import about, results, who
from echolung.report.html.headline import headline
from echolung.report.html.images import draw
from echolung.report.html.section import Material
from echolung.report.run import Run, check_videos
from echolung.settings import make_folder

SECTIONS = (
    results.folds,
    results.confusion,
    results.scatter,
    results.curves,
    results.reliability,
    results.training,
    results.twins,
    results.inner_outer,
    who.groups,
    who.mistakes,
    who.embedding,
    who.attention,
    who.samples,
    about.study,
    about.left_out,
    about.protocol,
    about.rerun,
)


def write_report(run: Run, store: TokenStore | None = None, path: Path | None = None) -> Path:
    """Write a run's report and return its path: one HTML file that needs nothing else, figures as PNG beside it.

    Args:
        run: the run.
        store: what it was found in, for all that shows clips or embeddings; None: these parts are left out, and it says so.
        path: where to; default `report.html` in the run's folder, and `figures/`. Another page has its figures in a folder
            of its own name, `<name>-figures/`.

    Raises:
        InputError: nothing can be written there, or the run has predictions of videos that the store has not.
    """
    if store is not None:
        check_videos(run, store)
    path = path or run.folder / "report.html"
    own = path == run.folder / "report.html"
    drawn = draw(run, store, make_folder(path.parent) / ("figures" if own else f"{path.stem}-figures"))
    text = render(Material(run, store, drawn))
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(text, "utf-8")
        partial.replace(path)
    except OSError as error:
        raise InputError(
            f"The report cannot be written to {path}: {error.strerror}. Name another place with --out."
        ) from error
    return path


def prose(text: str) -> Markup:
    """Return a sentence with what stands in `backquotes` as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def render(of: Material) -> str:
    """Return the page as HTML."""
    pages = Environment(
        loader=PackageLoader("echolung.report.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters["prose"] = prose
    findings = of.run.findings
    return pages.get_template("report.html").render(
        head=headline(of.run),
        notes=of.run.result.notes,
        optimistic=is_optimistic(of.run.result.settings),
        warnings=[finding for finding in findings if finding.status == "warning"],
        others=[finding for finding in findings if finding.status != "warning"],
        checked=bool(findings),
        sections=[section for make in SECTIONS if not (section := make(of)).empty],
        version=of.run.record.get("versions", {}).get("echolung", ""),
        at=of.run.record.get("at", ""),
    )
