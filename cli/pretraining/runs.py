"""Pretraining runs on disk: which one is meant, and what it was begun with."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from echolung.cli.pretraining.pools import Sources
from echolung.errors import InputError
from echolung.text import listed

if TYPE_CHECKING:
    from echolung.pretraining.recipe import AnyRecipe

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


def own_recipe(folder: Path, name: str | None, changes: list[str], objective: str | None = None) -> "AnyRecipe":
    """Return the recipe that a run began with; InputError where the options name another, and which keys differ."""
    from echolung.pretraining.recipe import differences, read_recipe

    own = read_recipe(folder / "recipe.toml")
    if objective not in (None, own.objective_name):
        raise InputError(f"The run {folder.name} began with --objective {own.objective_name}, not {objective}.")
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
