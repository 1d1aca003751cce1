"""Pretraining runs on disk: which one is meant, what it was begun with, going on with it, and what it leaves."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from echolung.cli.console import counted, out, print_json
from echolung.cli.pools import Sources
from echolung.errors import InputError
from echolung.text import listed

if TYPE_CHECKING:
    from echolung.cli.judge import Judge
    from echolung.cli.live import Live
    from echolung.pretraining.loop import Outcome
    from echolung.pretraining.pool import Pool
    from echolung.pretraining.recipe import Recipe

Tell = Callable[[str], None]

ASKED = "command.json"
"""What a run was begun with besides its recipe, so that --resume NAME is enough to go on."""


@dataclass(frozen=True)
class Asked:
    """What a run is begun with besides its recipe.

    Attributes:
        dataset: the mix, as --dataset has it.
        data: folder of a single dataset; None: at home.
        all_splits: validation and test videos, too.
        pack: packed videos.
        probe: dataset and task of the labelled probe.
        view: of the datasets that have views.
        fold: of the datasets that have folds.
    """

    dataset: str | None = None
    data: str | None = None
    all_splits: bool = False
    pack: str | None = None
    probe: str | None = None
    view: str | None = None
    fold: int | None = None

    def over(self, before: "Asked") -> "Asked":
        """Return this, and where nothing was said what was asked before."""
        # Fold 0 is a fold.
        said = {key: value for key, value in asdict(self).items() if value is not None and value is not False}
        return replace(before, **said)

    @property
    def sources(self) -> Sources:
        """Return where the datasets are, and what is taken of them."""
        return Sources(str(self.dataset), Path(self.data) if self.data else None, self.view, self.fold)


# ---- which run ----------------------------------------------------------------------------------------------------------


def is_first() -> bool:
    """Whether this process is the one of torchrun's that speaks, or the only one."""
    return int(os.environ.get("RANK", 0)) == 0


def find_run(resume: str, name: str | None, to: Path | None) -> Path | None:
    """Return the folder of the run to go on with; None where it is to begin, --name (or --out) saying the same.

    Raises:
        InputError: there is no such run, or another name is given beside it.
    """
    from echolung.settings import home

    runs = home() / "pretraining"
    places = [Path(resume).expanduser().absolute(), runs / resume]
    for place in places:
        if (place / "recipe.toml").is_file():
            if (name or to) and (name or str(to)) != resume:
                raise InputError(f"--resume {resume} and {f'--name {name}' if name else f'--out {to}'} are two runs.")
            return place
    if resume in (name, str(to)):
        return None  # the one command that begins a run and, sent again, goes on with it
    known = sorted(path.name for path in runs.iterdir() if path.is_dir()) if runs.is_dir() else []
    raise InputError(
        f"There is no run {resume!r} to go on with (looked at {places[0]} and in {runs}"
        f"{f', which holds {listed(known)}' if known else ''}). With --name {resume} beside it, it begins."
    )


def own_recipe(folder: Path, name: str | None, changes: list[str]) -> "Recipe":
    """Return the recipe that a run began with; InputError where the options name another, and which keys differ."""
    from echolung.pretraining.recipe import differences, read_recipe

    own = read_recipe(folder / "recipe.toml")
    wanted = (read_recipe(name) if name else own).with_changes(changes)
    if differ := differences(wanted, own):
        raise InputError(
            f"The run {folder.name} began with another recipe. Asked for now, and its own: {listed(differ)}. Leave out "
            "--recipe and --set to go on with its own, or begin another run with --name."
        )
    return own


def read_asked(folder: Path) -> Asked:
    """Return what a run was begun with; nothing where it was stopped before it wrote that down, or not begun from here."""
    file = folder / ASKED
    try:
        return Asked(**json.loads(file.read_text("utf-8"))) if file.is_file() else Asked()
    except (ValueError, TypeError) as error:
        raise InputError(f"{file} cannot be read ({error}). Delete it, and name --dataset again.") from error


