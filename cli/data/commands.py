"""`echolung data …`: what is supported, what is on disk and wrong with it, phantoms."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echolung.cli import options
from echolung.cli.data.audit import audit
from echolung.cli.data.download import download
from echolung.cli.data.index import index
from echolung.cli.data.motion_mask import motion_mask
from echolung.cli.data.pack import pack
from echolung.cli.terminal.console import out, print_json, say, steps
from echolung.errors import InputError
from echolung.text import counted, suggest

if TYPE_CHECKING:
    from pandas import DataFrame

    from echolung.clips.check import Check
    from echolung.datasets import Manifest

app = typer.Typer(
    help="Datasets: what is supported, what is on disk and wrong with it, phantoms.", no_args_is_help=True
)


@app.command("list")
def list_datasets(as_json: options.Json = False) -> None:
    """List the supported datasets, and which of them are under ECHOLUNG_HOME."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    from echolung.datasets import DATASETS
    from echolung.settings import home

    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "organ": dataset.organ,
            "what": dataset.title,
            "tasks": list(dataset.tasks),
            "licence": dataset.licence,
            "here": (home() / "data" / name).exists(),
        }
        for name, dataset in DATASETS.items()
    ]
    if as_json:
        print_json(rows)
        return
    table = Table(title="Datasets", box=SIMPLE_HEAD, padding=(0, 1, 1, 0))
    for column, kept_whole in (("dataset", True), ("organ", True), ("what", False), ("tasks", True), ("at home", True)):
        table.add_column(column, no_wrap=kept_whole)
    for row in rows:
        what, tasks = f"{escape(row['what'])}\n[dim]{escape(row['licence'])}[/]", "\n".join(row["tasks"])
        table.add_row(row["name"], row["organ"] or "any", what, tasks, "yes" if row["here"] else "–")
    out().print(table)
    say(f"At home means under {home() / 'data'}; --data names any other place.")


@app.command("check")
def check(
    dataset: Annotated[str, typer.Argument(help="A name from `echolung data list`, or a CSV.")],
    data: options.Data = None,
    transducer: options.Transducer = None,
    view: options.View = None,
    fold: options.Fold = None,
    cycle: options.Cycle = None,
    kind: options.Kind = None,
    drop_unlabelled: options.DropUnlabelled = False,
    crop: options.Crop = "",
    decoder: options.Decoder = "auto",
    workers: options.Workers = None,
    time_limit: options.TimeLimit = 120.0,
    as_json: options.Json = False,
) -> None:
    """Open every video and say what is there, what cannot be read, and what is there twice."""
    from echolung.clips.check import check_videos
    from echolung.clips.crop import parse_box

    parse_box(crop)
    manifest, _ = options.open_dataset(dataset, data, transducer, kind, drop_unlabelled, view, fold, cycle)
    with steps(f"checking {manifest.name}", "videos", len(manifest.videos)) as bar:
        found = check_videos(
            manifest,
            decoder=decoder,
            box=crop,
            workers=workers,
            time_limit=time_limit,
            advance=lambda: bar.advance(1),
        )
    readable = len(manifest.videos) - len(found.unreadable)
    if as_json:
        print_json(_facts(manifest, found))
    else:
        _show(manifest, found)
    if not readable:
        raise InputError(f"Not one of the {len(manifest.videos)} videos of {manifest.name} can be read.")


