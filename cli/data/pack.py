"""`echolung data pack`: the videos of a pool, decoded once, in one file that pretraining reads fast."""

import time
from pathlib import Path
from typing import Annotated

import typer

from echolung.cli import options
from echolung.cli.terminal.console import out as console
from echolung.cli.terminal.console import print_json, say, steps
from echolung.errors import InputError
from echolung.text import counted

Dataset = Annotated[
    str, typer.Option("--dataset", metavar="NAME[:WEIGHT],…", help="Names from `echolung data list`, or CSVs.")
]
AllSplits = Annotated[bool, typer.Option("--all-splits", help="Take the videos for validation and test, too.")]


def pack(
    out: Annotated[Path, typer.Argument(metavar="OUT.h5", help="The file to write.")],
    dataset: Dataset,
    data: options.Data = None,
    view: options.View = None,
    fold: options.Fold = None,
    all_splits: AllSplits = False,
    size: Annotated[
        int | None, typer.Option(help="Reduce the short side to this many pixels; default: as stored.", min=16)
    ] = None,
    crop: options.Crop = "",
    decoder: options.Decoder = "auto",
    workers: options.Workers = None,
    time_limit: options.TimeLimit = 120.0,
    as_json: options.Json = False,
) -> None:
    """Decode every video once into one HDF5 file of grey frames, for `echolung pretrain --pack`."""
    from rich.markup import escape

    from echolung.cli.pretraining.pools import Sources, open_pool
    from echolung.clips import packed
    from echolung.clips.crop import parse_box
    from echolung.settings import make_folder
    from echolung.text import in_bytes

    if out.exists():
        raise InputError(f"There is something at {out} already. Remove it, or name another file.")
    parse_box(crop)
    sources = Sources(dataset, data, view, fold)
    sources.check()
    pool = open_pool(sources, all_splits)
    for line in pool.describe():
        say(line)
    make_folder(out.absolute().parent)
    began, stored = time.monotonic(), 0
    with steps("packing", "videos", len(pool.videos)) as bar:

        def advance(size: int) -> None:
            nonlocal stored
            stored += size
            bar.advance(1)

        made = packed.pack(
            pool.videos,
            out,
            size=size,
            box=crop,
            decoder=decoder,
            workers=workers,
            time_limit=time_limit,
            advance=advance,
        )
    seconds = time.monotonic() - began
    videos = made.videos[made.videos["reason"] == ""]
    broken = made.videos[made.videos["reason"] != ""]
    unreadable = dict(zip(broken["dataset"] + "/" + broken["video_id"], broken["reason"], strict=True))
    if as_json:
        print_json({"pack": str(out), "videos": len(videos), "bytes": out.stat().st_size, "unreadable": unreadable})
        return
    console().print(
        f"Packed {counted(len(videos), 'video')}, {int(videos['frames'].sum()):,} frames, {in_bytes(stored)}, in {seconds:.0f} s "
        f"({len(made.videos) / seconds:.1f} videos/s, {in_bytes(stored / seconds)}/s): {escape(str(out))}",
        soft_wrap=True,
    )
    for name, reason in unreadable.items():
        console().print(f"[red]unreadable[/] {escape(name)}: {escape(reason)}", soft_wrap=True)