def new_run(name: str | None, to: Path | None, default: str, tell: Tell) -> Path:
    """Return the folder of a new run, not made yet; no other run or checkpoint has its name.

    Raises:
        InputError: the name or place asked for is taken, or no name of one folder.
    """
    from echolung.settings import home

    runs = home() / "pretraining"
    if name and to:
        raise InputError("--name and --out both say where the run goes; leave one out.")
    if name and (Path(name).name != name or name.startswith(".")):
        raise InputError(f"--name {name} must be a plain name; --out takes a folder.")
    if to is not None and to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise InputError(f"There is something at {to} already. Go on with it by --resume {to}, or name a new folder.")
    if name or to is not None:
        folder = to.expanduser().absolute() if to is not None else runs / str(name)
        if folder.exists() and any(folder.iterdir()):
            raise InputError(
                f"There is a run {name} already. Go on with it by --resume {name}, or take another --name."
            )
        if checkpoint_of(folder).exists():
            raise InputError(
                f"There is a checkpoint {checkpoint_of(folder)} already, which this run would overwrite. Take another name."
            )
        return folder
    folder, number = runs / default, 1
    while folder.exists() or checkpoint_of(folder).exists():
        number += 1
        folder = runs / f"{default}-{number}"
    if number > 1:
        tell(f"There is a run {default} already (--resume {default} goes on with it); this one is {folder.name}.")
    return folder


def checkpoint_of(folder: Path) -> Path:
    """Return where the checkpoint of a run goes in the end, for `echolung extract` to find."""
    from echolung.settings import home

    return home() / "checkpoints" / f"{folder.name}.safetensors"


