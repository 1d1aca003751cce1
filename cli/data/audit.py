"""`echolung data audit`: what the data give away before any model looks at them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echolung.cli import options
from echolung.cli.terminal.console import out, print_json, say, steps
from echolung.errors import InputError
from echolung.text import counted, listed

if TYPE_CHECKING:
    from rich.console import Console

    from echolung.clips.check import Check
    from echolung.datasets import Manifest
    from echolung.evaluation.checks.finding import Finding
    from echolung.evaluation.checks.subject import Subject

Mute = Annotated[
    list[str] | None,
    typer.Option("--mute", metavar="CODE", help="A check not to be shown, such as EL101; repeatable (docs/checks.md)."),
]


def audit(
    dataset: Annotated[str, typer.Argument(help="A name from `echolung data list`, or a CSV.")],
    data: options.Data = None,
    task: Annotated[str | None, typer.Option(help="The labels to look at; default the dataset's first task.")] = None,
    mute: Mute = None,
    store: Annotated[
        str | None, typer.Option(help="Compare tokens of this store of the same videos, too.", metavar="STORE")
    ] = None,
    crop: options.Crop = "",
    transducer: options.Transducer = None,
    view: options.View = None,
    fold: options.Fold = None,
    cycle: options.Cycle = None,
    kind: options.Kind = None,
    drop_unlabelled: options.DropUnlabelled = False,
    decoder: options.Decoder = "auto",
    workers: options.Workers = None,
    time_limit: options.TimeLimit = 120.0,
    as_json: options.Json = False,
) -> None:
    """Open every video and say what the data give away: shared patients, lonely classes, copies, telling file facts."""
    from echolung.clips.check import check_videos
    from echolung.clips.crop import parse_box
    from echolung.evaluation.checks.codes import check_codes
    from echolung.evaluation.checks.data import audit as run_checks

    check_codes(mute or [])
    parse_box(crop)
    manifest, _ = options.open_dataset(dataset, data, transducer, kind, drop_unlabelled, view, fold, cycle)
    name, _ = manifest.task(task)
    with steps(f"reading {manifest.name}", "videos", len(manifest.videos)) as bar:
        found = check_videos(
            manifest, box=crop, decoder=decoder, workers=workers, time_limit=time_limit, advance=lambda: bar.advance(1)
        )
    if len(found.unreadable) == len(manifest.videos):
        raise InputError(f"Not one of the {len(manifest.videos)} videos of {manifest.name} can be read.")
    subject = _subject(manifest, name, found, store)
    findings = run_checks(subject, mute or [])
    if as_json:
        facts = {"dataset": manifest.name, "task": name, "videos": len(subject.videos), "unreadable": found.unreadable}
        print_json({**facts, "findings": [finding.to_json() for finding in findings]})
    else:
        _show(manifest.name, name, subject, findings, found.unreadable)


def _subject(manifest: "Manifest", name: str, found: "Check", store: str | None) -> "Subject":
    """Return the readable, labelled videos with what opening them showed, and the tokens of a store."""
    from echolung.evaluation.checks.subject import Subject, labelled, mean_tokens, present

    task = manifest.tasks[name]
    videos = labelled(found.videos[~found.videos["video_id"].isin(found.unreadable)], task)
    if videos.empty:
        raise InputError(f"No readable video of {manifest.name} has a label of the task {name}.")
    known = set(videos["video_id"])
    equal, same = (
        [kept for names in groups if len(kept := [name for name in names if name in known]) > 1]
        for groups in (found.duplicates, found.same_frames)
    )
    tokens: dict[str, Any] = {}
    if store is not None:
        from echolung.cache import TokenStore
        from echolung.cli.stores import find_store

        tokens = mean_tokens(TokenStore.open(find_store(store)), videos)
        if not tokens:
            raise InputError(f"{store} holds none of these {len(videos)} videos. Name a store of {manifest.name}.")
    pictures = {video: frames for video, frames in found.pictures.items() if video in known}
    return Subject(present(task, videos), videos, None, pictures, tokens, equal, same)


# ---- showing -----------------------------------------------------------------------------------------------------------


def _show(
    dataset: str, task: str, subject: "Subject", findings: Sequence["Finding"], unreadable: dict[str, str]
) -> None:
    from rich.markup import escape

    console = out()
    patients, sources = (len(set(subject.names(column)) - {""}) for column in ("patient", "source"))
    console.print(
        f"[bold]{escape(dataset)}[/], task {escape(task)}: {counted(len(subject.videos), 'video')}, "
        f"{patients or 'unknown'} patients, {sources or 'unknown'} sources",
        highlight=False,
    )
    if unreadable:
        console.print(f"[red]unreadable[/] ({len(unreadable)}): {escape(listed(unreadable, 5))}", highlight=False)
    show_findings(console, findings)
    count = {status: sum(finding.status == status for finding in findings) for status in ("warning", "muted")}
    muted = f", {count['muted']} muted" if count["muted"] else ""
    say(f"{counted(count['warning'], 'warning')}{muted}. docs/checks.md says more of each; --mute CODE leaves one out.")


def show_findings(console: "Console", findings: Sequence["Finding"]) -> None:
    """Print findings: warnings as paragraphs, the rest a dim line each; muted ones not at all."""
    from rich.markup import escape
    from rich.padding import Padding
    from rich.table import Table

    for finding in findings:
        if finding.status == "muted":
            continue
        if finding.status != "warning":
            mark, line = "✓" if finding.status == "fine" else "–", Table.grid(padding=(0, 1))
            line.add_column(no_wrap=True)
            line.add_row(f"[dim]{mark} {finding.code}[/]", f"[dim]{escape(finding.title)}: {escape(finding.found)}[/]")
            console.print(line, highlight=False)
            continue
        console.print(f"[yellow]! {finding.code}[/]  [bold]{escape(finding.title)}[/]", highlight=False)
        console.print(Padding(escape(finding.found), (0, 0, 0, 9), expand=False), highlight=False)
        if len(rows := {level: s for level, s in finding.scores.items() if isinstance(s, dict)}) > 1:
            console.print(Padding(_levels(rows), (0, 0, 0, 9), expand=False))
        console.print(Padding(f"[dim]{escape(finding.why)}[/]", (0, 0, 0, 9), expand=False), highlight=False)
        console.print(Padding(f"→ {escape(finding.advice)}", (0, 0, 0, 9), expand=False), highlight=False)


def _levels(rows: dict[str, dict[str, float]]) -> Any:
    """Return a table of a forest's scores by what folds keep together."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from echolung.evaluation.metrics import LABELS

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("folds by")
    names = list(next(iter(rows.values())))
    for name in names:
        table.add_column(LABELS.get(name, name), justify="right")
    for level, scores in rows.items():
        shares = "accuracy" in scores
        table.add_row(level, *(f"{100 * scores[n]:.1f} %" if shares else f"{scores[n]:.3g}" for n in names))
    return table
