"""`echolung probe --label-fractions`: how good a probe is that learnt from a share of the patients."""

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from echolung.cli.probing.runs import check_place, labelled
from echolung.cli.probing.table import HEADS, number
from echolung.cli.terminal.console import out, print_json, say
from echolung.errors import InputError

if TYPE_CHECKING:
    from echolung.cache import TokenStore
    from echolung.evaluation.label_efficiency import LabelEfficiency


def run_label_efficiency(
    store: "TokenStore",
    fractions: str,
    seeds: int,
    *,
    task: str | None = None,
    labels: Path | None = None,
    kinds: list[str] | None = None,
    device: str = "auto",
    to: Path | None = None,
    as_json: bool = False,
    **arguments: Any,
) -> Path:
    """Train on every share, save, show; return the run's folder."""
    from echolung.device import pick_device
    from echolung.evaluation.label_efficiency import label_efficiency
    from echolung.evaluation.subsets import check_shares
    from echolung.report.label_efficiency import curve_json, save_label_efficiency

    began = time.perf_counter()
    shares = read_fractions(fractions)
    check_shares(shares, seeds)
    check_place(to)
    manifest, of_labels = labelled(store, task, labels, kinds)
    arguments |= {"manifest": manifest, "device": str(pick_device(device)), "tell": say}
    found = label_efficiency(store, task, fractions=shares, seeds=seeds, **arguments)
    found = replace(found, settings={**found.settings, **of_labels})
    seconds = time.perf_counter() - began
    # Shown first: if saving fails, the result has at least been seen.
    if not as_json:
        show(found, store, seconds)
    folder = save_label_efficiency(found, store, seconds, to)
    if as_json:
        about = {"settings": found.settings, "counted_in": found.unit, "guess": found.guess, "notes": list(found.notes)}
        print_json({"run": str(folder), "label_efficiency": curve_json(found), **about})
    else:
        say(f"Saved in {folder}")
    return folder


def read_fractions(text: str) -> tuple[float, ...]:
    """Return the shares that a text such as 0.1,0.25,1 names; InputError where one is no number."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(
            f"--label-fractions {text!r} must be numbers above 0 and up to 1 with commas between, such as 0.1,0.25,0.5,1."
        ) from error


def show(found: "LabelEfficiency", store: "TokenStore", seconds: float) -> None:
    """Print a line a share, and what belongs beside it."""
    from rich.markup import escape

    settings, console = found.settings, out()
    given = ", ".join(f"{name} {value}" for name, value in settings["hyper"].items())
    what = f"{settings['dataset']} · {settings['task']}"
    console.print(
        f"\n[bold]{escape(what)}[/] · {settings['probe']} probe{escape(f' ({given})') if given else ''} on "
        f"{escape(str(store.group.attrs.get('encoder')))} · label efficiency, protocol nested"
    )
    console.print(_table(found))
    draws = int(found.by_fraction()["seeds"].max())
    spread = f"mean ± sd of {draws} draws of each share" if draws > 1 else "one draw of each share"
    console.print(f"Means over {settings['folds']} folds, {spread}; test parts are whole.")
    shared = found.shared["patients"]
    colour = "green" if shared == 0 else "red"
    console.print(f"[{colour}]{shared} patients shared[/] between train and test · {seconds:.1f} s")
    for note in found.notes:
        console.print(f"[yellow]note[/] {escape(note)}")


def _table(found: "LabelEfficiency") -> Any:
    """Return the table, which fits 80 columns."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    names = ["accuracy", "balanced_accuracy", "auroc"] if found.task.classes else ["mae", "rmse", "r2"]
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=0)
    table.add_column("\nshare", no_wrap=True)
    table.add_column(f"labelled\n{found.unit}s", justify="right", no_wrap=True)
    table.add_column("\nvideos", justify="right", no_wrap=True)
    for name in names:
        table.add_column(f"\n{HEADS[name]}", justify="right", no_wrap=True)
        if name == found.metric:
            table.add_column("95 %\ninterval", justify="right", no_wrap=True)
    for row in found.by_fraction().reset_index().to_dict("records"):
        cells = []
        for name in names:
            value, sd = row[name], row[f"{name}_sd"]
            cells.append(number(name, value) + (f" ± {number(name, sd)}" if sd == sd else ""))
            if name == found.metric:
                cells.append("–".join(number(name, bound) for bound in found.intervals[row["fraction"]]))
        table.add_row(f"{row['fraction']:g}", f"{row['patients']:.1f}", f"{row['videos']:.1f}", *cells)
    table.add_section()
    guesses = [cell for name in names for cell in [number(name, found.guess[name])] + [""] * (name == found.metric)]
    table.add_row("majority" if found.task.classes else "mean", "", "", *guesses, style="dim")
    return table
