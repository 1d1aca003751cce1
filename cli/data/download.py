"""`echolung data download`: a dataset into ECHOLUNG_HOME, or what to do where its makers give it out themselves."""

import os
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echolung.cli import options
from echolung.cli.terminal.console import out, print_json, say
from echolung.cli.terminal.transfer import transfer
from echolung.errors import InputError, RunError
from echolung.text import counted, in_bytes, listed, suggest

if TYPE_CHECKING:
    from echolung.downloads.data import Source
    from echolung.downloads.fetch import Fetched
    from echolung.downloads.remote import Remote

BEHIND_AGREEMENT = 2
"""Exit code where there is nothing to download: the text says what to do."""
FAILED = 1
REASONS = 8
"""Reasons that are shown, each with the files that failed for it."""


def download(
    dataset: Annotated[str, typer.Argument(help="pocus or covid-blues; of others, it says how to get them.")],
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FOLDER", help="Where to; default ECHOLUNG_HOME/data/<name>.")
    ] = None,
    parallel: Annotated[int, typer.Option(help="Files at a time.", min=1, max=32)] = 4,
    repair: Annotated[
        bool, typer.Option("--repair", help="Set files that are there but wrong aside (.wrong), and fetch them anew.")
    ] = False,
    urls: Annotated[
        bool, typer.Option("--urls", help="Only print the files' URLs, to make a mirror with wget.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before downloading.")] = False,
    as_json: options.Json = False,
) -> None:
    """Download a dataset, or say how to get one that lies behind an agreement; run again, it goes on."""
    from echolung.downloads.data import SOURCES, remotes
    from echolung.settings import home, make_folder

    if dataset not in SOURCES:
        raise InputError(_unknown(dataset, SOURCES))
    source = SOURCES[dataset]
    folder = (to or home() / "data" / dataset).expanduser().absolute()
    if not source.places:
        _explain(dataset, source, folder, to, as_json)
        raise typer.Exit(BEHIND_AGREEMENT)
    files = remotes(dataset)
    if urls:
        out().print("\n".join(file.urls[0] for file in files), highlight=False, markup=False, soft_wrap=True)
        return
    size, said_size = _size([file for file in files if file.path not in source.perhaps])
    say(f"{source.title}, {source.home}")
    say(f"Licence: {source.licence}")
    say(f"Cite: {source.citation}")
    say(f"{counted(len(files), 'file')}, {said_size}, to {folder}")
    asking = sys.stdin.isatty() and sys.stderr.isatty() and not (yes or as_json)
    if asking and not typer.confirm("Download?", default=True, err=True):
        raise typer.Exit(FAILED)
    make_folder(folder)
    result = _fetch(source, files, folder, parallel, repair, size)
    saved = bool(result.present or result.downloaded) and _write_about(source, folder)
    following = f"echolung data check {dataset}" + (f" --data {shlex.quote(str(folder))}" if to else "")
    if as_json:
        print_json(_facts(dataset, source, folder, result, following))
    else:
        _show(source, folder, result, following, saved)
    if result.failed:
        raise typer.Exit(FAILED)


@dataclass
class _Result:
    """What came of a download.

    Attributes:
        present, downloaded: paths.
        failed: path -> why.
        unverified: path -> sha256 of files without a digest kept here.
        absent: files that may be missing, and are.
        gone: of the failed, those that every place says it does not have.
    """

    present: list[str] = field(default_factory=list)
    downloaded: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    unverified: dict[str, str] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)

    def add(self, found: "Fetched", perhaps: frozenset[str] = frozenset()) -> None:
        """Take in what `fetch` found; of files that may be missing, absence is no failure."""
        self.present += found.present
        self.downloaded += found.downloaded
        self.unverified |= found.unverified
        self.absent += [path for path in found.absent if path in perhaps]
        self.gone += [path for path in found.absent if path not in perhaps]
        self.failed |= {path: why for path, why in found.failed.items() if path not in self.absent}


def _fetch(source: "Source", files: "list[Remote]", folder: Path, parallel: int, repair: bool, total: int) -> _Result:
    """Bring the files that are needed, then those that may be missing."""
    from echolung.downloads.fetch import fetch

    result = _Result()
    with transfer("downloading", total) as bar:
        for optional in (False, True):
            part = [file for file in files if (file.path in source.perhaps) == optional]
            try:
                found = fetch(part, folder, parallel=parallel, advance=bar.advance, log=bar.log, repair=repair)
            except (InputError, RunError):
                if not optional:
                    raise
                # No way out, and all that is needed is there.
                result.absent += [file.path for file in part if not (folder / file.path).is_file()]
            else:
                result.add(found, source.perhaps)
    return result


def _size(files: "list[Remote]") -> tuple[int, str]:
    """Return the bytes of all files and words for them; files of unknown size count as the others' mean."""
    known = [file.size for file in files if file.size]
    total = round(sum(known) / len(known) * len(files)) if known else 0
    return total, in_bytes(total) if len(known) > 0.9 * len(files) else f"about {in_bytes(total)}"


