"""`echolung study`: search a probe's hyper-parameters with Optuna, inside the same honest protocol."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echolung.cli import options
from echolung.cli.terminal.console import Steps, out, say, steps
from echolung.cli.terminal.interrupts import INTERRUPTED, say_how_to_go_on
from echolung.errors import InputError

if TYPE_CHECKING:
    from echolung.cache import TokenStore
    from echolung.evaluation.studies import Progress, StudyResult
    from echolung.report.run import Twin

SEARCH = "The search"
WORKERS = "Storage and workers"


def study(
    dataset: Annotated[str | None, typer.Option(help="Take the store of this dataset.")] = None,
    encoder: Annotated[str | None, typer.Option(help="Take the store of this encoder.")] = None,
    store: Annotated[str | None, typer.Option(help="The store: its name, folder or URL; default the only one.")] = None,
    task: Annotated[str | None, typer.Option(help="Default the dataset's first task.")] = None,
    probe: Annotated[str, typer.Option(help="Any probe of echolung probe.")] = "linear",
    cv: Annotated[int, typer.Option(help="Number of outer folds.")] = 5,
    group: Annotated[str | None, typer.Option(help="patient, source or video: kept together.")] = None,
    labels: Annotated[Path | None, typer.Option(help="A CSV with label columns to add or replace.")] = None,
    kind: options.Kind = None,
    epochs: Annotated[int | None, typer.Option(help="Length of training.", min=1)] = None,
    batch: Annotated[int, typer.Option(help="Videos a step.", min=1)] = 16,
    seed: Annotated[int, typer.Option(help="Of folds, weights, batches, sampler.", min=0)] = 0,
    device: Annotated[str, typer.Option(help="auto (a GPU where there is one), cpu, cuda.")] = "auto",
    memory: options.Memory = "4GB",
    precision: options.Precision = "auto",
    fusion: options.Fusion = "early",
    to: Annotated[Path | None, typer.Option("--out", help="Run folder.")] = None,
    mute: Annotated[list[str] | None, typer.Option(help="Code of a check that is not wanted.")] = None,
    report: Annotated[bool, typer.Option(help="Write report.html.")] = True,
    as_json: options.Json = False,
    trials: Annotated[
        int, typer.Option(help="Of each part's study, by all workers.", min=1, rich_help_panel=SEARCH)
    ] = 200,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds after which no round begins.", rich_help_panel=SEARCH)
    ] = None,
    ask: Annotated[int, typer.Option(help="Trials a study is asked a round.", min=1, rich_help_panel=SEARCH)] = 10,
    sampler: Annotated[str, typer.Option(help="Of Optuna: tpe, random, …", rich_help_panel=SEARCH)] = "tpe",
    pruner: Annotated[
        str, typer.Option(help="Of Optuna: median, hyperband, … or none.", rich_help_panel=SEARCH)
    ] = "median",
    hyper: options.Set = None,
    search: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=LOW:HIGH", help="Search this range; repeatable.", rich_help_panel=SEARCH),
    ] = None,
    flat: Annotated[
        bool, typer.Option("--flat", help="One study for all: quick, optimistic.", rich_help_panel=SEARCH)
    ] = False,
    twins: Annotated[
        bool, typer.Option("--twins", help="Search as long for each random twin, too.", rich_help_panel=SEARCH)
    ] = False,
    name: Annotated[str | None, typer.Option(help="Of the study.", rich_help_panel=WORKERS)] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with (or join) this name.", rich_help_panel=WORKERS)
    ] = False,
    storage: Annotated[
        str | None,
        typer.Option(metavar="URL|PATH", help="A database or journal file.", rich_help_panel=WORKERS),
    ] = None,
    lease: Annotated[
        float, typer.Option(help="Seconds until a silent worker is dead.", min=1, rich_help_panel=WORKERS)
    ] = 60.0,
) -> None:
    """Search a probe's hyper-parameters with Optuna; each outer fold is scored by a study that never saw it.

    Started several times with the same --name and --resume, on one machine or many, workers share the trials.
    """
    from echolung.cli.probing.runs import as_twin, check_place, labelled
    from echolung.evaluation.checks.codes import check_codes

    check_place(to)
    check_codes(mute or [])
    opened = options.pick_store(store, dataset, encoder)
    manifest, of_labels = labelled(opened, task, labels, kind)
    arguments: dict[str, Any] = {
        "task": task, "manifest": manifest, "probe": probe, "trials": trials, "timeout": timeout, "ask": ask, "cv": cv,
        "group": group, "sampler": sampler, "pruner": pruner, "storage": storage, "resume": resume, "flat": flat,
        "epochs": epochs, "batch": batch, "seed": seed, "lease": lease, "memory": options.read_size(memory),
        "precision": precision, "fusion": fusion, "hyper": options.read_hyper(hyper), "ranges": _ranges(search),
    }  # fmt: skip
    name = name or _name(opened, probe, resume)
    there = options.find_twins(opened) if twins else []
    if twins and not there:
        raise InputError(
            f"--twins: beside {opened.path.name} lies no finished store of the same clips by the same network with random "
            "weights. Make one: the same echolung extract with --encoder random:ARCHITECTURE@0."
        )
    began = time.perf_counter()
    with _resumable(name, resume):
        found = _run(opened, name, device, arguments)
        found = replace(found, result=replace(found.result, settings={**found.result.settings, **of_labels}))
        beside = [as_twin(other, _run(other, _twin_name(name, other), device, arguments).result) for other in there]
    _show_and_save(found, opened, began, to, as_json, mute or [], report, beside)


def _name(store: "TokenStore", probe: str, resume: bool) -> str:
    from echolung.settings import home

    if resume:
        known = [path.stem for path in sorted((home() / "studies").glob("*.log"))]
        there = f"; there are: {', '.join(known)}" if known else ""
        raise InputError(f"--resume goes on with a study of a certain name: say which with --name{there}.")
    return f"{store.snapshot.dataset}-{probe}-{time.strftime('%Y%m%d-%H%M%S')}"


def _twin_name(name: str, twin: "TokenStore") -> str:
    return f"{name}-twin-{twin.key['encoder'].get('seed', 0)}"


@contextmanager
def _resumable(name: str, resume: bool) -> Iterator[None]:
    """Let an interrupt say how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        say_how_to_go_on(*([] if "--name" in sys.argv else ["--name", name]), *([] if resume else ["--resume"]))
        raise SystemExit(INTERRUPTED) from None  # says enough: the root command need not add to it


