"""A folder of videos on disk -> Manifest: one row a video, with patient, source, labels."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from echolung.datasets import (
    camus,
    covid_blues,
    echonet_dynamic,
    echonet_pediatric,
    hmc_qu,
    looking,
    phantom_heart,
    phantom_lung,
    pocus,
    table,
)
from echolung.datasets.looking import given_path
from echolung.datasets.manifest import Manifest, Task
from echolung.errors import InputError
from echolung.settings import home
from echolung.text import suggest

__all__ = ["DATASETS", "Dataset", "Manifest", "Task", "load_manifest"]


@dataclass(frozen=True)
class Dataset:
    """A supported dataset.

    Attributes:
        load: (root, **options) -> Manifest.
        title: what it is, in a line.
        licence: under what terms its videos come.
        tasks: names of its tasks, for `echolung data list`.
        options: names of the options that `load` takes beside `root`.
        organ: what its videos show: "lung", "heart", or "" where that is not known.
    """

    load: Callable[..., Manifest]
    title: str
    licence: str
    tasks: tuple[str, ...]
    options: tuple[str, ...] = ()
    organ: str = ""


DATASETS = {
    "pocus": Dataset(
        pocus.load,
        "POCUS lung ultrasound (covid19_ultrasound): COVID-19, pneumonia, regular; convex or linear",
        "differs a video (column licence)",
        ("diagnosis",),
        ("transducer",),
        organ="lung",
    ),
    "covid-blues": Dataset(
        covid_blues.load,
        "COVID-BLUES: 362 lung videos of 63 patients at the six BLUE points",
        "CC BY-NC-ND 4.0",
        ("covid", "severity", "a-lines", "b-lines"),
        organ="lung",
    ),
    "echonet-dynamic": Dataset(
        echonet_dynamic.load,
        "EchoNet-Dynamic: 10,030 apical four-chamber videos with ejection fraction and volumes",
        "Stanford research-use agreement",
        ("ef", "esv", "edv", "ef-reduced"),
        organ="heart",
    ),
    "echonet-pediatric": Dataset(
        echonet_pediatric.load,
        "EchoNet-Pediatric: children's hearts in two views, A4C and PSAX, with ejection fraction",
        "Stanford research-use agreement",
        ("ef", "ef-reduced"),
        ("view", "fold"),
        organ="heart",
    ),
    "camus": Dataset(
        camus.load,
        "CAMUS: half sequences (ED to ES) of 500 patients in two apical views, with ejection fraction",
        "CAMUS's own terms: research, with citation",
        ("ef", "ef-reduced"),
        ("view", "fold"),
        organ="heart",
    ),
    "hmc-qu": Dataset(
        hmc_qu.load,
        "HMC-QU: 162 four-chamber and 160 two-chamber videos, myocardial infarction or not",
        "CC BY-NC-SA 3.0 IGO",
        ("mi", "mi-masked"),
        ("view", "cycle"),
        organ="heart",
    ),
    "table": Dataset(
        table.load,
        "your own videos or folders of frames: a CSV with `path`, any of `patient, source, split`, and label columns",
        "yours",
        ("one a label column",),
        ("kinds", "missing_labels"),
    ),
    "phantom-lung": Dataset(
        phantom_lung.load,
        "synthetic B-mode lung clips made by echolung: A-lines, B-lines, consolidation",
        "Apache-2.0 (generated)",
        ("pattern",),
        organ="lung",
    ),
    "phantom-heart": Dataset(
        phantom_heart.load,
        "synthetic apical B-mode heart clips made by echolung, of known ejection fraction",
        "Apache-2.0 (generated)",
        ("ef", "esv", "edv", "ef-reduced"),
        organ="heart",
    ),
}
"""Name -> dataset."""


FLAGS = {"kinds": "kind", "missing_labels": "drop-unlabelled"}
"""Options that the command line calls otherwise."""


def load_manifest(name: str, root: Path | str | None = None, **options: Any) -> Manifest:
    """Return the manifest of dataset `name` as it lies under `root`.

    Args:
        name: a key of `DATASETS`.
        root: the folder (for `table`: the CSV); default `ECHOLUNG_HOME/data/<name>`.
        options: the dataset's own, e.g. `transducer="linear"` for pocus.

    Raises:
        InputError: unknown dataset or option, or `root` does not hold it.
    """
    if name not in DATASETS:
        raise InputError(f"There is no dataset {name!r}; there are {', '.join(DATASETS)}.{_meant(name)}")
    dataset = DATASETS[name]
    for option in options:
        if option not in dataset.options:
            flags = ", ".join(f"--{FLAGS.get(known, known)}" for known in dataset.options) or "none"
            raise InputError(f"The dataset {name} has no option {option!r} (it takes: {flags}). Leave --{option} out.")
    path = given_path(root) if root is not None else home() / "data" / name
    if name == "table" and root is None and not path.exists():
        raise InputError(
            "The dataset table is a CSV of your own videos: give its path in place of the name, as in `echolung data check "
            "videos.csv`. `echolung data index FOLDER` begins one for you."
        )
    return dataset.load(path, **options)


def _meant(name: str) -> str:
    """Return what to do where `name` is no dataset, with a blank before it: it is a file or folder, or a typing error."""
    path = given_path(name)
    if path.suffix.lower() in looking.SHEETS:
        return f" Videos of your own are named by a CSV: save {path.name} as CSV (UTF-8), and give that."
    if path.is_dir() or len(path.parts) > 1:
        return (
            " Give one of these names, and the folder with --data; for videos of your own the path of a CSV that names them, "
            "which `echolung data index FOLDER` begins for you."
        )
    return suggest(name.lower(), list(DATASETS))