@app.command("phantom")
def phantom(
    folder: Annotated[Path | None, typer.Argument(help="Where to; default ECHOLUNG_HOME/data/<layout>.")] = None,
    layout: Annotated[
        str,
        typer.Option(help="phantom-lung, phantom-heart, echonet-dynamic, echonet-pediatric, camus, hmc-qu or lvad."),
    ] = "phantom-lung",
    videos: Annotated[int | None, typer.Option(help="Number of videos; default 24, 34 (lvad).", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Of everything drawn.", min=0)] = 0,
    frames: Annotated[
        int | None, typer.Option(help="Frames a video; default 32 (lung), 64 (heart), 18 (camus), 40 (lvad).", min=1)
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(help="Height and width, pixels; default 128 (lung), 112 (heart), 176 (lvad's sector).", min=32),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Write synthetic lung or heart clips, as a dataset of their own or in the layout of a real one."""
    from echolung.datasets import (
        camus_layout,
        echonet_layout,
        hmc_qu_layout,
        lvad_layout,
        phantom_heart,
        phantom_lung,
    )
    from echolung.settings import home, make_folder

    writers: dict[str, Callable[..., None]] = {
        "phantom-lung": phantom_lung.write,
        "phantom-heart": phantom_heart.write,
        "echonet-dynamic": echonet_layout.write_dynamic,
        "echonet-pediatric": echonet_layout.write_pediatric,
        "camus": camus_layout.write,
        "hmc-qu": hmc_qu_layout.write,
        "lvad": lvad_layout.write,
    }
    if layout not in writers:
        raise InputError(f"--layout {layout} must be one of {', '.join(writers)}.{suggest(layout, writers)}")
    given = {name: value for name, value in (("frames", frames), ("size", size)) if value is not None}
    folder = make_folder(folder or home() / "data" / layout)
    videos = videos or (lvad_layout.VIDEOS if layout == "lvad" else 24)
    with steps("phantoms", "videos", videos) as bar:
        writers[layout](folder, videos=videos, seed=seed, progress=bar.advance, **given)
    say(f"Wrote {counted(videos, 'video')} to {folder}.")
    if as_json:
        print_json({"layout": layout, "folder": str(folder), "videos": videos, "seed": seed})


app.command("download")(download)
app.command("index")(index)
app.command("audit")(audit)
app.command("pack")(pack)
app.command("motion-mask")(motion_mask)


def _facts(manifest: "Manifest", found: "Check") -> dict[str, Any]:
    from echolung.clips.screen import screen_notes

    return {
        "dataset": manifest.name,
        "videos": len(manifest.videos),
        "patients": _count(manifest, "patient"),
        "sources": _count(manifest, "source"),
        "tasks": {name: _per_class(manifest, name) if task.classes else {} for name, task in manifest.tasks.items()},
        "video_facts": _records(found.videos[["video_id", "frames", "height", "width", "fps"]]),
        "unreadable": found.unreadable,
        "duplicates": found.duplicates,
        "same_frames": found.same_frames,
        "notes": [*manifest.notes, *screen_notes(found.screens)],
    }


def _records(table: "DataFrame") -> list[dict[str, Any]]:
    """Return the rows as plain values; NaN, of a video that cannot be read, becomes null."""
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


def _show(manifest: "Manifest", found: "Check") -> None:
    from rich.markup import escape
    from rich.table import Table

    from echolung.clips.screen import screen_notes

    console = out()
    patients, sources = _count(manifest, "patient"), _count(manifest, "source")
    there = ((len(manifest.videos), "video"), (patients, "patient"), (sources, "source"))
    sizes = [f"{number or 'unknown'} {what}{'' if number == 1 else 's'}" for number, what in there]
    console.print(f"[bold]{escape(manifest.name)}[/]: {', '.join(sizes)}")
    for name, task in manifest.tasks.items():
        if not task.classes:
            values = manifest.videos[task.column].astype(float)
            console.print(f"  {escape(name)}: {values.notna().sum()} videos, {values.min():g} to {values.max():g}")
            continue
        table = Table(title=f"{escape(name)}{' (ordinal)' if task.ordinal else ''}", title_justify="left")
        for column in ("class", "videos", "patients", "sources"):
            table.add_column(column, justify="left" if column == "class" else "right")
        for label, counts in _per_class(manifest, name).items():
            table.add_row(
                escape(label),
                *(str(counts[unit]) if counts[unit] else "–" for unit in ("videos", "patients", "sources")),
            )
        console.print(table)
    videos = found.videos.dropna(subset=["frames"])
    if len(videos):
        fps = videos["fps"][videos["fps"] > 0]
        count = fps.round(1).nunique()
        rates = f"{count} frame rates from {fps.min():.3g} to {fps.max():.3g}" if count else "no clock"
        if count == 1:
            rates = f"{fps.median():.3g} frames a second"
        console.print(
            f"Frames {videos['frames'].min():.0f} to {videos['frames'].max():.0f} (median {videos['frames'].median():.0f}), "
            f"width {videos['width'].min():.0f} to {videos['width'].max():.0f} px, {rates}"
        )
    for note in (*manifest.notes, *screen_notes(found.screens)):
        console.print(f"[yellow]note[/] {escape(note)}")
    for name, reason in found.unreadable.items():
        console.print(f"[red]unreadable[/] {escape(name)}: {escape(reason)}")
    for title, groups in (("equal files", found.duplicates), ("equal frames in different files", found.same_frames)):
        for names in groups:
            console.print(f"[yellow]{title}[/] {escape(', '.join(names))}")
    if not (found.unreadable or found.duplicates or found.same_frames):
        console.print("[green]Every video can be read, and none is there twice.[/]")


def _count(manifest: "Manifest", column: str) -> int:
    return len(set(manifest.videos[column].fillna("").astype(str)) - {""})


def _per_class(manifest: "Manifest", task: str) -> dict[str, dict[str, int]]:
    column = manifest.videos[manifest.tasks[task].column].astype(str)
    counts = Counter(column)
    return {
        label: {
            "videos": counts[label],
            **{
                f"{unit}s": len(set(manifest.videos[unit].fillna("").astype(str)[column == label]) - {""})
                for unit in ("patient", "source")
            },
        }
        for label in manifest.tasks[task].classes
    }
