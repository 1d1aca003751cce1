"""The folder of a run, and what makes it the same run as before."""

import json
from pathlib import Path

from echolung.clips.packed import Pack
from echolung.errors import InputError
from echolung.pretraining.pool import Pool
from echolung.pretraining.recipe import AnyRecipe, differences, read_recipe
from echolung.text import listed

RECIPE, POOL, BROKEN = "recipe.toml", "pool.json", "broken.json"
LAST, BEST = "last.safetensors", "best.safetensors"


def check_folder(folder: Path, recipe: AnyRecipe, pool: Pool, pack: Path | None, resume: bool) -> None:
    """Make sure that a run can begin in a folder, or that the one there is the same.

    Raises:
        InputError: it cannot, or it is not; says why.
    """
    file = folder / RECIPE
    if not resume:
        if file.exists():
            raise InputError(f"There is a run at {folder} already. Go on with it by --resume, or name another folder.")
        return
    if not file.is_file():
        raise InputError(f"There is no run to go on with at {folder} (no {RECIPE}).")
    if differ := differences(recipe, read_recipe(file)):
        raise InputError(f"The run at {folder} began with another recipe. Now {listed(differ)} as it was then.")
    began = json.loads((folder / POOL).read_text("utf-8"))
    if began["digest"] != pool.digest:
        raise InputError(
            f"The run at {folder} began with another pool of videos ({began['digest'][:12]}, now {pool.digest[:12]}). Name the "
            f"same datasets, or compare with the list in {POOL}."
        )
    if began["frames"] != (now := _frames(pack)):
        raise InputError(
            f"The run at {folder} learnt from {began['frames']}, and now it would from {now}. Name the same --pack."
        )


def begin_folder(folder: Path, recipe: AnyRecipe, pool: Pool, pack: Path | None) -> None:
    """Make a run's folder and write down what it is of."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = {
        "digest": pool.digest,
        "frames": _frames(pack),
        "weights": pool.weights,
        "notes": list(pool.notes),
        "videos": list(pool.names),
    }
    (folder / POOL).write_text(json.dumps(facts, indent=1), "utf-8")
    (folder / RECIPE).write_text(recipe.to_toml(), "utf-8")  # last: its being there says that the folder is a run


def _frames(pack: Path | None) -> str:
    """Return what a clip's frames are of: a pack that holds them as stored gives the same as the videos themselves."""
    made = Pack.open(pack) if pack else None
    stored = f"frames packed at {made.size} pixels" if made and made.size else "frames as stored"
    return f"{stored}, cut to {made.box}" if made and made.box else stored
