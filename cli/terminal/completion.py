"""What the shell offers for a value when Tab is pressed: names that exist, found without opening anything heavy."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from echolung.settings import home

Known = Callable[[dict[str, Any]], Iterable[str]]
"""From what was typed already, option -> value, to what may come."""


@dataclass(frozen=True)
class Offer:
    """One word offered, as click and typer have it."""

    value: str
    type: str = "plain"
    help: str | None = None


def datasets(typed: dict[str, Any]) -> list[str]:
    """Return the names of datasets."""
    from echolung.datasets import DATASETS

    return [name for name in DATASETS if name != "table"]


def tasks(typed: dict[str, Any]) -> list[str]:
    """Return the tasks of the dataset that was typed; of all where there is none yet."""
    from echolung.datasets import DATASETS

    name = typed.get("dataset")
    chosen = [DATASETS[name]] if name in DATASETS else [DATASETS[each] for each in datasets(typed)]
    return sorted({task for dataset in chosen for task in dataset.tasks})


def encoders(typed: dict[str, Any]) -> list[str]:
    """Return checkpoints at home, published names, and untrained networks."""
    from echolung.encoders.networks import NETWORKS
    from echolung.encoders.sizes import VITS

    return [
        *_at_home("checkpoints", kept="checkpoint"),
        *weights(typed),
        *(f"random:{name}" for name in (*VITS, *NETWORKS)),
    ]


def weights(typed: dict[str, Any]) -> list[str]:
    """Return the names that `echolung encoders download` knows."""
    from echolung.downloads.weights import WEIGHTS

    return list(WEIGHTS)


def recipes(typed: dict[str, Any]) -> list[str]:
    """Return the recipes of the package."""
    import echolung

    return sorted(file.stem for file in Path(str(echolung.__file__)).parent.glob("pretraining/recipes/*.toml"))


def _at_home(folder: str, suffix: str = "", kept: str = "") -> list[str]:
    """Return what lies in a folder at home, newest first; `kept`: checkpoints, without the heads beside them."""
    try:
        entries = [entry for entry in (home() / folder).iterdir() if not entry.name.startswith(".")]
        entries.sort(key=lambda entry: entry.stat().st_mtime, reverse=True)
    except OSError:
        return []
    if kept:
        return [entry.stem if entry.is_file() else entry.name for entry in entries if entry.suffix != ".head"]
    return [entry.name for entry in entries if entry.name.endswith(suffix) and not entry.name.endswith(".partial")]


def _these(*words: str) -> Known:
    return lambda typed: words


def stores(typed: dict[str, Any]) -> list[str]:
    """Return the stores at home by their paths, which every command takes."""
    return [str(home() / "stores" / name) for name in _at_home("stores", ".zarr")]


def store_names(typed: dict[str, Any]) -> list[str]:
    """Return the stores at home by their names, which `echolung cache` takes."""
    return [name.removesuffix(".zarr") for name in _at_home("stores", ".zarr")]


def runs(typed: dict[str, Any]) -> list[str]:
    """Return the runs at home."""
    return _at_home("runs")


def pretraining_runs(typed: dict[str, Any]) -> list[str]:
    """Return the pretraining runs at home."""
    return _at_home("pretraining")


DEVICE, SQUARE = _these("auto", "cpu", "cuda"), _these("centre", "whole")
PROBES = _these("linear", "logistic", "knn", "mlp", "attentive-lite", "attentive")
LAYOUTS = _these("phantom-lung", "phantom-heart", "echonet-dynamic", "echonet-pediatric", "camus", "hmc-qu", "lvad")

KNOWN: dict[str, Known] = {
    "dataset": datasets, "encoder": encoders, "store": stores, "where": stores, "test": stores, "stores": store_names,
    "runs": runs, "run": runs, "task": tasks, "probe": PROBES, "protocol": _these("nested", "seed"),
    "split": _these("60/20/20", "official"), "group": _these("patient", "source", "video"), "device": DEVICE,
    "precision": _these("auto", "float32", "bfloat16"), "decoder": _these("auto", "av", "decord"),
    "fusion": _these("early", "late"), "square": SQUARE, "pad": _these("repeat", "loop", "black", "grey"),
    "window": _these("even", "first"), "tokens": _these("all", "none"),
    "motion_mask": _these("adaptive", "quantile", "published"),
    "view": _these("A4C", "A2C", "PSAX", "both"), "transducer": _these("convex", "linear"), "layout": LAYOUTS,
    "objective": _these("jepa", "coreecho", "echocotr", "supervised"), "recipe": recipes, "resume": pretraining_runs,
    "method": _these("grad-cam", "attention", "rollout"), "sampler": _these("tpe", "random", "cmaes"),
    "pruner": _these("median", "hyperband", "none"), "unfreeze": _these("last:2", "all", "none"),
    "loss": _these("cross-entropy", "coral", "smooth-l1", "l1", "mse"), "start_from": encoders, "head": runs,
    "store_of": lambda typed: [*runs(typed), *stores(typed)],
    "crop": _these("auto", "none"),
}  # fmt: skip
"""Parameter -> what may come."""

OF_COMMAND: dict[str, dict[str, Known]] = {
    "predict": {"probe": runs},
    "pretrain": {"probe": datasets},
    "finetune": {"head": _these("linear", "mlp")},
    "study": {"resume": lambda typed: ()},
    "leaderboard": {"runs": lambda typed: ()},
    "cache info": {"store": store_names}, "cache verify": {"store": store_names}, "cache export": {"store": store_names},
    "encoders download": {"name": weights, "names": weights}, "encoders check": {"name": weights, "names": weights},
}  # fmt: skip
"""Command -> parameters that mean something else there."""


def offers(command: str, parameter: str) -> Callable[[Any, str], list[Offer]] | None:
    """Return what answers Tab for a parameter, from click's context and the begun word; None: the shell's own, files."""
    known = OF_COMMAND.get(command, {}).get(parameter, KNOWN.get(parameter))
    if known is None:
        return None

    def answer(context: Any, begun: str) -> list[Offer]:
        try:
            words = [word for word in known(dict(context.params)) if word.startswith(begun)]
        except Exception:  # Tab never shows an error
            return []
        bash = os.environ.get("_ECHOLUNG_COMPLETE") == "complete_bash"
        return [Offer(_for_bash(word, begun) if bash else word) for word in words]

    return answer


def _for_bash(word: str, begun: str) -> str:
    """Return what bash puts in: it replaces only what follows the last colon, and splits at spaces."""
    rest = word[begun.rfind(":") + 1 :]
    return "".join(letter if letter.isalnum() or letter in "-_./:@+,=%~" else f"\\{letter}" for letter in rest)


def join_colons() -> None:
    """Put together again what bash takes apart at colons: `random : vit` is one word, random:vit."""
    if os.environ.get("_ECHOLUNG_COMPLETE") != "complete_bash":
        return
    words, at = os.environ.get("COMP_WORDS", "").split("\n"), int(os.environ.get("COMP_CWORD", "0"))
    joined: list[str] = []
    place = at
    for i, word in enumerate(words):
        if i > 1 and ":" in (word, words[i - 1]):
            joined[-1] += word
            place -= i <= at
        else:
            joined.append(word)
    os.environ["COMP_WORDS"], os.environ["COMP_CWORD"] = "\n".join(joined), str(place)
