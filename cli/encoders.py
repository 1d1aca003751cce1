"""`echolung encoders`: published weights: which there are, getting them, and looking at them again."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echolung.cli import options
from echolung.cli.terminal.console import out, print_json, say
from echolung.cli.terminal.transfer import transfer
from echolung.errors import InputError
from echolung.text import in_bytes

if TYPE_CHECKING:
    from echolung.downloads.weights import Source, Weights
    from echolung.downloads.weights_home import Checked

app = typer.Typer(help="Published weights: list, download, check.", no_args_is_help=True)

FAILED = 1

Name = Annotated[str, typer.Argument(metavar="NAME", help="As `echolung encoders list` has it, such as vjepa2-vitl.")]
From = Annotated[
    str | None, typer.Option("--from", metavar="SOURCE", help="huggingface or meta; default the first of the list.")
]


@app.command("list")
def list_(as_json: options.Json = False) -> None:
    """Show the published weights, what else is at home, and the networks that take random weights."""
    from echolung.downloads.weights import BY_HAND, WEIGHTS
    from echolung.downloads.weights_home import checkpoints
    from echolung.encoders.networks import NETWORKS
    from echolung.encoders.sizes import VITS

    rows = [_facts(weights) for weights in WEIGHTS.values()]
    own, random = _own(), [f"random:{name}" for name in (*VITS, *NETWORKS)]
    if as_json:
        by_hand = {name: text.format(checkpoints=checkpoints()) for name, text in BY_HAND.items()}
        print_json({"published": rows, "own": own, "random": random, "by_hand": by_hand})
        return
    from rich.table import Table

    table = Table(title="Published weights", title_justify="left", box=None, pad_edge=False)
    for column in ("--encoder", "network", "parameters", "size", "trained on", "licence", "from", "here"):
        table.add_column(column, justify="right" if column in ("parameters", "size") else "left")
    for weights, row in zip(WEIGHTS.values(), rows, strict=True):
        source = weights.source()
        table.add_row(
            weights.name,
            weights.architecture,
            f"{weights.parameters / 1e6:,.1f} M",
            in_bytes(source.size) if source.size else "?",
            weights.trained_on.partition(" (")[0],
            source.licence.partition(" (")[0],
            ", ".join(each.host for each in weights.sources),
            "[green]yes[/]" if row["at_home"] else "",
        )
    console = out()
    console.print(table)
    for path, size in own.items():
        console.print(f"\nYour own: {path}, {in_bytes(size)}", highlight=False, markup=False, soft_wrap=True, end="")
    console.print("\nRandom weights, of any seed: " + ", ".join(random), highlight=False, markup=False)
    for text in BY_HAND.values():
        console.print(text.format(checkpoints=checkpoints()), highlight=False, markup=False)
    say("echolung encoders download NAME gets weights; --encoder NAME then finds them.")


@app.command()
def download(
    name: Name,
    source: From = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before downloading.")] = False,
    as_json: options.Json = False,
) -> None:
    """Download published weights, check their digest, and see that every tensor fits; run again, it goes on."""
    from echolung.downloads.weights_home import at_home, bring, is_there
    from echolung.encoders.fits import fits

    weights = _named(name)
    chosen = weights.source(source) if source or not at_home(weights) else at_home(weights)[0]
    say(
        f"{name}: {weights.architecture}, {weights.parameters:,} parameters, trained on {weights.trained_on}; {chosen.page}"
    )
    say(f"Licence: {chosen.licence}")
    say(f"Cite: {weights.citation}")
    if not is_there(chosen):
        say(f"{chosen.said_size}, from {chosen.host}")
        asking = sys.stdin.isatty() and sys.stderr.isatty() and not (yes or as_json)
        if asking and not typer.confirm("Download?", default=True, err=True):
            raise typer.Exit(FAILED)
    with transfer(name, chosen.size) as bar:
        found = bring(weights, chosen, fits, bar.advance, bar.log)
    _show([_told(weights, chosen, found)], as_json)
    first = at_home(weights)[0]
    if first != chosen:
        say(
            f"--encoder {name} reads {first.place}, which is here as well. To use what came now: --encoder {found.path}"
        )


@app.command()
def check(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Default: all that are here.")] = None,
    as_json: options.Json = False,
) -> None:
    """Compute the digests of downloaded weights again, and see that every tensor fits."""
    from echolung.downloads.weights import WEIGHTS
    from echolung.downloads.weights_home import at_home
    from echolung.downloads.weights_home import check as look
    from echolung.encoders.fits import fits

    pairs = [(each, source) for each in ([_named(name)] if name else WEIGHTS.values()) for source in at_home(each)]
    if not pairs:
        what = f"The weights {name} are" if name else "No published weights are"
        verb = "not " if name else ""
        raise InputError(
            f"{what} {verb}in ECHOLUNG_HOME/checkpoints, so there is nothing to check. Get them with: "
            f"echolung encoders download {name or 'NAME'}"
        )
    told, wrong = [], {}
    for weights, source in pairs:
        try:
            told.append(_told(weights, source, look(weights, source, fits)))
        except InputError as error:
            wrong[source.place] = str(error)
    _show(told, as_json, wrong)
    if wrong:
        raise typer.Exit(FAILED)


def _named(name: str) -> "Weights":
    from echolung.downloads.weights import BY_HAND, weights_named
    from echolung.downloads.weights_home import checkpoints

    if name in BY_HAND:
        raise InputError(BY_HAND[name].format(checkpoints=checkpoints()))
    return weights_named(name)


def _facts(weights: "Weights") -> dict[str, Any]:
    from echolung.downloads.weights_home import at_home, checkpoints

    return {
        "name": weights.name,
        "architecture": weights.architecture,
        "parameters": weights.parameters,
        "trained_on": weights.trained_on,
        "citation": weights.citation,
        "at_home": [str(checkpoints() / source.place) for source in at_home(weights)],
        "sources": [
            {
                "source": source.host,
                "page": source.page,
                "bytes": sum(file.size for file in source.files) or None,
                "about": source.said_size,
                "licence": source.licence,
                "digest_kept": source.digest_kept,
            }
            for source in weights.sources
        ],
    }


def _own() -> dict[str, int]:
    """Return path -> bytes of the checkpoints at home that are no published weights."""
    from echolung.downloads.weights import WEIGHTS
    from echolung.encoders.identity import at_home

    published = {source.place for weights in WEIGHTS.values() for source in weights.sources}
    sizes = {}
    for path in at_home():
        if path.name not in published:
            files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
            sizes[str(path)] = sum(file.stat().st_size for file in files)
    return sizes


def _told(weights: "Weights", source: "Source", found: "Checked") -> dict[str, Any]:
    from echolung.downloads.weights_home import record_of

    record = record_of(source)
    return {
        "name": weights.name,
        "source": source.host,
        "path": str(found.path),
        "downloaded": found.fetched,
        "sha256": found.digests,
        "checked_against": found.against,
        "read": found.said,
        "licence": source.licence,
        "citation": weights.citation,
        "record": str(record) if record.is_file() else None,
        "then": f"echolung extract --dataset pocus --encoder {weights.name}",
    }


def _show(told: list[dict[str, Any]], as_json: bool, wrong: dict[str, str] | None = None) -> None:
    if as_json:
        print_json({"weights": told} | ({"wrong": wrong} if wrong is not None else {}))
        return
    console = out()

    def line(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=not console.is_terminal)

    for each in told:
        line(f"{each['name']}: {'downloaded to' if each['downloaded'] else 'is at'} {each['path']}")
        line(f"  compared with {each['checked_against']}")
        line(f"  {each['read']}")
        line(f"  licence and citation: {each['record'] or 'no record; `echolung encoders download` writes one'}")
    for place, why in (wrong or {}).items():
        line(f"WRONG {place}: {why}")
    if wrong is None:
        line(f"Next: {told[0]['then']}")