def _unknown(name: str, sources: "dict[str, Source]") -> str:
    if name in ("phantom-lung", "phantom-heart"):
        return f"{name} is made, not downloaded: echolung data phantom --layout {name}"
    if name == "table":
        return "table is the name of your own videos: there is nothing to download. See docs/datasets/table.md."
    return f"There is no dataset {name!r} to download; there are {', '.join(sources)}.{suggest(name, sources)}"


def _write_about(source: "Source", folder: Path) -> bool:
    """Save licence and citation beside the data; leave files of these names that say something else, and return False."""
    about = (
        f"{source.title}\n{source.home}\n\nLicence\n{source.licence}\n\n"
        f"Cite\n{source.citation}\n(citation.bib has it for LaTeX)\n"
    )
    left = []
    for name, text in (("ABOUT.txt", about), ("citation.bib", source.bibtex)):
        path, content = folder / name, text.encode("utf-8")
        if not path.exists():
            path.write_bytes(content)
        elif not path.is_file() or path.read_bytes() != content:
            left.append(name)  # somebody's own: the folder may be any
    if left:
        say(f"Left as found in {folder}, as it says something else than licence and citation: {listed(left)}.")
    return not left


def _explain(name: str, source: "Source", folder: Path, to: Path | None, as_json: bool) -> None:
    """Say how to get a dataset that its makers give out themselves."""
    check = f"echolung data check {name}" + (f" --data {shlex.quote(str(folder))}" if to else "")
    if as_json:
        facts = {"title": source.title, "home": source.home, "licence": source.licence, "citation": source.citation}
        print_json(
            {"dataset": name, "agreement": True, **facts, "steps": source.steps, "folder": str(folder), "then": check}
        )
        return
    steps = [
        *source.steps,
        f"Put it at {folder}, or anywhere else and name the place with --data. It then looks like this, and a folder "
        "or two more around it do no harm:",
    ]
    console = out()
    how: dict[str, Any] = {"highlight": False, "markup": False, "soft_wrap": not console.is_terminal}
    console.print(
        f"[bold]{source.title}[/] is given out by its makers, once you have agreed to their terms: {source.home}"
    )
    for number, step in enumerate(steps, 1):
        console.print(f"  {number}. {step}", **how)
    for line in source.layout.splitlines():
        console.print(f"       {line}", **how)
    console.print(f"  {len(steps) + 1}. {check}\n", **how)
    console.print(f"Licence: {source.licence}\nCite: {source.citation}", **how)
    say(f"To try things out before: echolung data phantom --layout {name}")


def _facts(name: str, source: "Source", folder: Path, result: _Result, following: str) -> dict[str, Any]:
    return {
        "dataset": name,
        "folder": str(folder),
        "licence": source.licence,
        "citation": source.citation,
        "downloaded": result.downloaded,
        "present": result.present,
        "not_checked": result.unverified,
        "not_published": result.absent,
        "failed": result.failed,
        "then": following,
    }


def _show(source: "Source", folder: Path, result: _Result, following: str, saved: bool) -> None:
    from rich.markup import escape

    from echolung.downloads.fetch import RECORD

    console = out()

    def line(start: str, text: str) -> None:
        console.print(start + escape(text), highlight=False, soft_wrap=not console.is_terminal)

    line(
        f"[bold]{source.title}[/]: ",
        f"{len(result.downloaded)} downloaded, {len(result.present)} were there, in {folder}",
    )
    if result.unverified:
        line(
            "[yellow]Not checked[/] ",
            f"against a digest that echolung keeps, as it has none: {listed(result.unverified, 3)}. Their digests are in "
            f"{RECORD} there, and compared from now on.",
        )
    if result.absent:
        line("[yellow]Not had[/], ", f"and not needed: {listed(result.absent, 4)}")
    reasons: dict[str, list[str]] = {}
    for path, why in result.failed.items():
        reasons.setdefault(why, []).append(path)
    for why, paths in list(reasons.items())[:REASONS]:
        line("[red]Failed[/] ", f"{listed(paths, 3)}: {why}")
    if len(reasons) > REASONS:
        line("", f"… and {len(reasons) - REASONS} reasons more; --json has them all.")
    if result.failed:
        line("", f"{counted(len(result.failed), 'file')} missing or wrong. {_remedy(result)}")
        line("", f"What is there can be used: {following}")
    else:
        terms = "Licence and citation are in ABOUT.txt and citation.bib. " if saved else ""
        line("", f"{terms}Next: {following}")


def _remedy(result: _Result) -> str:
    """Say what may help with the files that failed."""
    if len(result.gone) == len(result.failed):
        mirror = os.environ.get("ECHOLUNG_MIRROR", "").strip()
        elsewhere = (
            f"Complete the mirror {mirror}, or unset ECHOLUNG_MIRROR." if mirror else "They were moved or withdrawn."
        )
        return f"None is where it should be, so that running this again will not help. {elsewhere}"
    return (
        "Run the same command again: it fetches only what is missing. --repair sets files that are there but wrong aside, "
        "and fetches them anew."
    )
