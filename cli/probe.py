"""`echolung probe`: token store × task -> a cross-validated result."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echolung.cli import options
from echolung.cli.console import out, print_json, say
from echolung.errors import InputError

if TYPE_CHECKING:
    from echolung.cache import TokenStore
    from echolung.datasets import Manifest
    from echolung.evaluation import Result
    from echolung.evaluation.summary import Summary

PER_CENT = ("accuracy", "balanced_accuracy")

HEADS = {
    "accuracy": "accuracy %",
    "balanced_accuracy": "bal. acc. %",
    "auroc": "AUROC",
    "qwk": "weighted kappa",
    "score_mae": "MAE of score",
    "mae": "MAE",
    "rmse": "RMSE",
    "r2": "R²",
}

WIDE, LONGEST = 105, 24
"""Columns from which the table has room for the chosen settings, where these take so many at most."""


def probe(
    dataset: Annotated[str | None, typer.Option(help="Take the store of this dataset.")] = None,
    encoder: Annotated[str | None, typer.Option(help="Take the store of this encoder.")] = None,
    store: Annotated[
        str | None, typer.Option(help="The store, a folder or URL; default the only one that fits.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="What to ask; default the dataset's first task.")] = None,
    probe: Annotated[str, typer.Option(help="linear, logistic, knn, mlp, attentive-lite or attentive.")] = "linear",
    cv: Annotated[int, typer.Option(help="Number of folds.")] = 5,
    protocol: Annotated[str, typer.Option(help="nested (honest), or seed (as published, optimistic).")] = "nested",
    split: Annotated[str | None, typer.Option(help="Instead of folds: 60/20/20, or official.")] = None,
    group: Annotated[str | None, typer.Option(help="What folds keep together: patient, source or video.")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="A CSV with video_id and label columns to add or replace.")
    ] = None,
    kind: options.Kind = None,
    label_fractions: Annotated[
        str | None,
        typer.Option(help="Learn from shares of the patients, such as 0.1,0.25,0.5,1: a curve of label efficiency."),
    ] = None,
    label_seeds: Annotated[int, typer.Option(help="Random draws of each share.", min=1)] = 5,
    depth: Annotated[
        int | None, typer.Option(help="attentive: blocks; 4 as V-JEPA 2, for a GPU.", rich_help_panel=options.TRAINING)
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(
            help="cross-entropy, coral (ordered classes); smooth-l1, l1, mse.", rich_help_panel=options.TRAINING
        ),
    ] = None,
    fusion: options.Fusion = "early",
    hyper: options.Set = None,
    epochs: Annotated[
        int | None, typer.Option(help="Length of training; default 50.", min=1, rich_help_panel=options.TRAINING)
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            help="Stop a setting after so many epochs without a lesser loss.", min=1, rich_help_panel=options.TRAINING
        ),
    ] = None,
    batch: Annotated[int, typer.Option(help="Videos a step.", min=1, rich_help_panel=options.TRAINING)] = 16,
    seed: Annotated[
        int, typer.Option(help="Of folds, initial weights and batches.", min=0, rich_help_panel=options.TRAINING)
    ] = 0,
    device: Annotated[str, typer.Option(help="auto (a GPU where there is one), cpu, cuda.")] = "auto",
    memory: options.Memory = "4GB",
    precision: options.Precision = "auto",
    to: Annotated[
        Path | None, typer.Option("--out", help="Run folder; default a new one under ECHOLUNG_HOME/runs.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Train and evaluate a probe on a token store, and save the predictions, the probe and how they came about."""
    arguments: dict[str, Any] = {
        "probe": probe,
        "group": group,
        "cv": cv,
        "epochs": epochs,
        "batch": batch,
        "seed": seed,
        "memory": options.read_size(memory),
        "precision": precision,
        "fusion": fusion,
        "patience": patience,
        "hyper": options.read_hyper(hyper, depth=depth, loss=loss),
    }
    opened = options.pick_store(store, dataset, encoder)
    where: dict[str, Any] = {"labels": labels, "kinds": kind, "device": device, "to": to, "as_json": as_json}
    if label_fractions is not None:
        from echolung.cli.label_efficiency import run_label_efficiency

        if protocol != "nested" or split:
            raise InputError("--label-fractions goes with --protocol nested only.")
        run_label_efficiency(opened, label_fractions, label_seeds, task=task, **where, **arguments)
        return
    run_probe(opened, task=task, protocol=protocol, split=split, **where, **arguments)


