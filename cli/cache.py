"""`echolung cache …`: the token stores on disk."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echolung.cli import options
from echolung.cli.stores import find_store, is_store, refuse_busy, refuse_writers, stores_folder, told_apart
from echolung.cli.terminal.console import out, print_json, say, steps
from echolung.errors import InputError
from echolung.text import in_bytes

if TYPE_CHECKING:
    from echolung.cache import TokenStore
    from echolung.cache.damage import Verification
    from echolung.cache.place import Place

app = typer.Typer(help="Token stores: which there are, what one holds, whether it is whole.", no_args_is_help=True)

Store = Annotated[str | None, typer.Argument(help="Path, URL or name of a store; default the only one.")]

WIDE = 110
"""Columns from which the list has room for dataset and encoder, which most names say anyway."""


@app.command("list")
def list_stores(as_json: options.Json = False) -> None:
    """List the stores under ECHOLUNG_HOME."""
    folder = stores_folder()
    stores = options.open_stores(folder)
    rows = [{**_facts(store), "apart": apart} for store, apart in zip(stores, told_apart(stores), strict=True)]
    if as_json:
        print_json(rows)
    elif not rows:
        say(f"No store under {folder} yet.")
    else:
        _show_list(rows)


def _show_list(rows: list[dict[str, Any]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    console = out()
    wide = console.width >= WIDE
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("store", overflow="fold")
    for name in ("dataset", "encoder") if wide else ():
        table.add_column(name, overflow="fold")
    for name in ("clips", "tokens × dim", "on disk"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        whole = row["complete"] == row["clips"]
        clips = str(row["clips"]) if whole else f"{row['complete']} of {row['clips']}"
        named = [str(row[name]) for name in ("dataset", "encoder")] if wide else []
        clips += "" if row["finished"] else "\n[yellow]unfinished[/]"
        name = escape(row["name"].removesuffix(".zarr")) + (f"\n[dim]{escape(row['apart'])}[/]" if row["apart"] else "")
        table.add_row(name, *named, clips, _kept(row), in_bytes(row["bytes"]))
    console.print(table)


@app.command("info")
def info(store: Store = None, as_json: options.Json = False) -> None:
    """Show what a store holds and the key it was made with."""
    from rich.pretty import Pretty

    from echolung.cache import TokenStore

    opened = TokenStore.open(find_store(store), unfinished=True)
    facts = {**_facts(opened), "tasks": list(opened.snapshot.tasks), "key": opened.key, "unreadable": opened.failures}
    facts["created_by"] = opened.group.attrs["created_by"]
    if as_json:
        print_json(facts)
        return
    facts |= {"bytes": in_bytes(facts["bytes"]), "tokens": facts["tokens"] or "none, pooled rows only"}
    out().print(Pretty(facts, expand_all=True))


@app.command("verify")
def verify(
    store: Store = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Put right what is broken, from the videos where need be.")
    ] = False,
    data: options.Data = None,
    encoder: Annotated[
        str | None, typer.Option(help="With --repair: where the weights are now; default what the store names.")
    ] = None,
    kind: options.Kind = None,
    drop_unlabelled: options.DropUnlabelled = False,
    device: Annotated[str, typer.Option(help="With --repair: auto (a GPU if there is one), cpu, cuda.")] = "auto",
    workers: options.Workers = None,
    time_limit: options.TimeLimit = 120.0,
    as_json: options.Json = False,
) -> None:
    """Read every byte of a store and list what is broken; exit code 1 where something is."""
    path = find_store(store)
    refuse_busy(path)
    found = _verify(path)
    before = found.damages
    if before and repair:
        if not as_json:
            _show_damages(found)
        labels: dict[str, Any] = {"missing_labels": "drop"} if drop_unlabelled else {}
        labels |= {"kinds": options.read_kinds(kind)} if kind else {}
        how = {"device": device, "workers": workers, "time_limit": time_limit}
        _repair(found, how, data=data, encoder=encoder, labels=labels)
        found = _verify(path)
    if as_json:
        print_json({**found.to_json(), "found_before_repair": [_damage(d) for d in before] if repair else []})
    else:
        _show_verification(found)
    if found.damages:
        raise typer.Exit(1)


def _verify(path: "Place") -> "Verification":
    from echolung.cache.verify import verify as check

    with steps("verifying", "clips") as bar:
        return check(path, bar.start, bar.advance)


def _repair(found: "Verification", how: dict[str, Any], **where: Any) -> None:
    from echolung.cli.extract import run_extraction
    from echolung.extraction.repair import repair

    repair(
        found,
        lambda plan: run_extraction(plan, **how),
        workers=how["workers"],
        time_limit=how["time_limit"],
        log=say,
        **where,
    )


def _damage(damage: Any) -> dict[str, Any]:
    return {**damage.__dict__, "rows": list(damage.rows), "videos": list(damage.videos)}


def _show_damages(found: "Verification") -> None:
    from rich.markup import escape

    from echolung.text import listed

    console = out()
    count = len(found.damages)
    things = "1 thing is" if count == 1 else f"{count} things are"
    console.print(f"[bold]{escape(found.path.name)}[/]: [red]{things} broken[/]")
    for damage in found.damages:
        clips = f" (clip{'s' * (len(damage.rows) > 1)} {listed(damage.rows, 5)} of {listed(damage.videos, 5)})"
        where = escape(damage.array or "the store's attributes")
        console.print(f"[red]broken[/] {where}: {escape(damage.what)}{escape(clips) if damage.rows else ''}")


def _show_verification(found: "Verification") -> None:
    from rich.markup import escape

    if found.damages:
        _show_damages(found)
    else:
        clips = f"{found.complete} of {found.clips} clips complete"
        out().print(f"[bold]{escape(found.path.name)}[/]: nothing is broken ({clips}, {in_bytes(found.bytes)} read)")
    for note in found.notes:
        out().print(f"[yellow]note[/] {escape(note)}")


@app.command("export")
def export(
    file: Annotated[Path, typer.Argument(help="The HDF5 file to write, such as pocus.h5.")],
    store: Annotated[str | None, typer.Option(help="Path, URL or name of the store; default the only one.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    as_json: options.Json = False,
) -> None:
    """Write a store as one HDF5 file: the same arrays, tables, attributes and key."""
    from echolung.cache import TokenStore
    from echolung.cache.hdf5 import export_store

    path = find_store(store)
    refuse_busy(path)
    with steps("exporting", "clips", TokenStore.open(path).clips) as bar:
        export_store(path, file, force, bar.advance)
    _tell({"store": str(path), "file": str(file), "bytes": file.stat().st_size}, f"{path.name} is in {file}", as_json)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A file that `echolung cache export` wrote.")],
    to: Annotated[str | None, typer.Option(help="The new store; default ECHOLUNG_HOME/stores/<its name>.")] = None,
    as_json: options.Json = False,
) -> None:
    """Make a store from an exported HDF5 file."""
    from echolung.cache.hdf5 import count_clips, import_store, stored_name
    from echolung.cache.locking import gate
    from echolung.cache.place import as_place
    from echolung.settings import make_folder

    path = as_place(to) if to else stores_folder() / stored_name(file)
    if not isinstance(path, Path):
        raise InputError(f"A store is imported into a folder, not to {path}. Import it here, and copy it there.")
    count = count_clips(file)
    make_folder(path.absolute().parent)
    with gate(path), steps("importing", "clips", count) as bar:
        refuse_writers(path)
        size = import_store(file, path, bar.advance).size
    _tell({"store": str(path), "file": str(file), "bytes": size}, f"{file} is now the store {path}", as_json)


@app.command("remove")
def remove(
    stores: Annotated[list[str], typer.Argument(help="Paths, URLs or names of stores.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: options.Json = False,
) -> None:
    """Delete stores."""
    from echolung.cache.place import file_sizes

    paths = [find_store(name) for name in dict.fromkeys(stores)]
    for path in paths:  # before anything is deleted
        if not is_store(path):
            raise InputError(f"{path} is no token store of echolung, so it is not removed.")
        refuse_busy(path)
    removed = []
    for path in paths:
        what = f"{path.name} ({_clips(path)}{in_bytes(sum(file_sizes(path).values()))})"
        if isinstance(path, Path) and path.is_symlink():
            what = f"the link {path.name} (the store stays at {path.resolve()})"
        if yes or _agreed(f"Remove {what}?"):
            _remove(path)
            removed.append(str(path))
            say(f"Removed {what}.")
        else:
            say(f"Kept {path.name}.")
    if as_json:
        print_json({"removed": removed, "kept": [str(path) for path in paths if str(path) not in removed]})


def _agreed(question: str) -> bool:
    """Ask; no answer is a no."""
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:
        return False


def _remove(path: "Place") -> None:
    import glob

    from echolung.cache.locking import gate
    from echolung.cache.place import remove as delete

    if not isinstance(path, Path):
        delete(path)
        return
    with gate(path):
        refuse_writers(path)
        doomed = path.with_name(path.name + ".removed")
        delete(doomed)
        path.rename(doomed)  # so that what a kill leaves is no store
        if doomed.is_symlink():  # a name for a store that lies elsewhere, and stays there
            doomed.unlink()
        else:
            delete(doomed)
    for lock in path.parent.glob(f"{glob.escape(path.name)}*.lock"):
        lock.unlink(missing_ok=True)


def _kept(facts: dict[str, Any]) -> str:
    return f"{facts['tokens']} × {facts['dim']}" if facts["tokens"] else f"pooled × {facts['dim']}"


def _clips(path: "Place") -> str:
    """Return "10 clips, " or, where the store cannot say, nothing."""
    from echolung.cache import TokenStore

    try:
        return f"{int(TokenStore.open(path, unfinished=True).complete.sum())} clips, "
    except Exception:  # a damaged store can be removed, too
        return ""


def _tell(facts: dict[str, Any], text: str, as_json: bool) -> None:
    if as_json:
        print_json(facts)
    else:
        say(f"{text} ({in_bytes(facts['bytes'])}).")


def _facts(store: "TokenStore") -> dict[str, Any]:
    tokens, dim = store.token_shape
    return {
        "name": store.path.name,
        "dataset": store.snapshot.dataset,
        "encoder": store.group.attrs.get("encoder"),
        "clips": store.clips,
        "complete": int(store.complete.sum()),
        "finished": store.finished,
        "tokens": tokens,
        "dim": dim,
        "bytes": store.size,
    }
