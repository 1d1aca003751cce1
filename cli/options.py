"""Options that several commands share, and what stands in for those not given."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echolung.cli.stores import find_store, told_apart
from echolung.cli.terminal.console import say
from echolung.errors import InputError
from echolung.text import quoted, suggest

if TYPE_CHECKING:
    from echolung.cache import TokenStore
    from echolung.cache.place import Place
    from echolung.datasets import Manifest

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON, for programs.")]
Data = Annotated[
    Path | None, typer.Option("--data", metavar="PATH", help="Where it is; default ECHOLUNG_HOME/data/<name>.")
]
OF_DATASET = "Of some datasets"
Transducer = Annotated[str | None, typer.Option(help="pocus: convex (default) or linear.", rich_help_panel=OF_DATASET)]
View = Annotated[
    str | None,
    typer.Option(
        help="echonet-pediatric: A4C, PSAX or both (default); camus, hmc-qu: A4C (default), A2C or both.",
        rich_help_panel=OF_DATASET,
    ),
]
Fold = Annotated[
    int | None,
    typer.Option(
        help="The fold that is the test part: echonet-pediatric (default 0), camus (default: its split files).",
        rich_help_panel=OF_DATASET,
    ),
]
Cycle = Annotated[
    str | None,
    typer.Option(help="hmc-qu: whole videos (default) or the one marked heartbeat.", rich_help_panel=OF_DATASET),
]
Kind = Annotated[
    list[str] | None,
    typer.Option(
        "--kind",
        metavar="COLUMN=KIND",
        help="table: classification, regression, ordinal or ignore; repeatable.",
        rich_help_panel=OF_DATASET,
    ),
]
DropUnlabelled = Annotated[
    bool,
    typer.Option("--drop-unlabelled", help="table: leave videos without a label out.", rich_help_panel=OF_DATASET),
]
TRAINING = "How probes are trained"
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="A hyper-parameter, or several values to choose from; repeatable."
    ),
]
Memory = Annotated[str, typer.Option(help="What tokens and probes may take together.", rich_help_panel=TRAINING)]
Precision = Annotated[
    str,
    typer.Option(
        help="Of products over tokens: auto (bfloat16 where the hardware has it), float32, bfloat16.",
        rich_help_panel=TRAINING,
    ),
]
Fusion = Annotated[
    str,
    typer.Option(
        help="Segments of a video: early joins their tokens, late averages their outputs.", rich_help_panel=TRAINING
    ),
]
Decoder = Annotated[str, typer.Option(help="auto (decord for MP4, AVI; PyAV else), av, decord.")]
Crop = Annotated[
    str,
    typer.Option(
        help="X,Y,W,H in pixels, before all else; none: whole picture. Default: a DICOM file's tissue region."
    ),
]
Workers = Annotated[int | None, typer.Option(help="Decoding processes; default one a core.", min=1)]
TimeLimit = Annotated[float, typer.Option(help="Seconds that decoding one video may take.", min=1)]


def open_dataset(
    name: str,
    data: Path | None,
    transducer: str | None,
    kind: list[str] | None,
    drop_unlabelled: bool,
    view: str | None = None,
    fold: int | None = None,
    cycle: str | None = None,
) -> "tuple[Manifest, dict[str, Any]]":
    """Return the manifest and the options that belong to a store's key; a CSV's path stands for `table`."""
    from echolung.datasets import load_manifest

    if name.lower().endswith(".csv"):
        name, data = "table", Path(name)
    given = {"transducer": transducer, "view": view, "fold": fold, "cycle": cycle}
    options: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    labels: dict[str, Any] = {"missing_labels": "drop"} if drop_unlabelled else {}
    if kind:
        labels["kinds"] = read_kinds(kind)
    return load_manifest(name, data, **options, **labels), options


def labelled_manifest(store: "TokenStore", labels: Path, kind: list[str] | None) -> "Manifest":
    """Return the dataset's table as the store keeps it, with the labels of a CSV added."""
    from echolung.datasets.labels import add_labels
    from echolung.evaluation.data import manifest_of

    return add_labels(manifest_of(store.snapshot), labels, read_kinds(kind or []))


def read_hyper(items: list[str] | None, **named: object) -> dict[str, Any]:
    """Return hyper-parameters from NAME=VALUE texts (several values apart by commas) and from options of their own.

    Raises:
        InputError: a text without "=", or a hyper-parameter given twice.
    """
    given: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    for item in items or []:
        name, equals, value = item.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name or not value:
            raise InputError(f"--set {item} must be NAME=VALUE, such as --set dropout=0.1 or --set lr=1e-3,1e-4.")
        if name in given:
            raise InputError(f"--set {item}: {name} is given twice.")
        values = [part.strip() for part in value.split(",")]
        given[name] = values if len(values) > 1 else values[0]
    return given


UNITS = {"": 1.0, "b": 1.0, "k": 1e3, "kb": 1e3, "m": 1e6, "mb": 1e6, "g": 1e9, "gb": 1e9, "t": 1e12, "tb": 1e12}


