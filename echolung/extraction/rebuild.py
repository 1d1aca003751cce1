"""The plan that a store was extracted by, made again from what the store says of itself."""

from pathlib import Path
from typing import Any

from echolung.cache import Snapshot
from echolung.cache.key import differences
from echolung.clips.decode import decoder_identity
from echolung.clips.plan import ClipPlan
from echolung.clips.starts import COLUMN
from echolung.datasets import DATASETS, Manifest, Task, load_manifest
from echolung.encoders.identity import BRANCHES, EncoderIdentity, identify
from echolung.errors import InputError
from echolung.extraction.plan import ExtractionPlan, make_plan


def plan_of(
    path: Path,
    attributes: dict[str, Any],
    snapshot: Snapshot | None,
    *,
    data: Path | None = None,
    encoder: str | None = None,
    labels: dict[str, Any] | None = None,
) -> ExtractionPlan:
    """Return the plan that the store at `path` was extracted by.

    Args:
        path: the store.
        attributes: its attributes.
        snapshot: its table of the dataset; None where that is damaged, so that the dataset's own has to do.
        data: where the dataset is (for a table: the CSV); default ECHOLUNG_HOME/data/<name>.
        encoder: where the weights are; default what the store names.
        labels: options of a table of one's own (kinds, missing_labels), needed only without a snapshot.

    Raises:
        InputError: the dataset or the weights are not there, or are others: the message names the fields of the key.
    """
    key = attributes["key"]
    options = {name: value for name, value in key["dataset"].items() if name != "name"}
    manifest = _manifest(key["dataset"]["name"], options, snapshot, data, labels or {})
    if key["clips"].get("starts") and COLUMN not in manifest.videos.columns:
        raise InputError(
            f"{path.name} was extracted with stored clip starts, and its table, which held them, is damaged. Extract again "
            "with --starts."
        )
    plan = make_plan(
        manifest,
        identity_of(str(attributes.get("encoder")), key["encoder"], encoder),
        ClipPlan.from_json(key["clips"]),
        decoder=decoder_of(key["decoder"]),
        precision=key["precision"],
        options=options,
        path=path,
        **({"tokens": "none"} if key["token_pool"] == "none" else {"token_pool": key["token_pool"]}),
    )
    if found := differences(key, plan.key):
        raise InputError(
            f"{path.name} cannot be repaired here, because what would be extracted now is not what it holds; "
            f"{'; '.join(found)}. Nothing was changed. Use the weights and the versions that it was made with, or extract again."
        )
    return plan


def _manifest(
    name: str, options: dict[str, Any], snapshot: Snapshot | None, data: Path | None, labels: dict[str, Any]
) -> Manifest:
    table = data is not None and data.suffix.lower() == ".csv"
    if not table and name not in DATASETS:
        raise InputError(f"The store is of the table {name}: say where that is, --data {name}.csv, to repair it.")
    if snapshot is None or not table:
        loaded = load_manifest("table" if table else name, data, **options, **(labels if table else {}))
        if snapshot is None:
            return loaded
        root = loaded.root
    else:
        assert data is not None
        root = data.expanduser().absolute().parent
    # The store's own table: what it holds is to be put right, not what has become of the dataset since.
    tasks = {task: Task.from_json(fields) for task, fields in snapshot.tasks.items()}
    return Manifest(name, root, snapshot.videos, tasks)


def identity_of(name: str, held: dict[str, Any], spec: str | None) -> EncoderIdentity:
    """Return the encoder that a store's key holds, from `spec` where its checkpoint lies elsewhere now."""
    branch = held.get("branch")
    suffix = f"#{branch}" if branch not in (None, BRANCHES[0]) else ""
    if spec is None and held["kind"] == "timm":
        raise InputError(f"Say where the weights of {name} are now: --encoder {name}@CHECKPOINT.")
    try:
        return identify((spec or name) + ("" if "#" in (spec or "") else suffix))
    except InputError as error:
        if spec is not None:
            raise
        raise InputError(f"{error} The store was made by {name}; --encoder says where its weights are now.") from error


def decoder_of(held: dict[str, str]) -> str:
    """Return the choice of decoder that gives the identity `held`; "auto" where none does, for the key to complain of."""
    for choice in ("auto", "av", "decord"):
        try:
            if decoder_identity(choice, "dicom" in held) == held:
                return choice
        except InputError:  # a decoder that is not installed
            continue
    return "auto"
