"""`echolung leaderboard`: every run of a dataset × task in one table."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echolung.cli import options
from echolung.cli.terminal.console import out, print_json, say
from echolung.errors import InputError
from echolung.text import counted

if TYPE_CHECKING:
    import pandas as pd

    from echolung.report.leaderboard import Leaderboard

WIDE = 100
"""Columns from which a table has room for probe settings and a second metric."""


def leaderboard(
    dataset: Annotated[str | None, typer.Option(help="Only runs of this dataset.")] = None,
    task: Annotated[str | None, typer.Option(help="Only runs of this task.")] = None,
    runs: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where runs are; default ECHOLUNG_HOME/runs.")
    ] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write Markdown tables there.")] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write one CSV there, numbers unrounded.")] = None,
    as_json: options.Json = False,
) -> None:
    """Show every run of a dataset × task in one table: honest ones first, best first."""
    from echolung.report.leaderboard import leaderboard, write_csv, write_markdown
    from echolung.settings import home

    board = leaderboard(runs or home() / "runs", dataset, task)
    for sentence in board.passed_over:
        say(f"Passed over: {sentence}")
    for file, write in ((markdown, write_markdown), (csv, write_csv)):
        if file is not None:
            _writable(file)
            write(board, file)
            say(f"Written: {file}")
    if as_json:
        print_json({"runs": _plain(board), "passed_over": list(board.passed_over)})
    else:
        show(board)


def _plain(board: "Leaderboard") -> list[dict[str, Any]]:
    """Return the rows without the columns of metrics that a task has not."""
    return [
        {str(name): value for name, value in row.items() if value == value and value is not None}
        for row in board.table.to_dict("records")
    ]


def _writable(file: Path) -> None:
    if file.is_dir() or not file.absolute().parent.is_dir():
        what = "is a folder" if file.is_dir() else f"cannot be written: there is no folder {file.parent}"
        raise InputError(f"{file} {what}. Name a file.")


def show(board: "Leaderboard") -> None:
    """Print one table for each dataset × task × group."""
    from rich.markup import escape

    from echolung.evaluation.metrics import LABELS, MAIN
    from echolung.report.html.tables import with_unit

    console, first = out(), 1
    for about, rows in board.sections():
        main = MAIN[about["kind"]]
        guess = with_unit(main, rows[f"{main}_guess"].iloc[0])
        patients, videos = rows["patients"].max(), rows["videos"].max()
        console.print(
            f"\n[bold]{escape(about['dataset'])} · {escape(about['task'])}[/] · folds by {about['group']} · "
            f"up to {counted(int(patients), 'patient')}, {counted(int(videos), 'video')} · guessing: {LABELS[main]} {guess}"
        )
        console.print(_table(rows, about["kind"], first, wide=console.width >= WIDE))
        for i, run in enumerate(rows["run"], first):
            console.print(f"[dim]{i:>2}[/]  {escape(run)}", highlight=False, soft_wrap=True)
        first += len(rows)


def _table(rows: "pd.DataFrame", kind: str, first: int, *, wide: bool) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    from echolung.evaluation.metrics import LABELS
    from echolung.report.html.tables import PER_CENT
    from echolung.report.leaderboard import SHOWN, between, spread

    names = SHOWN[kind] if wide else SHOWN[kind][:1]
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("\nrun", justify="right", no_wrap=True)
    table.add_column("\nencoder", overflow="fold")
    table.add_column("\nprobe", overflow="fold")
    table.add_column("\nprotocol", min_width=12)
    table.add_column("pat.\nvid.", justify="right", no_wrap=True)
    for name in names:
        table.add_column(f"{LABELS[name]}{' %' * (name in PER_CENT)}\nmean ± sd", justify="right", no_wrap=True)
        if name == names[0]:
            table.add_column("pooled 95 %\ninterval", justify="right", no_wrap=True)
    if wide:
        table.add_column("\ndate", no_wrap=True)
    for i, row in enumerate(rows.to_dict("records"), first):
        cells = []
        for name in names:
            cells.append(spread(name, row[name], row[f"{name}_sd"]))
            if name == names[0]:
                cells.append(between(name, row[f"{name}_low"], row[f"{name}_high"]))
        marked = escape(row["protocol"]) + (" [red](optimistic)[/]" if row["optimistic"] else "")
        sizes = (
            f"{row['patients'] or '—'}\n{row['videos']}" if not wide else f"{row['patients'] or '—'}/{row['videos']}"
        )
        date = [row["at"][:10]] if wide else []
        about = [escape(row["encoder"]), escape(row["probe"]), marked, sizes]
        table.add_row(str(i), *about, *cells, *date, style="dim" if row["optimistic"] else "")
    return table