# ---- the run -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """A run about to start or go on.

    Attributes:
        folder: its own.
        recipe: what to do.
        asked: what it learns from and is judged on.
        device: where to compute.
        begun: it goes on.
    """

    folder: Path
    recipe: "Recipe"
    asked: Asked
    device: str
    begun: bool

    def go(self, reading: dict[str, Any], tell: Tell) -> "Outcome":
        """Compute until the last step, or until it is told to stop."""
        from echolung.cli.live import Live
        from echolung.device import pick_device
        from echolung.pretraining.loop import pretrain as train

        pool = self._pool(tell)
        device = pick_device(self.device)
        self._check_room(device)
        judge = self._judge(pool, reading, tell)
        tell(f"{'Goes on with' if self.begun else 'Run'}: {self.folder}")
        with Live(self.folder.name, lambda: len(self._unreadable()), self._losses(), silent=not is_first()) as live:
            pack = Path(self.asked.pack) if self.asked.pack else None
            return train(
                self.recipe, pool, self.folder, pack=pack, device=device, resume=self.begun, judge=judge,
                on_step=lambda record: self._note(live, record), tell=live.tell, **reading,
            )  # fmt: skip

    def _pool(self, tell: Tell) -> "Pool":
        from echolung.cli.pools import open_pool

        self.asked.sources.check([self.asked.probe.partition(":")[0]] if self.asked.probe else [])
        pool = open_pool(self.asked.sources, self.asked.all_splits, tell)
        for line in pool.describe():
            tell(f"Pool: {line}")
        return pool

    def _check_room(self, device: Any) -> None:
        from echolung.pretraining.cost import check_room, room

        check_room(self.recipe, room(device), int(os.environ.get("WORLD_SIZE", 1)))

    def _judge(self, pool: "Pool", reading: dict[str, Any], tell: Tell) -> "Judge | None":
        from echolung.cli.judge import open_judge

        probe = self.asked.probe
        return open_judge(probe, self.recipe, pool, sources=self.asked.sources, tell=tell, **reading) if probe else None

    def _note(self, live: "Live", record: Any) -> None:
        if not (self.folder / ASKED).exists():
            (self.folder / ASKED).write_text(json.dumps(asdict(self.asked), indent=1) + "\n", "utf-8")
        live.on_step(record)

    def _unreadable(self) -> dict[str, str]:
        """Return the videos that some process could not read so far, and why; each process lists its own."""
        found: dict[str, str] = {}
        for file in sorted(self.folder.glob("broken*.json")):
            try:
                found |= json.loads(file.read_text("utf-8"))
            except ValueError:  # being written
                continue
        return dict(sorted(found.items()))

    def _losses(self) -> list[float]:
        from echolung.pretraining.log import FILE, read_lines

        return [float(line["loss"]) for line in read_lines(self.folder / FILE)] if self.begun else []

    # ---- its end -------------------------------------------------------------------------------------------------------

    def finish(self, outcome: "Outcome", as_json: bool) -> None:
        """Copy the checkpoint to where `extract` looks, draw the curves, say what comes next."""
        from echolung.report.pretraining import draw_log, read_log, summarise_log

        log = read_log(self.folder / "log.jsonl")
        summary, curves = summarise_log(log), self.folder / "loss.png"
        draw_log(log, f"{self.folder.name} · {self.recipe.encoder.architecture}", curves)
        checkpoint = self._keep(outcome) if outcome.finished else None
        broken = self._unreadable() | outcome.broken
        if broken:
            (self.folder / "broken.json").write_text(json.dumps(broken, indent=1), "utf-8")
        if as_json:
            print_json(
                {"run": str(self.folder), "finished": outcome.finished, "step": outcome.step,
                 "checkpoint": str(checkpoint) if checkpoint else None, "curves": str(curves), **summary,
                 "broken": broken, "recipe": self.recipe.flat()}
            )  # fmt: skip
            return
        for line in self._told(outcome, summary, broken, checkpoint):
            out().print(line, highlight=False, soft_wrap=True)

    def _keep(self, outcome: "Outcome") -> Path:
        """Copy the checkpoint, whole or not at all."""
        from echolung.encoders.checkpoints import load_vit, save_encoder
        from echolung.settings import make_folder

        path = checkpoint_of(self.folder)
        make_folder(path.parent)
        save_encoder(path, load_vit(outcome.checkpoint)[0])
        return path

    def _told(
        self, outcome: "Outcome", summary: dict[str, Any], broken: dict[str, str], checkpoint: Path | None
    ) -> list[str]:
        from rich.markup import escape

        plan, name = self.recipe.optimiser, escape(self.folder.name)
        lines = [
            f"[bold]{name}[/]: step {outcome.step:,} of {plan.steps:,}, loss {summary['loss_first']:.4f} at first, "
            f"{summary['loss_last']:.4f} at last; curves: {escape(str(self.folder / 'loss.png'))}"
        ]
        if broken:
            lines.append(f"[red]{counted(len(broken), 'video')} could not be read[/]: {escape(listed(broken, 5))}")
        if checkpoint is None:
            return [*lines, f"Stopped, and saved. To go on: echolung pretrain --resume {name}"]
        if outcome.checkpoint.name.startswith("best"):
            best = json.loads((self.folder / "best.json").read_text("utf-8"))
            when = f"that of step {best['step']:,}" if best["step"] else "the one it started from: no look was better"
            lines.append(f"Kept is the encoder with the probe's best score, {best['score']:.3f}, {when}.")
        clips = self.recipe.clips
        probed = (self.asked.probe or "").partition(":")[0] or "DATASET"
        windows = f"--frames {clips.frames} --fps {clips.fps:g} --size {clips.size}"
        return [
            *lines,
            f"Checkpoint: {escape(str(checkpoint))}",
            "Next, with any labelled dataset (any other windows do, too; these are what it was trained on):",
            f"  echolung extract --dataset {probed} {windows}",
            f"  echolung extract --dataset {probed} {windows} --encoder random:{self.recipe.encoder.architecture}",
            f"  echolung probe --dataset {probed} --encoder {name}",
        ]