def run_probe(
    store: "TokenStore",
    *,
    labels: Path | None = None,
    kinds: list[str] | None = None,
    device: str = "auto",
    to: Path | None = None,
    as_json: bool = False,
    **arguments: Any,
) -> Path:
    """Cross-validate, save, show; return the run's folder."""
    from echolung.device import pick_device
    from echolung.evaluation import cross_validate
    from echolung.evaluation.summary import summarise
    from echolung.report.record import save_run

    began = time.perf_counter()
    check_place(to)
    manifest, of_labels = labelled(store, arguments.get("task"), labels, kinds)
    arguments |= {"manifest": manifest, "device": str(pick_device(device)), "tell": say}
    result = cross_validate(store, **arguments)
    result = replace(result, settings={**result.settings, **of_labels})
    summary = summarise(result)
    twin = options.find_twin(store)
    twin_summary = summarise(cross_validate(twin, **arguments)) if twin else None
    seconds = time.perf_counter() - began
    # Shown first: if saving fails, the result has at least been seen.
    if not as_json:
        show(result, summary, store, seconds, twin_summary)
    folder = save_run(result, summary, store, seconds, to, twin_summary)
    if as_json:
        print_json(
            {"run": str(folder), "settings": result.settings, "metrics": summary.to_json(), "notes": list(result.notes)}
        )
    else:
        say(f"Saved in {folder}")
    return folder


def labelled(
    store: "TokenStore", task: str | None, labels: Path | None, kinds: list[str] | None
) -> "tuple[Manifest | None, dict[str, str]]":
    """Return the store's table with the labels of a CSV (None without one), and what to record of that CSV.

    Says which task is taken where none is named.
    """
    manifest = options.labelled_manifest(store, labels, kinds) if labels else None
    if task is None:
        say(f"Task: {next(iter(manifest.tasks if manifest else store.snapshot.tasks), None)} (the first)")
    if labels is None:
        return manifest, {}
    return manifest, {"labels": labels.name, "labels_digest": hashlib.sha256(labels.read_bytes()).hexdigest()}


def check_place(to: Path | None) -> None:
    """Find out before hours of training whether the result can be saved."""
    from echolung.settings import home, make_folder

    if to is None:
        make_folder(home() / "runs")
        return
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise InputError(f"There is something at {to} already; name a new folder with --out.")
    make_folder(to)


def show(
    result: "Result", summary: "Summary", store: "TokenStore", seconds: float, twin: "Summary | None" = None
) -> None:
    """Print the table of folds and what belongs beside every number."""
    from rich.markup import escape

    from echolung.evaluation.result import is_optimistic

    settings = result.settings
    console = out()
    optimistic = " [bold red](optimistic)[/]" if is_optimistic(settings) else ""
    given = ", ".join(f"{name} {value}" for name, value in settings.get("hyper", {}).items())
    console.print(
        f"\n[bold]{settings['dataset']} · {settings['task']}[/] · {settings['probe']} probe{f' ({given})' if given else ''} on "
        f"{escape(str(store.group.attrs.get('encoder')))} · protocol {settings['protocol']}{optimistic}"
    )
    keys = _setting_keys(result)
    longest = max(len(_setting(choice, keys)) for choice in result.chosen)
    wide = console.width >= WIDE and longest <= LONGEST
    console.print(_fold_table(result, summary, twin, wide))
    if not wide:
        names = " · ".join(_short(key) for key in keys)
        chosen = ", ".join(f"fold {i}: {_setting(choice, keys)}" for i, choice in enumerate(result.chosen))
        console.print(f"Chosen ({names}): {chosen}")
    for line in _beside(result, summary, seconds):
        console.print(line)
    for note in result.notes:
        console.print(f"[yellow]note[/] {escape(note)}")


def _setting_keys(result: "Result") -> list[str]:
    """Return what was chosen: hyper-parameters that differ between the settings, and the epoch."""
    grid = result.settings.get("grid", [])
    same = (
        {key for key in grid[0] if len(grid) > 1 and len({str(setting[key]) for setting in grid}) == 1} if grid else {}
    )
    return [key for key in result.chosen[0] if key not in same and (key != "epoch" or result.settings["epochs"] > 1)]


