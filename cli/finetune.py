"""`echolung finetune`: the upper stages of an encoder learn with a head, on the folds of a probe."""

import hashlib
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echolung.cli import options
from echolung.cli.probing.conclusion import conclude
from echolung.cli.probing.runs import check_place, labelled
from echolung.cli.report import find_run, run_store
from echolung.cli.terminal.console import Steps, say, steps
from echolung.errors import InputError

if TYPE_CHECKING:
    from echolung.cache import TokenStore
    from echolung.finetuning.run import Asked, Session

QUESTION, LEARNING, MACHINE = "What is asked, where no run says it", "How it learns", "How it is computed"


def finetune(
    store_of: Annotated[
        str | None,
        typer.Option(
            metavar="RUN|STORE", help="A run, whose task and folds are taken; or a store. Default: the only one."
        ),
    ] = None,
    unfreeze: Annotated[
        str, typer.Option(help="last:K stages of the encoder learn, or all, or none: the head alone.")
    ] = "last:2",
    from_scratch: Annotated[
        bool,
        typer.Option("--from-scratch", help="Begin with random weights of the same architecture; all stages learn."),
    ] = False,
    dataset: Annotated[str | None, typer.Option(help="Take the store of this dataset.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Where the videos are (of a table its CSV); default ECHOLUNG_HOME/data/<name>."
        ),
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="Where the encoder's weights are now, if not where its name says.")
    ] = None,
    store: Annotated[str | None, typer.Option(help="Where the run's store is now.")] = None,
    task: Annotated[
        str | None, typer.Option(help="Default the dataset's first task.", rich_help_panel=QUESTION)
    ] = None,
    cv: Annotated[int | None, typer.Option(help="Number of folds; default 5.", rich_help_panel=QUESTION)] = None,
    split: Annotated[
        str | None, typer.Option(help="Instead of folds: 60/20/20, or official.", rich_help_panel=QUESTION)
    ] = None,
    group: Annotated[
        str | None, typer.Option(help="What folds keep together: patient, source or video.", rich_help_panel=QUESTION)
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="A CSV with video_id and label columns to add or replace.")
    ] = None,
    kind: options.Kind = None,
    seed: Annotated[int | None, typer.Option(help="Of the folds; default 0.", min=0, rich_help_panel=QUESTION)] = None,
    lr: Annotated[
        str | None,
        typer.Option(
            help="Of the encoder's last stage; several, apart by commas, to choose from. Default 1e-4, from scratch 5e-4.",
            rich_help_panel=LEARNING,
        ),
    ] = None,
    decay: Annotated[
        float, typer.Option(help="Of the rate from a layer to the one below it.", rich_help_panel=LEARNING)
    ] = 0.75,
    head: Annotated[str, typer.Option(help="linear or mlp, on the mean token.", rich_help_panel=LEARNING)] = "linear",
    head_lr: Annotated[float, typer.Option(help="Of the head.", rich_help_panel=LEARNING)] = 1e-3,
    weight_decay: Annotated[
        float, typer.Option(help="Of AdamW, on the encoder's matrices.", min=0, rich_help_panel=LEARNING)
    ] = 0.05,
    epochs: Annotated[int, typer.Option(help="Length of training.", min=1, rich_help_panel=LEARNING)] = 20,
    batch: Annotated[int, typer.Option(help="Videos a step.", min=1, rich_help_panel=LEARNING)] = 16,
    warmup: Annotated[
        float, typer.Option(help="Share of the steps in which rates rise.", min=0, max=0.9, rich_help_panel=LEARNING)
    ] = 0.1,
    dropout: Annotated[
        float | None,
        typer.Option(help="Within the encoder; default as its architecture has it.", rich_help_panel=LEARNING),
    ] = None,
    head_dropout: Annotated[float, typer.Option(help="Before the last layer.", rich_help_panel=LEARNING)] = 0.0,
    class_weights: Annotated[
        str, typer.Option(help="none, or balanced: n / (C · n_c).", rich_help_panel=LEARNING)
    ] = "none",
    loss: Annotated[
        str,
        typer.Option(
            help="auto, cross-entropy, coral (ordered classes); smooth-l1, l1, mse.", rich_help_panel=LEARNING
        ),
    ] = "auto",
    batch_norm: Annotated[
        str, typer.Option(help="Statistics fixed, or learnt from batches.", rich_help_panel=LEARNING)
    ] = "fixed",
    views: Annotated[
        bool, typer.Option("--views", help="Learn from the store's random views, too.", rich_help_panel=LEARNING)
    ] = False,
    tuning_seed: Annotated[
        int | None,
        typer.Option(
            help="Of batches, dropout and first weights; default that of the folds.", min=0, rich_help_panel=LEARNING
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(help="auto (a GPU where there is one), cpu, cuda.", rich_help_panel=MACHINE)
    ] = "auto",
    precision: Annotated[
        str, typer.Option(help="auto (bfloat16 on a GPU), float32, bfloat16.", rich_help_panel=MACHINE)
    ] = "auto",
    memory: Annotated[
        str, typer.Option(help="What frames and outputs of frozen stages may take.", rich_help_panel=MACHINE)
    ] = "4GB",
    workers: options.Workers = None,
    keep: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Learn once more from all videos, and keep that encoder under this name."),
    ] = None,
    mute: Annotated[list[str] | None, typer.Option(help="Code of a check that is not wanted; repeatable.")] = None,
    report: Annotated[bool, typer.Option(help="Write report.html.")] = True,
    to: Annotated[
        Path | None, typer.Option("--out", help="Run folder; default a new one under ECHOLUNG_HOME/runs.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Fine-tune the upper stages of a store's encoder on the folds of a probe, so that the two can be compared."""
    from echolung.device import pick_device
    from echolung.evaluation.checks.codes import check_codes
    from echolung.finetuning.run import Machine, prepare
    from echolung.finetuning.source import find_source
    from echolung.finetuning.tuning import Tuning

    began = time.perf_counter()
    check_place(to)
    check_codes(mute or ())
    path = _checkpoint(keep) if keep else None
    known = {"task": task, "cv": cv, "split": split, "group": group, "seed": seed}
    found = _find(store_of, store, dataset, known, labels)
    manifest, of_labels = labelled(found.store, found.asked.task, labels, kind)
    asked = replace(found.asked, manifest=manifest)
    tuning = Tuning(
        unfreeze, from_scratch, _rates(lr), decay, head, head_lr, weight_decay, epochs=epochs, batch=batch, warmup=warmup,
        dropout=dropout, head_dropout=head_dropout, class_weights=class_weights, loss=loss, batch_norm=batch_norm,
        views=views, seed=asked.seed if tuning_seed is None else tuning_seed,
    )  # fmt: skip
    machine = Machine(str(pick_device(device)), precision, options.read_size(memory), workers)
    source = find_source(found.store, data, encoder)
    with steps("Decoding", "videos") as bar:
        session = prepare(source, asked, tuning, replace(machine, watch=_decoding(bar)))
    with session.folder:
        result = _evaluate(session)
        result = replace(result, settings={**result.settings, **of_labels})
        extra = {"folds_of": found.run.name} if found.run else None
        folder = conclude(
            result, found.store, began, to=to, as_json=as_json, mute=mute or (), report=report, extra=extra
        )
        if path is not None:
            with steps("Learning from all videos", "epochs") as bar:
                replace(session, watch=_learning(bar)).keep(path)
            say(f"Kept: {path}, its head in {path.with_suffix('.head')}")
        session.folder.remove()
    if found.run is not None:
        say(f"What it adds over the probe: echolung compare {folder} {found.run}")


@dataclass(frozen=True)
class _Found:
    """What `--store-of` names: the store, what is asked of it, and the run where it is one."""

    store: "TokenStore"
    asked: "Asked"
    run: Path | None


def _find(
    store_of: str | None, store: str | None, dataset: str | None, known: dict[str, Any], labels: Path | None
) -> _Found:
    """Return the store and the question; of a run all of the question is its own."""
    from echolung.finetuning.run import Asked

    given = {name: value for name, value in known.items() if value is not None}
    run = None if store_of is None else find_run(Path(store_of))
    if run is None or not (run / "record.json").is_file():
        if store is not None:
            raise InputError("--store says where the store of a run is now: name the run with --store-of.")
        return _Found(options.pick_store(store_of, dataset, None), Asked(**given), None)
    if given:
        raise InputError(
            f"--{next(iter(given))} is taken from the run {run.name}, so that it can be compared. Leave it out, or name the "
            "store instead of the run."
        )
    return _of_run(run, store, labels)


def _of_run(folder: Path, store: str | None, labels: Path | None) -> _Found:
    from echolung.finetuning.run import Asked
    from echolung.report.run import read_run
    from echolung.settings import home

    run = read_run(folder)
    settings = run.result.settings
    if settings["protocol"] not in ("nested", "split"):
        raise InputError(
            f"{folder.name} has the protocol {settings['protocol']}, whose folds fine-tuning cannot be compared on. Name a run "
            "of the nested protocol or of a split, or the store itself."
        )
    _check_labels(folder, settings, labels)
    name = run.record["store"]["name"]
    if store is None and not (home() / "stores" / name).is_dir():
        raise InputError(f"The store {name} of {folder.name} is not under {home() / 'stores'}: name it with --store.")
    found = run_store(run, store)
    if found is None:
        raise InputError(f"The store of {folder.name} cannot be used: name it with --store.")
    if settings.get("repeats", 1) > 1:
        say(f"{folder.name} was repeated {settings['repeats']} times: the folds of its first round are taken.")
    names = ("task", "group", "split", "seed")
    asked = {name: settings[name] for name in names if settings.get(name) is not None}
    if asked.get("split") == "official":
        asked.pop("group")
    return _Found(found, Asked(**asked, cv=settings.get("folds", 5)), folder)


def _check_labels(folder: Path, settings: dict[str, Any], labels: Path | None) -> None:
    """Refuse other labels than the run had."""
    wanted = settings.get("labels_digest")
    if wanted is None and labels is not None:
        raise InputError(
            f"{folder.name} was made without --labels: leave them out, or name the store instead of the run."
        )
    if wanted is not None and (labels is None or hashlib.sha256(labels.read_bytes()).hexdigest() != wanted):
        raise InputError(
            f"{folder.name} was made with the labels of {settings['labels']}: name that very file with --labels."
        )


def _rates(text: str | None) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError as error:
        raise InputError(f"--lr {text} must be a number, or several apart by commas, such as 1e-4,3e-4.") from error


def _checkpoint(name: str) -> Path:
    """Return where the encoder is kept; InputError where there is one of that name, or the name is a path."""
    from echolung.settings import home

    if Path(name).name != name or name.startswith("."):
        raise InputError(f"--keep {name} must be a name, for a file in ECHOLUNG_HOME/checkpoints.")
    path = home() / "checkpoints" / f"{name.removesuffix('.safetensors')}.safetensors"
    if path.exists() or path.with_suffix(".head").exists():
        raise InputError(f"There is a checkpoint {path} already; name another with --keep.")
    return path


def _evaluate(session: "Session") -> Any:
    with steps("Fine-tuning", "epochs") as bar:
        return replace(session, watch=_learning(bar)).evaluate()


def _decoding(bar: Steps) -> Any:
    from echolung.finetuning.protocol import Watch

    def decoded(done: int, total: int) -> None:
        if done == 1:
            bar.start(0, total)
        bar.advance(1)

    return Watch(tell=bar.log, decoded=decoded)


def _learning(bar: Steps) -> Any:
    from echolung.finetuning.protocol import Watch

    return Watch(bar.start, bar.advance, bar.log)
