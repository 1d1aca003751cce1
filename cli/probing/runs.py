"""What `echolung probe` and the demo do with a store: cross-validate it, or learn from it and predict another."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from echolung.cli import options
from echolung.cli.probing.conclusion import conclude
from echolung.cli.stores import find_store
from echolung.cli.terminal.console import say, steps
from echolung.errors import InputError

if TYPE_CHECKING:
    from echolung.cache import TokenStore
    from echolung.datasets import Manifest
    from echolung.evaluation import Result
    from echolung.report.run import Twin

ASKED = (
    "task", "manifest", "probe", "hyper", "cv", "group", "epochs", "batch", "seed", "device", "memory", "precision", "fusion",
    "start",
)  # fmt: skip
"""Arguments that are fields of a question."""


def run_probe(
    store: "TokenStore",
    *,
    to: Path | None = None,
    as_json: bool = False,
    permutations: int | None = None,
    pairs: int | None = None,
    mute: Sequence[str] = (),
    report: bool = True,
    **arguments: Any,
) -> Path:
    """Cross-validate, the random twins too, check, save, show; return the run's folder."""
    from echolung.evaluation import cross_validate
    from echolung.evaluation.leave_pair_out import check_pairs

    began = time.perf_counter()
    arguments, of_labels = _resolved(store, to, mute, **arguments)
    if pairs:
        check_pairs(store, arguments.get("task"), arguments["manifest"], arguments.get("group"))
    result = cross_validate(store, **arguments)
    result = replace(result, settings={**result.settings, **of_labels})
    twins = _twins(store, arguments)
    asked = {name: value for name, value in arguments.items() if name in ASKED}
    extra: dict[str, Any] = {}
    if permutations:
        extra["permutation"] = _permute(store, permutations, asked)
    if pairs:
        extra["leave_pair_out"] = _leave_pairs_out(store, pairs, asked)
    ending: dict[str, Any] = {"twins": twins, "mute": mute, "report": report, "extra": extra}
    return conclude(result, store, began, to=to, as_json=as_json, **ending)


def _resolved(
    store: "TokenStore",
    to: Path | None,
    mute: Sequence[str],
    *,
    labels: Path | None = None,
    kinds: list[str] | None = None,
    device: str = "auto",
    **arguments: Any,
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the arguments of an evaluation, labels read and device picked, and what to record of the labels.

    Raises:
        InputError: there is no room for the run, no such check, labels or device.
    """
    from echolung.device import pick_device
    from echolung.evaluation.checks.codes import check_codes

    check_place(to)
    check_codes(mute)
    manifest, of_labels = labelled(store, arguments.get("task"), labels, kinds)
    return {**arguments, "manifest": manifest, "device": str(pick_device(device)), "tell": say}, of_labels


def _twins(store: "TokenStore", arguments: dict[str, Any]) -> "list[Twin]":
    """Return the same question asked of the random twins that lie beside a store."""
    from echolung.evaluation import cross_validate

    if arguments.get("as_is"):
        return []  # a head means nothing on other tokens than it was trained on
    arguments = {**_without_start(arguments), "diagnose": False}
    return [as_twin(other, cross_validate(other, **arguments)) for other in options.find_twins(store)]


def _twins_of_both(store: "TokenStore", test: "TokenStore", arguments: dict[str, Any]) -> "list[Twin]":
    """Return the same transfer between the random twins, of one seed, that lie beside both stores."""
    from echolung.cache.key import key_digest
    from echolung.evaluation.transfer import transfer

    there = {key_digest(other.key["encoder"]): other for other in options.find_twins(test)}
    pairs = [(other, there.get(key_digest(other.key["encoder"]))) for other in options.find_twins(store)]
    return [as_twin(a, transfer(a, b, **_without_start(arguments))) for a, b in pairs if b is not None]


def _without_start(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return arguments by which a head of the same shape is trained from nothing."""
    if (start := arguments.get("start")) is None:
        return arguments
    return {**arguments, "start": None, "hyper": start.hyper(arguments.get("hyper", {}))}


def as_twin(store: "TokenStore", found: "Result") -> "Twin":
    """Return what came of the same question asked of a store by random weights."""
    from echolung.evaluation.summary import summarise
    from echolung.report.run import Twin

    return Twin(str(store.group.attrs.get("encoder")), store.path.name, found, summarise(found))


def _permute(store: "TokenStore", permutations: int, asked: dict[str, Any]) -> dict[str, Any]:
    """Return what came of permuted labels, shown as it goes."""
    from echolung.evaluation.permutations import permutation_test

    with steps("Permutations", "permutations", permutations) as bar:
        found = permutation_test(store, permutations=permutations, progress=bar.advance, **asked)
    return found.to_json()


def _leave_pairs_out(store: "TokenStore", pairs: int, asked: dict[str, Any]) -> dict[str, Any]:
    """Return the AUROC over pairs of patients, shown as it goes."""
    from echolung.evaluation.leave_pair_out import leave_pair_out_auroc

    with steps("Leaving pairs out", "pairs", pairs) as bar:
        found = leave_pair_out_auroc(store, most=pairs, progress=bar.advance, **asked)
    return {"auroc": found.value, "pairs": len(found.pairs)}


def run_transfer(
    store: "TokenStore",
    *,
    test: str,
    mapping: str | None,
    test_task: str | None,
    to: Path | None = None,
    as_json: bool = False,
    mute: Sequence[str] = (),
    report: bool = True,
    **arguments: Any,
) -> Path:
    """Learn from one store and predict another; return the run's folder."""
    from echolung.cache import TokenStore
    from echolung.evaluation.transfer import read_mapping, transfer

    began = time.perf_counter()
    arguments, of_labels = _resolved(store, to, mute, **arguments)
    other = TokenStore.open(find_store(test))
    classes = read_mapping(mapping) if mapping else None
    arguments = {**arguments, "classes": classes, "test_task": test_task}
    result = transfer(store, other, **arguments)
    result = replace(result, settings={**result.settings, **of_labels})
    twins = _twins_of_both(store, other, arguments)
    return conclude(result, other, began, to=to, as_json=as_json, twins=twins, mute=mute, report=report)


def labelled(
    store: "TokenStore", task: str | None, labels: Path | None, kinds: list[str] | None
) -> "tuple[Manifest | None, dict[str, str]]":
    """Return the store's table with the labels of a CSV (None without one), and what to record of that CSV.

    Says which task is taken where none is named.
    """
    manifest = options.labelled_manifest(store, labels, kinds) if labels else None
    if task is None:
        say(f"Task: {next(iter(manifest.tasks if manifest else store.snapshot.tasks), None)} (the first)")
    if labels is None:
        return manifest, {}
    return manifest, {"labels": labels.name, "labels_digest": hashlib.sha256(labels.read_bytes()).hexdigest()}


def check_place(to: Path | None) -> None:
    """Find out before hours of training whether the result can be saved."""
    from echolung.settings import home, make_folder

    if to is None:
        make_folder(home() / "runs")
        return
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise InputError(f"There is something at {to} already; name a new folder with --out.")
    make_folder(to)
