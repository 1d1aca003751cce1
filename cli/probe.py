"""`echolung probe`: token store × task -> a cross-validated result."""

import hashlib
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echolung.cli import options
from echolung.cli.console import print_json, say
from echolung.cli.probe_table import show
from echolung.errors import InputError

if TYPE_CHECKING:
    from echolung.cache import TokenStore
    from echolung.datasets import Manifest


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