def _run(store: "TokenStore", name: str, device: str, arguments: dict[str, Any]) -> "StudyResult":
    """Run the study with a bar."""
    from echolung.device import pick_device
    from echolung.evaluation.studies import run_study

    say(f"Study: {name}")
    with steps("Trials", "trials") as bar:
        return run_study(
            store,
            **arguments,
            name=name,
            device=str(pick_device(device)),
            tell=bar.log,
            progress=lambda p: _advance(bar, p),
        )


def _advance(bar: Steps, progress: "Progress") -> None:
    """Show how many trials are done, and the best loss on all data so far."""
    if bar.total == 0:
        bar.start(progress.done, progress.total)
        return
    bar.title = f"Trials, best {progress.best:.4f}"
    if bar.bar is not None and bar.task is not None:
        bar.bar.update(bar.task, description=bar.title)
    bar.advance(progress.done - bar.done)


def _show_and_save(
    found: "StudyResult",
    store: "TokenStore",
    began: float,
    to: Path | None,
    as_json: bool,
    mute: list[str],
    report: bool,
    twins: "Sequence[Twin]",
) -> None:
    from rich.markup import escape

    from echolung.cli.probing.conclusion import conclude, write_report
    from echolung.report.study import save_study

    told = found.result.settings["study"]["told"]
    chosen = {part: {**choice.setting, "epoch": choice.epoch} for part, choice in found.choices.items()}
    extra = {"chosen": chosen} if as_json else None
    folder = conclude(
        found.result, store, began, to=to, as_json=as_json, twins=twins, mute=mute, report=False, extra=extra
    )  # fmt: skip
    if not as_json:
        out().print(f"Study {escape(found.name)}: {told['complete']} trials finished, {told['pruned']} pruned")
    save_study(found, folder)
    if report:
        write_report(folder, store)


def _ranges(items: list[str] | None) -> dict[str, tuple[float, float]]:
    """Return KEY=LOW:HIGH texts as a dict; InputError where one is none."""
    ranges = {}
    for item in items or []:
        key, _, text = item.partition("=")
        try:
            low, high = (float(part) for part in text.split(":"))
        except ValueError as error:
            raise InputError(f"--search {item} must be NAME=LOW:HIGH, such as --search lr=1e-5:1e-1.") from error
        ranges[key.strip().replace("-", "_")] = (low, high)
    return ranges
