"""`echolung cache …`: the token stores on disk."""

from pathlib import Path
from typing import Annotated, Any

import typer

from echolung.cli import options
from echolung.cli.console import out, print_json, say

app = typer.Typer(help="Token stores: which there are, and what one holds.", no_args_is_help=True)


@app.command("list")
def list_stores(as_json: options.Json = False) -> None:
    """List the stores under ECHOLUNG_HOME."""
    from rich.table import Table

    from echolung.settings import home

    folder = home() / "stores"
    rows = [_facts(store) for store in options.open_stores(folder)]
    if as_json:
        print_json(rows)
        return
    if not rows:
        say(f"No store under {folder} yet.")
        return
    table = Table("store", "dataset", "encoder", "clips", "tokens × dim", "size")
    for row in rows:
        clips = f"{row['complete']} / {row['clips']}"
        table.add_row(
            row["name"],
            row["dataset"],
            row["encoder"],
            clips,
            f"{row['tokens']} × {row['dim']}",
            f"{row['bytes'] / 1e6:.0f} MB",
        )
    out().print(table)


@app.command("info")
def info(
    store: Annotated[Path | None, typer.Argument(help="The store; default the only one.")] = None,
    as_json: options.Json = False,
) -> None:
    """Show what a store holds and the key it was made with."""
    from rich.pretty import Pretty

    from echolung.cache import TokenStore

    opened = TokenStore.open(store, unfinished=True) if store else options.pick_store(None, None, None)
    facts = {**_facts(opened), "tasks": list(opened.snapshot.tasks), "key": opened.key, "unreadable": opened.failures}
    facts["created_by"] = opened.group.attrs["created_by"]
    if as_json:
        print_json(facts)
    else:
        out().print(Pretty(facts, expand_all=True))


def _facts(store: Any) -> dict[str, Any]:
    tokens, dim = store.token_shape
    complete = int(store.complete.sum())
    return {
        "name": store.path.name,
        "dataset": store.snapshot.dataset,
        "encoder": store.group.attrs.get("encoder"),
        "clips": store.clips,
        "complete": complete,
        "tokens": tokens,
        "dim": dim,
        "bytes": complete * tokens * dim * 2,
    }
