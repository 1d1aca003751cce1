"""`echolung pretrain`: a pool of videos × a recipe -> a checkpoint that `echolung extract` takes."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from echolung.cli import options
from echolung.cli.pretraining.recipes import pick_recipe
from echolung.cli.pretraining.run import Run
from echolung.cli.pretraining.runs import Asked, Tell, find_run, is_first, new_run, own_recipe, read_asked
from echolung.cli.terminal.console import say
from echolung.cli.terminal.interrupts import INTERRUPTED
from echolung.errors import InputError

VIDEOS, RUN, MACHINE = "What it learns from", "The run", "How it is computed"


def pretrain(
    objective: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="jepa (no labels; the default), coreecho, echocotr or supervised (labels)."),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(metavar="NAME|FILE.toml", help="Default: what suits the device.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change a key of the recipe; repeatable."),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(metavar="NAME[:WEIGHT],…", help="Default: every cardiac dataset at home.", rich_help_panel=VIDEOS),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Where it is; of several, a folder that holds each. Default: ECHOLUNG_HOME/data.",
            rich_help_panel=VIDEOS,
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="Which labels are learnt; default the dataset's first task.", rich_help_panel=VIDEOS),
    ] = None,
    view: options.View = None,
    fold: options.Fold = None,
    all_splits: Annotated[
        bool,
        typer.Option("--all-splits", help="Learn from validation and test videos, too.", rich_help_panel=VIDEOS),
    ] = False,
    pack: Annotated[
        Path | None,
        typer.Option(metavar="FILE.h5", help="The videos, decoded by `echolung data pack`.", rich_help_panel=VIDEOS),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of run and checkpoint; default <recipe>-<dataset>.", rich_help_panel=RUN)
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option("--out", help="Run folder; default in ECHOLUNG_HOME/pretraining.", rich_help_panel=RUN),
    ] = None,
    trial: Annotated[
        int | None,
        typer.Option(help="Repeat with this seed, as a run of its own.", min=0, rich_help_panel=RUN),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="NAME|FOLDER", help="Go on with this run, by its own recipe.", rich_help_panel=RUN),
    ] = None,
    probe: Annotated[
        str | None,
        typer.Option(
            metavar="DATASET[:TASK]",
            help="Probe these labelled videos now and then; keep the best.",
            rich_help_panel=RUN,
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(help="auto (a GPU if there is one), cpu, cuda.", rich_help_panel=MACHINE)
    ] = "auto",
    decoder: Annotated[
        str, typer.Option(help="auto (decord for MP4, AVI; PyAV else), av, decord.", rich_help_panel=MACHINE)
    ] = "auto",
    workers: Annotated[
        int | None, typer.Option(help="Decoding processes; default one a core.", min=1, rich_help_panel=MACHINE)
    ] = None,
    time_limit: Annotated[
        float, typer.Option(help="Seconds that decoding one video may take.", min=1, rich_help_panel=MACHINE)
    ] = 120.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON, for programs.", rich_help_panel=MACHINE)
    ] = False,
) -> None:
    """Let an encoder learn from videos, without labels (V-JEPA 2) or by them, safely enough to leave alone for a day.

    Killed or out of time, it goes on with --resume as if nothing had happened. torchrun shares the work between GPUs.
    """
    from echolung.extraction import choose_device

    tell = say if is_first() else _silent
    device = choose_device(device, os.environ)
    asked = Asked(
        dataset, str(data.absolute()) if data else None, all_splits, str(pack.absolute()) if pack else None, probe,
        view, fold,
    )  # fmt: skip
    if data is not None and dataset is None and not resume:
        raise InputError(f"--data {data} says where a dataset is, but not which: name it with --dataset.")
    folder = find_run(resume, name, to) if resume is not None else None
    if folder is not None:
        asked = asked.over(read_asked(folder))
    mix = asked.dataset or ",".join(hearts_at_home(tell))
    asked = replace(asked, dataset=mix)
    changes = list(changes or [])
    if task is not None:
        changes.append(f'objective.task="{task}"')
    if trial is not None:
        changes.append(f"run.seed={trial}")
    if folder is not None:
        run = Run(folder, own_recipe(folder, recipe, changes, objective), asked, device, begun=True)
    else:
        named, chosen = pick_recipe(objective, recipe, changes, device, tell)
        default = f"{named}-{_slug(mix)}{f'-trial{trial}' if trial is not None else ''}"
        run = Run(new_run(name, to, default, tell), chosen, asked, device, begun=False)
    outcome = run.go({"decoder": decoder, "workers": workers, "time_limit": time_limit}, tell)
    if is_first():
        run.finish(outcome, as_json)
    if not outcome.finished:
        raise SystemExit(INTERRUPTED)  # said how to go on


def hearts_at_home(tell: Tell) -> list[str]:
    """Return the cardiac datasets under ECHOLUNG_HOME; phantoms only where nothing real is there.

    Raises:
        InputError: there is none; says what to get or generate.
    """
    from echolung.datasets import DATASETS
    from echolung.datasets.phantom_files import holds_phantoms
    from echolung.settings import home

    folder = home() / "data"
    hearts = [name for name, dataset in DATASETS.items() if dataset.organ == "heart"]
    there = [name for name in hearts if (folder / name).exists()]
    real = [name for name in there if not (name.startswith("phantom") or holds_phantoms(folder / name))]
    if real:
        return real
    if there:
        tell(f"No real echocardiograms are under {folder}: this learns from phantoms, and about phantoms.")
        return there
    raise InputError(
        f"There is nothing to learn from: no cardiac dataset is under {folder}. EchoNet-Dynamic "
        "(https://echonet.github.io/dynamic) and EchoNet-Pediatric (https://echonet.github.io/pediatric) are given out for "
        f"research after an agreement on their pages; unpack them as {folder / 'echonet-dynamic'} and "
        f"{folder / 'echonet-pediatric'}. Synthetic hearts, for a try, come from: echolung data phantom --layout "
        "phantom-heart. Any other dataset is named with --dataset."
    )


def _slug(mix: str) -> str:
    """Return the names in a mix: "a:2,b:1" as "a+b"; of a CSV its stem."""
    from echolung.pretraining.pool import parse_mix

    return "+".join(Path(name).stem if name.lower().endswith(".csv") else name for name in parse_mix(mix))


def _silent(text: str) -> None:
    pass