def read_size(text: str) -> float:
    """Return the bytes that a text such as 4GB or 500 MB stands for; InputError where it is none."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([a-zA-Z]*)\s*", text)
    if not match or match[2].lower() not in UNITS or float(match[1]) == 0:
        raise InputError(f"{text!r} is no amount of memory; write it as 4GB or 500MB.")
    return float(match[1]) * UNITS[match[2].lower()]


def read_kinds(items: list[str]) -> dict[str, str]:
    """Return column -> kind from texts such as covid=classification; InputError where one is none."""
    if malformed := [item for item in items if "=" not in item]:
        raise InputError(f"--kind {malformed[0]} must be COLUMN=KIND, such as --kind covid=classification.")
    return dict(item.split("=", 1) for item in items)


def pick_store(named: str | None, dataset: str | None, encoder: str | None) -> "TokenStore":
    """Return the store of this path, URL or name, or the only one that fits; says which it took.

    Raises:
        InputError: none fits, several do, or its extraction was stopped half-way.
    """
    from echolung.cache import TokenStore
    from echolung.settings import home

    if named is not None:
        return TokenStore.open(find_store(named))
    asked = dataset
    if dataset and dataset.lower().endswith(".csv"):
        dataset = Path(dataset).stem  # as extract, which takes the CSV itself, names its store
    folder = home() / "stores"
    found = {opened.path: opened for opened in open_stores(folder)}
    fitting = [
        p
        for p, store in found.items()
        if (dataset is None or store.snapshot.dataset == dataset)
        and (encoder is None or encoder in str(store.group.attrs.get("encoder")))
    ]
    exact = [p for p in fitting if found[p].group.attrs.get("encoder") == encoder]
    fitting = exact or fitting  # timm:NAME is also a part of random:timm:NAME
    wanted = " ".join(f"{k} {v}" for k, v in (("of dataset", dataset), ("by encoder", encoder)) if v)
    if not fitting:
        there = f"; there are: {', '.join(p.name for p in found)}" if found else ""
        if asked and asked != dataset and not Path(asked).expanduser().is_file():
            near = suggest(Path(asked).name, (path.name for path in Path(asked).expanduser().parent.glob("*.csv")))
            raise InputError(f"There is no file {asked}, nor a token store {wanted} under {folder}{there}.{near}")
        raise InputError(
            f"There is no token store {wanted or 'yet'} under {folder}{there}. Make one: "
            f"echolung extract --dataset {quoted(asked) if asked else 'NAME'} --encoder ENCODER."
        )
    if len(fitting) > 1:
        apart = told_apart([found[p] for p in fitting])
        names = "\n  ".join(p.name + (f" ({what})" if what else "") for p, what in zip(fitting, apart, strict=True))
        raise InputError(
            f"Several stores fit. Name one with --store, or by --dataset and --encoder; they lie in {folder}:\n  {names}"
        )
    say(f"Store: {fitting[0].name}")
    return TokenStore.open(fitting[0])


def open_stores(folder: "Place", quiet: bool = False) -> "list[TokenStore]":
    """Return the stores in a folder, finished or not; one that cannot be read is named and passed over."""
    from echolung.cache import TokenStore

    stores = []
    paths: list[Any] = sorted(folder.glob("*.zarr"))
    for path in paths:
        try:
            stores.append(TokenStore.open(path, unfinished=True))
        except InputError as error:
            if not quiet:
                say(f"Passed over: {error}")
    return stores


TWINS = 3
"""Random twins that are asked as well, at most: one draw of random weights says little, and each costs a run."""


def find_twins(store: "TokenStore") -> "list[TokenStore]":
    """Return stores of the same clips by the same architecture with random weights that lie beside `store`, by their seed."""
    if store.key.get("encoder", {}).get("kind") == "random":
        return []
    twins = [other for other in open_stores(store.path.parent, quiet=True) if _is_twin(other, store)]
    return sorted(twins, key=lambda other: int(other.key["encoder"].get("seed", 0)))[:TWINS]


def _is_twin(other: "TokenStore", store: "TokenStore") -> bool:
    if not {"dataset", "encoder", "clips"} <= set(other.key) or other.key["encoder"]["kind"] != "random":
        return False
    alike = all(other.key[field] == store.key[field] for field in ("dataset", "clips", "layer", "token_pool"))
    same_model = _same_network(*(s.key["encoder"] for s in (store, other)))
    same_clips = alike and other.token_shape == store.token_shape and other.finished
    return same_model and same_clips and other.rows["video_id"].equals(store.rows["video_id"])


def _same_network(one: dict[str, Any], random: dict[str, Any]) -> bool:
    """Whether two encoders differ in their weights alone, as far as their keys tell; the width of tokens is compared beside."""
    if "shape" in one:  # a network that echolung saved; statistics of frames are no part of a network's shape
        shapes = [{**encoder.get("shape", {}), "statistics": ""} for encoder in (one, random)]
        return shapes[0] == shapes[1]
    # A checkpoint of a video transformer says only "vjepa2"; which size it is shows in the width of its tokens.
    named = {encoder["architecture"] for encoder in (one, random) if "architecture" in encoder}
    return len(named) == 1 or not any(name.startswith("timm:") for name in named)
