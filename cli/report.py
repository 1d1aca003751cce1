"""`echolung report`: a run folder -> one HTML file, and its figures as PNG."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echolung.cli import options
from echolung.cli.stores import find_store
from echolung.cli.terminal.console import print_json, say
from echolung.errors import InputError

if TYPE_CHECKING:
    from echolung.cache import TokenStore
    from echolung.report.run import Run


def report(
    run: Annotated[
        Path | None, typer.Argument(help="Folder of a run, or its name under ECHOLUNG_HOME/runs; default the newest.")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            help="The store it was made from: name, folder or URL; default the one under ECHOLUNG_HOME/stores."
        ),
    ] = None,
    to: Annotated[Path | None, typer.Option("--out", help="The file; default report.html in the run's folder.")] = None,
    as_json: options.Json = False,
) -> None:
    """Write the report of a run: one HTML file that needs no network, and its figures as PNG."""
    from echolung.report.html import write_report
    from echolung.report.run import read_run

    folder = newest_run() if run is None else find_run(run)
    if to is not None and to.is_dir():
        raise InputError(f"--out {to} is a folder; name a file, such as {to / 'report.html'}.")
    found = read_run(folder)
    opened = run_store(found, store)
    path = write_report(found, opened, to)
    if as_json:
        print_json({"run": str(folder), "report": str(path), "store": str(opened.path) if opened else None})
    else:
        say(f"Report: {path}")


def find_run(name: Path) -> Path:
    """Return the folder of a run, given by its path or by its name under ECHOLUNG_HOME/runs."""
    from echolung.settings import home

    inside = home() / "runs" / name
    return inside if not name.exists() and inside.is_dir() else name


def newest_run() -> Path:
    """Return the run that was made last, and say which; InputError where there is none."""
    from echolung.report.run import read_record
    from echolung.settings import home

    made: list[tuple[str, Path]] = []
    for file in (home() / "runs").glob("*/record.json"):
        try:
            record = read_record(file.parent)
        except InputError as error:
            say(f"Passed over: {error}")
            continue
        if "label_efficiency" not in record:
            made.append((str(record.get("at", "")), file.parent))
    if not made:
        raise InputError(f"There is no run under {home() / 'runs'}. Make one with echolung probe, or name its folder.")
    folder = max(made)[1]
    say(f"Run: {folder.name} (the newest)")
    return folder


def run_store(run: "Run", named: str | None) -> "TokenStore | None":
    """Return the store that a run was made from: the one named, or the one of its name under ECHOLUNG_HOME/stores.

    None, and a sentence that says so, where none is named and it is not there.

    Raises:
        InputError: the store named has another key than the run's.
    """
    from echolung.cache import TokenStore
    from echolung.settings import home

    about: dict[str, Any] = run.record["store"]
    if named is not None:
        opened = TokenStore.open(find_store(named))
        if opened.group.attrs["key_digest"] != about["key_digest"]:
            raise InputError(
                f"The store {opened.path.name} is not the one that this run was made from: that was {about['name']}, with the "
                f"key {about['key_digest'][:10]}, and this one has the key {str(opened.group.attrs['key_digest'])[:10]}."
            )
        return opened
    path = home() / "stores" / about["name"]
    why = "is not under ECHOLUNG_HOME/stores"
    if path.is_dir():
        try:
            opened = TokenStore.open(path)
        except InputError as error:
            why = f"cannot be read ({error})"
        else:
            if opened.group.attrs["key_digest"] == about["key_digest"]:
                return opened
            why = "has another key by now"
    say(f"The store {about['name']} {why}: parts of the report that show clips are left out. Name it with --store.")
    return None
