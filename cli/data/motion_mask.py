"""`echolung data motion-mask`: every video with all that does not move black."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from echolung.cli import options
from echolung.cli.terminal.console import out as console
from echolung.cli.terminal.console import print_json, say, steps
from echolung.text import counted, listed, quoted

if TYPE_CHECKING:
    from echolung.clips.motion_dataset import Masked

Method = Annotated[str, typer.Option(help="adaptive, quantile, or published: 3.5 pixels a frame.")]
Threshold = Annotated[
    float | None, typer.Option(help="published: pixels a frame; adaptive: diagonals a second, in place of Otsu's.")
]


def motion_mask(
    dataset: Annotated[str, typer.Option(help="A name from `echolung data list`, or a CSV.")],
    out: Annotated[Path, typer.Option(help="Folder for the masked videos and their table.")],
    data: options.Data = None,
    method: Method = "adaptive",
    threshold: Threshold = None,
    quantile: Annotated[float | None, typer.Option(help="quantile: share of the picture that is still; 0.8.")] = None,
    form: Annotated[str, typer.Option("--format", help="png: folders of images; ffv1: lossless videos.")] = "png",
    pictures: Annotated[int, typer.Option(help="Before, flow, hull, after: of the first N videos.", min=0)] = 0,
    transducer: options.Transducer = None,
    view: options.View = None,
    fold: options.Fold = None,
    cycle: options.Cycle = None,
    kind: options.Kind = None,
    drop_unlabelled: options.DropUnlabelled = False,
    decoder: options.Decoder = "auto",
    workers: options.Workers = None,
    time_limit: options.TimeLimit = 600.0,
    as_json: options.Json = False,
) -> None:
    """Black out what does not move in every video, burned-in text with it. Run again, it does only what is missing."""
    from echolung.clips.motion_dataset import TABLE, mask_videos
    from echolung.clips.motion_mask import MotionMask

    settings = MotionMask.of(method, threshold, quantile)
    manifest, _ = options.open_dataset(dataset, data, transducer, kind, drop_unlabelled, view, fold, cycle)
    for note in manifest.notes:
        say(f"note: {note}")
    with steps(f"masking {manifest.name}", "videos", len(manifest.videos)) as bar:
        done = mask_videos(
            manifest,
            out,
            settings,
            form=form,
            pictures=pictures,
            decoder=decoder,
            workers=workers,
            time_limit=time_limit,
            start=bar.start,
            advance=lambda: bar.advance(1),
        )
    if as_json:
        facts = done.facts.astype(object).where(done.facts.notna(), None).to_dict("records")
        following = ["--dataset", str(out / TABLE), *" ".join(done.options).split()]
        print_json({"table": str(out / TABLE), "new": done.new, "videos": facts, "unreadable": done.unreadable,
                    "notes": list(done.notes), "extract": following})  # fmt: skip
    else:
        _show(done, out / TABLE)


def _show(done: "Masked", table: Path) -> None:
    from rich.markup import escape

    facts, to = done.facts, console()
    masked = facts[facts["whole"] == ""]
    before = "" if done.new == len(facts) else f" ({counted(done.new, 'video')} now, the rest before)"
    to.print(f"[bold]{counted(len(facts), 'video')}[/]{before}: {escape(str(table))}", soft_wrap=True)
    if len(masked):
        kept = masked["kept"]
        to.print(f"Kept of the picture: median {kept.median():.0%}, from {kept.min():.0%} to {kept.max():.0%}")
    for reason, names in facts[facts["whole"] != ""].groupby("whole")["video_id"]:
        to.print(f"[yellow]kept whole[/] {len(names)}, {escape(f'{reason}: {listed(names, 5)}')}", soft_wrap=True)
    if removed := int((facts["text_outside"] > 0).sum()):
        to.print(f"Burned-in text was removed from {counted(removed, 'video')}.")
    for name in facts["video_id"][facts["text_inside"] > 0]:
        to.print(f"[red]burned-in text is likely inside what was kept[/] {escape(name)}", soft_wrap=True)
    for name, reason in done.unreadable.items():
        to.print(f"[red]unreadable[/] {escape(name)}: {escape(reason)}", soft_wrap=True)
    for note in done.notes:
        to.print(f"[yellow]note[/] {escape(note)}", soft_wrap=True)
    say(
        "Only text that never changes, bright on dark, is looked for: see some of the videos yourself before they leave."
    )
    say(" ".join([f"Next: echolung extract --dataset {quoted(table)}", *done.options]))