def _setting(chosen: dict[str, Any], keys: list[str]) -> str:
    return " · ".join(str(v) if isinstance(v := chosen[key], str) else f"{v:.3g}" for key in keys)


def _fold_table(result: "Result", summary: "Summary", twin: "Summary | None", wide: bool) -> Any:
    """Return the table; where the terminal is narrow without the settings, and with three metrics at most."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    names = _shown(result) if wide else _shown(result)[:3]
    keys = _setting_keys(result)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1) if wide else (0, 1, 0, 0))
    table.add_column("\nfold", no_wrap=True, min_width=14)
    for part in ("train", "test"):
        table.add_column(f"{part}\npat./vid.", justify="right", no_wrap=True)
    if wide:
        table.add_column("chosen\n" + " · ".join(_short(key) for key in keys), no_wrap=True)
    for name in names:
        table.add_column(f"\n{HEADS[name]}", justify="right", no_wrap=True)

    def row(label: str, about: str, cells: list[str], sizes: Sequence[str] = ("", ""), style: str = "") -> None:
        table.add_row(label, *sizes, *([about] if wide else []), *cells, style=style)

    rows = zip(result.folds.iterrows(), result.chosen, summary.folds.iterrows(), strict=True)
    for (_, fold), chosen, (_, values) in rows:
        sizes = [f"{fold[f'patients_{part}']}/{fold[f'videos_{part}']}" for part in ("train", "test")]
        cells = [number(name, values[name]) for name in names]
        row(str(fold["fold"]), _setting(chosen, keys), cells, sizes)
    table.add_section()
    if len(result.folds) > 1:
        row("mean ± sd", "", _spread(summary, names), style="bold")
    row("95 % interval", "pooled, by patient", [_interval(name, summary.interval.get(name)) for name in names])
    if twin is not None:
        row("random twin", "same model, untrained", _spread(twin, names), style="dim")
    guess = "majority class" if result.task.classes else "mean"
    row(guess, "guessing", [number(name, summary.guess[name]) for name in names], style="dim")
    return table


def _spread(summary: "Summary", names: list[str]) -> list[str]:
    return [f"{number(n, summary.mean[n])} ± {number(n, summary.sd[n])}" for n in names]


def _shown(result: "Result") -> list[str]:
    if result.task.kind == "regression":
        return ["mae", "rmse", "r2"]
    return ["accuracy", "balanced_accuracy", "auroc", *(["qwk", "score_mae"] if result.task.ordinal else [])]


def _beside(result: "Result", summary: "Summary", seconds: float) -> list[str]:
    settings, shared = result.settings, result.shared
    lines = []
    if summary.patients_per_class:
        counts = ", ".join(f"{name} {count}" for name, count in summary.patients_per_class.items())
        where = " in the test part" if "split" in settings else ""
        lines.append(f"Patients per class{where}: {counts}")
    colour = "green" if shared["patients"] == 0 else "red"
    shares = f"[{colour}]{shared['patients']} patients shared[/] between train and test"
    if settings["group"] == "source":
        colour = "green" if shared["groups"] == 0 else "red"
        shares += f", [{colour}]{shared['groups']} sources shared[/]"
    lines.append(shares)
    if summary.patient:
        names = [n for n in _shown(result) if n in summary.patient]
        values = ", ".join(
            f"{n.replace('_', ' ')} {number(n, summary.patient[n])}{' %' if n in PER_CENT else ''}" for n in names
        )
        mixed = f" ({summary.mixed_patients} with videos of several classes left out)" if summary.mixed_patients else ""
        lines.append(f"One prediction a patient: {values}{mixed}")
    lines.append(f"{len(result.predictions)} videos scored once each · {seconds:.1f} s")
    return lines


def number(metric: str, value: float) -> str:
    """Return a metric as tables show it: per cent, three decimals, or "—" where it is not defined."""
    if value != value:
        return "—"
    if metric in PER_CENT:
        return f"{100 * value:.1f}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _interval(metric: str, interval: tuple[float, float] | None) -> str:
    return "" if interval is None else " – ".join(number(metric, value) for value in interval)


def _short(name: str) -> str:
    return {"weight_decay": "wd", "label_smoothing": "smooth", "class_weights": "weights"}.get(name, name)
