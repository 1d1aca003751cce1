"""`echolung probe`: token store × task -> a cross-validated result."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echolung.cli import options
from echolung.cli.conclusion import conclude
from echolung.cli.console import say, steps
from echolung.errors import InputError

if TYPE_CHECKING:
    from echolung.cache import TokenStore
    from echolung.datasets import Manifest

ACROSS = "Across datasets"

ASKED = (
    "task", "manifest", "probe", "hyper", "cv", "group", "epochs", "batch", "seed", "device", "memory", "precision", "fusion",
)  # fmt: skip
"""Arguments that are fields of a question."""


def probe(
    where: Annotated[str | None, typer.Argument(metavar="[STORE]", help="The store, as with --store.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Take the store of this dataset.")] = None,
    encoder: Annotated[str | None, typer.Option(help="Take the store of this encoder.")] = None,
    store: Annotated[
        str | None, typer.Option(help="The store, a folder or URL; default the only one that fits.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="What to ask; default the dataset's first task.")] = None,
    probe: Annotated[str, typer.Option(help="linear, logistic, knn, mlp, attentive-lite or attentive.")] = "linear",
    cv: Annotated[int, typer.Option(help="Number of folds.")] = 5,
    repeats: Annotated[int, typer.Option(help="Cross-validate so often, with other folds each time.", min=1)] = 1,
    permutations: Annotated[
        int | None, typer.Option(help="Repeat everything with so many permutations of the labels: p.", min=1)
    ] = None,
    protocol: Annotated[str, typer.Option(help="nested (honest), or seed (as published, optimistic).")] = "nested",
    leave_pair_out: Annotated[
        int | None,
        typer.Option(metavar="PAIRS", help="Tiny cohorts: also AUROC over so many pairs of patients.", min=1),
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
    mute: Annotated[list[str] | None, typer.Option(help="Code of a check that is not wanted; repeatable.")] = None,
    diagnose: Annotated[
        bool,
        typer.Option(help="Keep inner predictions, calibrate, and show what choosing on the test folds would give."),
    ] = True,
    report: Annotated[bool, typer.Option(help="Write report.html.")] = True,
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
    if where is not None and store is not None:
        raise InputError(f"The store is given twice: {where} and --store {store}.")
    opened = options.pick_store(where or store, dataset, encoder)
    place: dict[str, Any] = {"labels": labels, "kinds": kind, "device": device, "to": to, "as_json": as_json}
    ending: dict[str, Any] = {"mute": mute or (), "report": report}
    if test is not None:
        if protocol != "nested" or split or repeats > 1 or permutations or label_fractions:
            raise InputError(
                "--test predicts another store once; it does not go with other protocols, splits or repeats."
            )
        across = {"test": test, "mapping": mapping, "test_task": test_task}
        run_transfer(opened, **across, task=task, **place, **ending, **arguments)
        return
    if mapping or test_task:
        raise InputError("--map and --test-task say how classes meet those of another store: name it with --test.")
    if label_fractions is not None:
        from echolung.cli.label_efficiency import run_label_efficiency

        if protocol != "nested" or split:
            raise InputError("--label-fractions goes with --protocol nested only.")
        run_label_efficiency(opened, label_fractions, label_seeds, task=task, **place, **arguments)
        return
    if permutations and (protocol != "nested" or split):
        raise InputError("--permutations repeats the nested procedure, and goes with no other.")
    how: dict[str, Any] = {
        "protocol": protocol,
        "split": split,
        "repeats": repeats,
        "diagnose": diagnose,
        "only_fold": only_fold,
    }
    more: dict[str, Any] = {"permutations": permutations, "pairs": leave_pair_out}
    run_probe(opened, task=task, **more, **how, **place, **ending, **arguments)


def run_probe(
    store: "TokenStore",
    *,
    labels: Path | None = None,
    kinds: list[str] | None = None,
    device: str = "auto",
    to: Path | None = None,
    as_json: bool = False,
    permutations: int | None = None,
    pairs: int | None = None,
    mute: Sequence[str] = (),
    report: bool = True,
    **arguments: Any,
) -> Path:
    """Cross-validate, the random twins too, check, save, show; return the run's folder."""
    from echolung.device import pick_device
    from echolung.evaluation import cross_validate
    from echolung.evaluation.checks.codes import check_codes
    from echolung.evaluation.summary import summarise
    from echolung.report.run import Twin

    began = time.perf_counter()
    check_place(to)
    check_codes(mute)
    manifest, of_labels = labelled(store, arguments.get("task"), labels, kinds)
    arguments |= {"manifest": manifest, "device": str(pick_device(device)), "tell": say}
    result = cross_validate(store, **arguments)
    result = replace(result, settings={**result.settings, **of_labels})
    twins = []
    for other in options.find_twins(store):
        found = cross_validate(other, **{**arguments, "diagnose": False})
        name = str(other.group.attrs.get("encoder"))
        twins.append(Twin(name, other.path.name, found, summarise(found)))
    asked = {name: value for name, value in arguments.items() if name in ASKED}
    extra: dict[str, Any] = {}
    if permutations:
        extra["permutation"] = _permute(store, permutations, asked)
    if pairs:
        extra["leave_pair_out"] = _leave_pairs_out(store, pairs, asked)
    ending: dict[str, Any] = {"twins": twins, "mute": mute, "report": report, "extra": extra}
    return conclude(result, store, began, to=to, as_json=as_json, **ending)


def _permute(store: "TokenStore", permutations: int, asked: dict[str, Any]) -> dict[str, Any]:
    """Return what came of permuted labels, shown as it goes."""
    from echolung.evaluation.permutations import permutation_test

    with steps("Permutations", "permutations", permutations) as bar:
        found = permutation_test(store, permutations=permutations, progress=bar.advance, **asked)
    return found.to_json()


def _leave_pairs_out(store: "TokenStore", pairs: int, asked: dict[str, Any]) -> dict[str, Any]:
    """Return the AUROC over pairs of patients, shown as it goes."""
    from echolung.evaluation.pairwise import leave_pair_out_auroc

    with steps("Leaving pairs out", "pairs", pairs) as bar:
        found = leave_pair_out_auroc(store, most=pairs, progress=bar.advance, **asked)
    return {"auroc": found.value, "pairs": len(found.pairs)}


def run_transfer(
    store: "TokenStore",
    *,
    test: str,
    mapping: str | None,
    test_task: str | None,
    labels: Path | None = None,
    kinds: list[str] | None = None,
    device: str = "auto",
    to: Path | None = None,
    as_json: bool = False,
    mute: Sequence[str] = (),
    report: bool = True,
    **arguments: Any,
) -> Path:
    """Learn from one store and predict another; return the run's folder."""
    from echolung.cache import TokenStore
    from echolung.device import pick_device
    from echolung.evaluation.checks.codes import check_codes
    from echolung.evaluation.transfer import read_mapping, transfer

    began = time.perf_counter()
    check_place(to)
    check_codes(mute)
    manifest, of_labels = labelled(store, arguments.get("task"), labels, kinds)
    arguments |= {"manifest": manifest, "device": str(pick_device(device)), "tell": say}
    other = TokenStore.open(test)
    classes = read_mapping(mapping) if mapping else None
    result = transfer(store, other, classes=classes, test_task=test_task, **arguments)
    result = replace(result, settings={**result.settings, **of_labels})
    return conclude(result, other, began, to=to, as_json=as_json, mute=mute, report=report)


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
