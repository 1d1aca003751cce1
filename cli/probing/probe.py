"""`echolung probe`: token store × task -> a cross-validated result."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echolung.cli import options
from echolung.cli.probing.runs import run_probe, run_transfer
from echolung.errors import InputError

if TYPE_CHECKING:
    from echolung.probes.start import Start

ACROSS = "Across datasets"
EVIDENCE = "Evidence"


def probe(
    where: Annotated[str | None, typer.Argument(metavar="STORE", help="The store, as with --store.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Take the store of this dataset.")] = None,
    encoder: Annotated[str | None, typer.Option(help="Take the store of this encoder.")] = None,
    store: Annotated[
        str | None, typer.Option(help="The store: its name, folder or URL; default the only one that fits.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="What to ask; default the dataset's first task.")] = None,
    probe: Annotated[
        str | None, typer.Option(help="linear (default), logistic, knn, mlp, attentive-lite or attentive.")
    ] = None,
    cv: Annotated[int, typer.Option(help="Number of folds.")] = 5,
    repeats: Annotated[
        int, typer.Option(help="Cross-validate so often, with other folds each time.", min=1, rich_help_panel=EVIDENCE)
    ] = 1,
    permutations: Annotated[
        int | None,
        typer.Option(
            help="Repeat everything with so many permutations of the labels: p.", min=1, rich_help_panel=EVIDENCE
        ),
    ] = None,
    protocol: Annotated[str, typer.Option(help="nested (honest), or seed (as published, optimistic).")] = "nested",
    leave_pair_out: Annotated[
        int | None,
        typer.Option(
            metavar="PAIRS",
            help="Tiny cohorts: also AUROC over so many pairs of patients.",
            min=1,
            rich_help_panel=EVIDENCE,
        ),
    ] = None,
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
    test: Annotated[
        str | None, typer.Option(help="Predict this store, of another dataset.", rich_help_panel=ACROSS)
    ] = None,
    mapping: Annotated[
        str | None,
        typer.Option("--map", metavar="CLASS=CLASS,…", help="Class learnt = class predicted.", rich_help_panel=ACROSS),
    ] = None,
    test_task: Annotated[
        str | None,
        typer.Option(help="Task of the other store; default the same, or its first.", rich_help_panel=ACROSS),
    ] = None,
    mute: Annotated[
        list[str] | None,
        typer.Option(help="Code of a check that is not wanted; repeatable.", rich_help_panel=EVIDENCE),
    ] = None,
    diagnose: Annotated[
        bool,
        typer.Option(
            help="Keep inner predictions, calibrate, and show what choosing on the test folds would give.",
            rich_help_panel=EVIDENCE,
        ),
    ] = True,
    report: Annotated[bool, typer.Option(help="Write report.html.", rich_help_panel=EVIDENCE)] = True,
    only_fold: Annotated[
        int | None, typer.Option(help="seed protocol: this fold alone.", rich_help_panel=options.TRAINING)
    ] = None,
    depth: Annotated[
        int | None, typer.Option(help="attentive: blocks; 4 as V-JEPA 2, for a GPU.", rich_help_panel=options.TRAINING)
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(
            help="cross-entropy, coral (ordered classes); smooth-l1, l1, mse.", rich_help_panel=options.TRAINING
        ),
    ] = None,
    start_from: Annotated[
        str | None,
        typer.Option(
            metavar="PLACE",
            help="Begin from a saved head: a folder, a run, the name of a checkpoint that has one, CoReEcho's best.pth.",
            rich_help_panel=options.TRAINING,
        ),
    ] = None,
    as_is: Annotated[
        bool, typer.Option("--as-is", help="Score that head itself: no training.", rich_help_panel=options.TRAINING)
    ] = False,
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
        **_begun(probe, start_from, as_is),
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
    if where is not None and store is not None:
        raise InputError(f"The store is given twice: {where} and --store {store}.")
    if as_is and (test or label_fractions or permutations or leave_pair_out or repeats > 1):
        raise InputError("--as-is trains nothing: nothing can be repeated. Name the store to be scored with --store.")
    opened = options.pick_store(where or store, dataset, encoder)
    place: dict[str, Any] = {"labels": labels, "kinds": kind, "device": device, "to": to, "as_json": as_json}
    ending: dict[str, Any] = {"mute": mute or (), "report": report}
    if test is not None:
        if protocol != "nested" or split or repeats > 1 or permutations or leave_pair_out or label_fractions:
            raise InputError(
                "--test predicts another store once; it does not go with other protocols, splits or repeats."
            )
        run_transfer(opened, test=test, mapping=mapping, test_task=test_task, task=task, **place, **ending, **arguments)
        return
    if mapping or test_task:
        raise InputError("--map and --test-task say how classes meet those of another store: name it with --test.")
    if label_fractions is not None:
        from echolung.cli.probing.label_efficiency import run_label_efficiency

        if protocol != "nested" or split or repeats > 1 or permutations or leave_pair_out:
            raise InputError("--label-fractions goes with one nested round, and with nothing that repeats it.")
        run_label_efficiency(opened, label_fractions, label_seeds, task=task, **place, **arguments)
        return
    if (permutations or leave_pair_out) and (protocol != "nested" or split):
        raise InputError("--permutations and --leave-pair-out repeat the nested procedure: each goes with no other.")
    how: dict[str, Any] = {
        "protocol": protocol,
        "split": split,
        "repeats": repeats,
        "diagnose": diagnose,
        "only_fold": only_fold,
        "as_is": as_is,
    }
    more: dict[str, Any] = {"permutations": permutations, "pairs": leave_pair_out}
    run_probe(opened, task=task, **more, **how, **place, **ending, **arguments)


def _begun(probe: str | None, start_from: str | None, as_is: bool) -> dict[str, Any]:
    """Return the kind of probe and the head that it begins from (None: random parameters).

    Raises:
        InputError: there is no such head, or it is of another kind.
    """
    if start_from is None:
        if as_is:
            raise InputError("--as-is scores a saved head: name it with --start-from.")
        return {"probe": probe or "linear"}
    start = _head(start_from)
    if probe not in (None, start.probe.kind):
        raise InputError(
            f"--probe {probe}: the head {start.name} is of the kind {start.probe.kind}. Leave out --probe."
        )
    return {"probe": start.probe.kind, "start": start}


def _head(place: str) -> "Start":
    if place.partition("#")[0].endswith((".pth", ".pt")):  # PyTorch's files, in which echolung saves no head of its own
        from echolung.pretraining.labelled.published_head import published_head

        return published_head(place)
    from echolung.probes.start import load_start

    return load_start(place)
