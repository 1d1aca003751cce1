"""`echolung compare`: two runs or more on the same videos, paired: the transfer gain."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echolung.cli import options
from echolung.cli.probing.runs import check_place
from echolung.cli.report import find_run
from echolung.cli.terminal.console import out, print_json, say
from echolung.errors import InputError
from echolung.provenance import command_line

if TYPE_CHECKING:
    from echolung.evaluation.comparison import Comparison

WIDE = 110
"""Columns from which the two gains stand side by side."""


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN_A RUN_B ...",
            help="Folders of runs, or their names under ECHOLUNG_HOME/runs. One alone is compared with its random twins.",
        ),
    ],
    metric: Annotated[
        str | None, typer.Option(help="What is tested; default balanced_accuracy, of numbers mae.")
    ] = None,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Also runs of other videos, folds or protocol: what they have in common.")
    ] = False,
    resamples: Annotated[int, typer.Option(help="Draws of patients, and swaps between runs.", min=100)] = 2000,
    seed: Annotated[int, typer.Option(help="Of these draws.", min=0)] = 0,
    to: Annotated[
        Path | None, typer.Option("--out", help="Folder; default a new one under ECHOLUNG_HOME/runs.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Compare runs on the same videos: the gain of the first over each other, with its interval and tests.

    Runs that differ only in the seed of their encoder's random weights are one arm.
    """
    from dataclasses import replace

    from echolung.evaluation.comparison import compare
    from echolung.report.arms import arms_of
    from echolung.report.comparison import comparison_json, save_comparison
    from echolung.report.run import read_run

    folders = [find_run(run) for run in runs]
    if twice := [folder for i, folder in enumerate(folders) if folder.resolve() in _resolved(folders[:i])]:
        raise InputError(f"{twice[0]} is named twice: a run cannot be compared with itself. Name two different runs.")
    check_place(to)
    read = [read_run(folder) for folder in folders]
    arms, notes = arms_of(read)
    found = compare(arms, metric, anyway=anyway, seed=seed, resamples=resamples)
    found = replace(found, notes=(*notes, *found.notes))
    # Shown first: if saving fails, the result has at least been seen.
    if not as_json:
        show(found)
        show_smoothness([run.record for run in read])
    folder = save_comparison(found, read, command_line(), to)
    if as_json:
        print_json({"comparison": str(folder), **comparison_json(found)})
    else:
        say(f"Saved in {folder}")


def _resolved(folders: list[Path]) -> set[Path]:
    return {folder.resolve() for folder in folders}


def show(found: "Comparison") -> None:
    """Print a table for each contrast, its tests, and what differs between the arms."""
    from rich.markup import escape

    from echolung.evaluation.statistics.resampled import WHY_THEY_DIFFER
    from echolung.report import comparison_text as text

    console = out()
    console.print(f"\n[bold]{escape(text.about(found))}[/]", highlight=False)
    for contrast in found.contrasts:
        optimistic = " [bold red](optimistic)[/]" if found.optimistic else ""
        console.print(
            f"\nA [bold]{escape(found.a)}[/] against B [bold]{escape(contrast.b)}[/]{optimistic}", highlight=False
        )
        console.print(_gains(text.rows(found, contrast), wide=console.width >= WIDE))
        console.print(f"[bold]{escape(text.verdict(found, contrast))}[/]", highlight=False)
        for sentence in text.sentences(found, contrast):
            console.print(escape(sentence), highlight=False)
    if any(contrast.tests for contrast in found.contrasts):
        console.print(f"\n{escape(WHY_THEY_DIFFER)}", style="dim", highlight=False)
    for sentence in text.seeds(found):
        console.print(escape(sentence), highlight=False)
    if found.differing:
        console.print(_differing(found))
    for note in found.notes:
        console.print(f"[yellow]note[/] {escape(note)}", highlight=False)


def show_smoothness(records: list[dict[str, Any]]) -> None:
    """Print how smoothly a number changes over the embeddings of each run, where two or more know it."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    from echolung.report import comparison_text as text

    rows = text.smoothness(records)
    if not rows:
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    for i, head in enumerate(text.SMOOTHNESS):
        table.add_column(head, justify="right" if i else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    out().print(table)


def _gains(rows: list[list[str]], *, wide: bool) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("\nmean ± sd over folds", min_width=12)
    heads = (
        "\nA",
        "\nB",
        *(("gain A − B\nby fold", "pooled\n95 % interval") if wide else ("gain by fold,\npooled, 95 %",)),
    )
    for head in (*heads, "\np"):
        table.add_column(head, justify="right", no_wrap=True)
    for i, (name, a, b, by_fold, pooled, p) in enumerate(rows):
        gains = [by_fold, pooled] if wide else [f"{by_fold}\n{pooled}"]
        table.add_row(name, a, b, *gains, p, style="bold" if i == 0 else "")
    return table


def _differing(found: "Comparison") -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("what differs")
    for i, name in enumerate(found.names):
        letter = chr(ord("A") + i) if len(found.names) > 2 else "AB"[i]
        table.add_column(
            letter if name in found.differing.get("encoder", []) else f"{letter} {escape(name)}", overflow="fold"
        )
    for fact, texts in found.differing.items():
        table.add_row(escape(fact), *map(escape, texts))
    return table
