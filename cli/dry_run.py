"""What an extraction would come to, as `extract --dry-run` shows it, and what is said while one runs that takes hours."""

from typing import TYPE_CHECKING, Any

from echolung.cli.terminal.console import Steps, out, print_json
from echolung.cli.terminal.hanging import print_hanging

if TYPE_CHECKING:
    from echolung.extraction import ExtractionPlan
    from echolung.extraction.estimate import Estimate
    from echolung.extraction.run import Progress


def show_estimate(plan: "ExtractionPlan", as_json: bool, beforehand: str = "", **how: Any) -> None:
    """Print what an extraction would come to, after a note on what is not here; `how` goes to `extraction.estimate.estimate`."""
    from dataclasses import asdict

    from echolung.extraction.advice import advise
    from echolung.extraction.estimate import estimate

    found = estimate(plan, **how)
    notes = [*([beforehand] if beforehand else []), *advise(found, plan)]
    if as_json:
        print_json({**asdict(found), "tokens": found.tokens, "fits": found.fits, "notes": notes})
    else:
        _show(found, plan, notes)


def _show(found: "Estimate", plan: "ExtractionPlan", notes: list[str]) -> None:
    from rich.markup import escape

    console = out()
    console.print(
        f"[bold]{escape(plan.manifest.name)}[/] by [bold]{escape(plan.identity.name)}[/]: nothing is written.",
        highlight=False,
    )
    for name, text in lines(found, plan).items():
        print_hanging(console, f"  {name:8}  ", escape(text))
    for note in notes:
        print_hanging(console, "[yellow]note[/] ", escape(note))


def lines(found: "Estimate", plan: "ExtractionPlan") -> dict[str, str]:
    """Return name -> text of each line that is shown."""
    from echolung.text import about, in_bytes

    t, h, w = found.grid
    kept = f"{found.tokens:,} ({t} × {h} × {w})" if found.tokens else "none, their mean alone"
    there = f"; {found.remaining:,} remain to be encoded" if found.remaining < found.clips else ""
    partly = f", {in_bytes(found.to_write)} of it to write" if 0 < found.to_write < found.bytes else ""
    return {
        "videos": f"{found.videos:,}",
        "clips": f"{found.clips:,}, {plan.clips.clips} a video{there}",
        "tokens": f"{kept} of {found.dim:,} numbers a clip",
        "store": f"{in_bytes(found.bytes)}{partly}",
        **({"disk": f"{in_bytes(found.free)} free there"} if found.free is not None else {}),
        **({"time": f"{about(found.seconds)} on {found.device}"} if found.seconds is not None else {}),
        **({"measured": f"just now: {found.how}"} if found.how else {}),
        "place": found.place,
    }


def watched(bar: Steps, device: str) -> "Progress":
    """Return what shows a run on a bar, and says after its first batches where it will take hours on a CPU."""
    from echolung.device import pick_device
    from echolung.extraction.pace import LongRun
    from echolung.extraction.run import Progress

    run, slow = LongRun(), pick_device(device).type == "cpu"

    def start(done: int, total: int) -> None:
        run.start(done, total)
        bar.start(done, total)

    def advance(clips: int) -> None:
        bar.advance(clips)
        if slow and (left := run.advance(clips)):
            bar.log(
                f"{left[:1].upper()}{left[1:]} left on this CPU. Ctrl-C stops it, the same command goes on later; "
                "--dry-run says what would make it shorter."
            )

    return Progress(start, advance, bar.log)
