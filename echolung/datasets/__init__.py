"""A folder of videos on disk -> Manifest: one row a video, with patient, source, labels."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from echolung.datasets import covid_blues, phantom_lung, pocus, table
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
    """

    load: Callable[..., Manifest]
    title: str
    licence: str
    tasks: tuple[str, ...]
    options: tuple[str, ...] = ()


DATASETS = {
    "pocus": Dataset(
        pocus.load,
        "POCUS lung ultrasound (covid19_ultrasound), convex or linear transducer: COVID-19, pneumonia, regular",
        "differs a video (column licence)",
        ("diagnosis",),
        ("transducer",),
    ),
    "covid-blues": Dataset(
        covid_blues.load,
        "COVID-BLUES: 362 lung videos of 63 patients at the six BLUE points",
        "CC BY-NC-ND 4.0",
        ("covid", "severity", "a-lines", "b-lines"),
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
    ),
}
"""Name -> dataset."""


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
        raise InputError(
            f"There is no dataset {name!r}; there are {', '.join(DATASETS)}.{suggest(name, list(DATASETS))}"
        )
    dataset = DATASETS[name]
    for option in options:
        if option not in dataset.options:
            takes = ", ".join(dataset.options) or "none"
            raise InputError(f"The dataset {name} has no option {option!r} (it takes: {takes}).")
    path = Path(root).expanduser() if root is not None else home() / "data" / name
    return dataset.load(path, **options)
