"""`echolung extract`: dataset × encoder -> token store."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echolung.cli import options
from echolung.cli.terminal.console import detail, out, print_json, say, steps
from echolung.errors import InputError
from echolung.text import in_bytes

if TYPE_CHECKING:
    from echolung.cache import TokenStore
    from echolung.clips import ClipPlan
    from echolung.datasets import Manifest
    from echolung.extraction import ExtractionPlan


WINDOWS, MACHINE, STORAGE = "What is cut out of every video", "How it is computed", "How it is stored"


def extract(
    dataset: Annotated[str, typer.Option(help="A name from `echolung data list`, or a CSV.")],
    data: options.Data = None,
    encoder: Annotated[
        str | None,
        typer.Option(help="random:vit_small, a checkpoint, vjepa2-vitl, timm:NAME@FILE, python:module:Class, …"),
    ] = None,
    segments: Annotated[
        int | None, typer.Option(help="Windows a video, evenly spaced; default 2.", rich_help_panel=WINDOWS)
    ] = None,
    frames: Annotated[int, typer.Option(help="Frames a window.", rich_help_panel=WINDOWS)] = 16,
    stride: Annotated[int, typer.Option(help="A window takes every n-th source frame.", rich_help_panel=WINDOWS)] = 1,
    fps: Annotated[
        float | None,
        typer.Option(help="Count in time, not frames: frames a second of a window.", rich_help_panel=WINDOWS),
    ] = None,
    size: Annotated[int, typer.Option(help="Height and width of the crop, pixels.", rich_help_panel=WINDOWS)] = 224,
    views: Annotated[
        int, typer.Option(help="Random views beside the fixed one, for training.", rich_help_panel=WINDOWS)
    ] = 0,
    crop: options.Crop = "",
    square: Annotated[
        str, typer.Option(help="centre: its central 7/8; whole: all of it, as CoReEcho.", rich_help_panel=WINDOWS)
    ] = "centre",
    pad: Annotated[
        str, typer.Option(help="Past the video's end: repeat, loop, black, grey.", rich_help_panel=WINDOWS)
    ] = "repeat",
    window: Annotated[
        str, typer.Option(help="first: one window, from the first frame on.", rich_help_panel=WINDOWS)
    ] = "even",
    starts: Annotated[
        Path | None,
        typer.Option(help="Stored clip starts: .csv, .json, or CoReEcho's .pkl.", rich_help_panel=WINDOWS),
    ] = None,
    write_starts: Annotated[
        Path | None,
        typer.Option(help="Write where the clips begin, a .csv for --starts.", rich_help_panel=WINDOWS),
    ] = None,
    motion_mask: Annotated[
        str | None,
        typer.Option(help="Black out what does not move: adaptive, quantile, published.", rich_help_panel=WINDOWS),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(help="Folder or URL (s3://…); default in ECHOLUNG_HOME/stores.", rich_help_panel=STORAGE),
    ] = None,
    tokens: Annotated[
        str, typer.Option(help="all, or none: pooled rows only: no attentive probes.", rich_help_panel=STORAGE)
    ] = "all",
    token_pool: Annotated[
        int, typer.Option(help="2: mean over 2 x 2 neighbours, 4 times fewer.", rich_help_panel=STORAGE)
    ] = 1,
    shard: Annotated[
        int | None,
        typer.Option(help="Clips a file (whole batches); default 1.", rich_help_panel=STORAGE, min=1),
    ] = None,
    device: Annotated[
        str, typer.Option(help="auto (a GPU if there is one), cpu, cuda.", rich_help_panel=MACHINE)
    ] = "auto",
    precision: Annotated[
        str, typer.Option(help="auto (bfloat16 on a GPU), float32, bfloat16.", rich_help_panel=MACHINE)
    ] = "auto",
    batch: Annotated[
        int | None, typer.Option(help="Clips at once; default what fits.", rich_help_panel=MACHINE, min=1)
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Do one of N shares: array jobs. torchrun does it.", rich_help_panel=MACHINE),
    ] = None,
    no_preview: Annotated[
        bool,
        typer.Option("--no-preview", help="Keep no grey frames: data that must not leave.", rich_help_panel=STORAGE),
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="An unreadable video ends the run.")] = False,
    rehash: Annotated[bool, typer.Option("--rehash", help="Compare sources by content, not size and time.")] = False,
    retry: Annotated[
        bool, typer.Option("--retry", help="Try unreadable videos again (a crash or time-out is anyway).")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say clips, bytes and expected time; write nothing.")
    ] = False,
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
    """Encode every clip of a dataset once, into a token store. Run again, it does only what is missing."""
    from echolung.cli.dry_run import show_estimate
    from echolung.clips.motion_mask import MotionMask
    from echolung.clips.starts import write_starts as write
    from echolung.encoders.digests import unremembered
    from echolung.encoders.identity import default_encoder, identify
    from echolung.encoders.stand_in import identify_or_stand_in
    from echolung.extraction import choose_device, choose_part, make_plan
    from echolung.extraction.sources import finished_store
    from echolung.extraction.windows import describe_padding, stored_starts

    share = choose_part(part, os.environ)
    manifest, key_options = options.open_dataset(dataset, data, transducer, kind, drop_unlabelled, view, fold, cycle)
    for note in manifest.notes:
        say(f"note: {note}")
    if encoder is None:
        encoder = default_encoder()
        if encoder is None:
            raise InputError(
                "No --encoder was named and no checkpoint is under ECHOLUNG_HOME/checkpoints. Untrained weights, for a "
                "baseline or a try: --encoder random:vit_small."
            )
        say(f"Encoder: {encoder} (the newest checkpoint)")
    clips, manifest = plan_clips(
        manifest, starts, segments, frames=frames, stride=stride, fps=fps, size=size, views=views, crop=square, box=crop,
        pad=pad, window=window, mask=MotionMask.of(motion_mask) if motion_mask else None,
    )  # fmt: skip
    if dry_run:
        with unremembered():
            identity, absent = identify_or_stand_in(encoder)
    else:
        identity = identify(encoder)
    plan = make_plan(
        manifest,
        identity,
        clips,
        decoder=decoder,
        precision=precision,
        options=key_options,
        path=store,
        tokens=tokens,
        token_pool=token_pool,
    )
    device = choose_device(device, os.environ)
    if dry_run:
        how = {"device": device, "batch": batch, "shard": shard, "part": share, "workers": workers, "retry": retry}
        show_estimate(plan, as_json, absent, preview=not no_preview, **how)
        return
    if (done := finished_store(plan, rehash, retry, strict)) is not None:
        say(f"{done.path.name} is complete; nothing to do.")
    else:
        done = run_extraction(
            plan,
            device=device,
            batch=batch,
            shard=shard,
            part=share,
            workers=workers,
            preview=not no_preview,
            strict=strict,
            rehash=rehash,
            retry=retry,
            time_limit=time_limit,
        )
    if done.finished:
        if (padding := describe_padding(done, clips)) is not None:
            say(f"note: {padding}")
        if write_starts is not None:
            write(write_starts, stored_starts(done))
            say(f"Clip starts: {write_starts}")
    show_store(done, as_json)


def plan_clips(
    manifest: "Manifest", starts: Path | None, segments: int | None, **windows: Any
) -> "tuple[ClipPlan, Manifest]":
    """Return the plan of the clips, and the manifest with the clip starts that a file holds; `windows` goes to `ClipPlan`."""
    from echolung.clips.plan import ClipPlan
    from echolung.clips.starts import COLUMN, read_starts, starts_column

    if starts is None:
        return ClipPlan(segments=ClipPlan.segments if segments is None else segments, **windows), manifest
    found = read_starts(starts)
    if segments not in (None, found.segments):
        raise InputError(
            f"--segments is {segments}, and {starts.name} has {found.segments} clip starts a video. Leave --segments out."
        )
    if windows["window"] != "even":
        raise InputError(
            f"--starts and --window {windows['window']} both say where clips begin. Leave one of them out."
        )
    column = starts_column(found, manifest.videos)
    if without := column.count(""):
        say(
            f"note: {without:,} of {len(column):,} videos have no clip start in {starts.name}; their {found.segments} clips "
            "are evenly spaced."
        )
    plan = ClipPlan(segments=found.segments, starts=found.digest, **windows)
    return plan, replace(manifest, videos=manifest.videos.assign(**{COLUMN: column}))


def run_extraction(plan: "ExtractionPlan", **how: Any) -> "TokenStore":
    """Extract with progress on the terminal, and say where the time went; `how` goes to `echolung.extraction.run.extract`."""
    from echolung.cli.dry_run import watched
    from echolung.clips.screen import screen_notes
    from echolung.extraction.run import extract

    detail(f"Key of the store: {json.dumps(plan.key, default=str)}")
    detail(f"Device: {how.get('device', 'auto')}, precision: {plan.precision}, decoder: {plan.decoder}")
    with steps(f"extracting {plan.manifest.name}", "clips") as bar:
        progress = watched(bar, str(how.get("device", "auto")))
        store = extract(plan, progress=progress, **how)
    for note in screen_notes(progress.screens):
        say(f"note: {note}")
    seconds = progress.seconds
    rest = seconds["all"] - seconds["decode"] - seconds["encode"]
    say(
        f"{seconds['all']:.0f} s: {seconds['encode']:.0f} s in the encoder, {seconds['decode']:.0f} s waiting for frames, "
        f"{rest:.0f} s for the rest (start-up included)."
    )
    return store


def show_store(store: "TokenStore", as_json: bool) -> None:
    """Print what a store holds: a finished one, or one that other parts still write."""
    from rich.markup import escape

    tokens, dim = store.token_shape
    failures = store.failures
    facts: dict[str, Any] = {
        "store": str(store.path),
        "clips": store.clips,
        "complete": int(store.complete.sum()),
        "finished": store.finished,
        "tokens": tokens,
        "dim": dim,
        "grid": list(store.grid),
        "bytes": store.size if store.finished else None,  # others are moving files while it is not
        "unreadable": failures,
    }
    if as_json:
        print_json(facts)
        return
    t, h, w = store.grid
    what = f"{tokens} tokens ({t} × {h} × {w})" if tokens else "the mean over tokens"
    size = f", {in_bytes(facts['bytes'])} on disk" if store.finished else ""
    out().print(
        f"[bold]{escape(store.path.name)}[/]\n{facts['complete']} of {store.clips} clips, {what} of {dim} numbers each{size}"
    )
    for name, reason in failures.items():
        out().print(f"[red]unreadable[/] {escape(name)}: {escape(reason)}")
