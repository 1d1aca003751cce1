"""The protocols: who may choose a setting on what. docs/protocol.md states them in words and says why.

`nested` is the default: a setting is chosen inside each training part, and a test video is looked at once. `seed` does what
the published study did, best of everything on the fold it reports, and is called optimistic wherever its number shows.
"""

from dataclasses import replace
from typing import Any

from echolung.cache import TokenStore
from echolung.datasets.manifest import Manifest
from echolung.errors import InputError
from echolung.evaluation import published
from echolung.evaluation.as_is import score_as_is
from echolung.evaluation.holdout import one_split
from echolung.evaluation.nested import nested
from echolung.evaluation.question import Question
from echolung.evaluation.result import Result
from echolung.evaluation.setup import set_up
from echolung.evaluation.starting import check_own_tokens, check_start, seen_before
from echolung.probes import find_kind, settings_with
from echolung.probes.start import Start
from echolung.text import suggest

PROTOCOLS = ("nested", "seed")


def cross_validate(
    store: TokenStore,
    task: str | None = None,
    manifest: Manifest | None = None,
    *,
    protocol: str = "nested",
    split: str | None = None,
    patience: int | None = None,
    repeats: int = 1,
    diagnose: bool = True,
    only_fold: int | None = None,
    start: Start | None = None,
    as_is: bool = False,
    **asked: Any,
) -> Result:
    """Return out-of-fold predictions of a task by probes trained on a store.

    Args:
        store: the tokens.
        task: as in `Question`.
        manifest: as in `Question`.
        protocol: "nested" or "seed", which has its own batch, 2 videos.
        split: instead of folds one division: "60/20/20" (train/validation/test, per cent) or "official" (the dataset's own).
        patience: epochs without a lesser held-out loss after which a setting is trained no further; None: all epochs.
        repeats: nested only: how often, each time with other folds.
        diagnose: nested only: also keep inner predictions, calibrate by them, and look what choosing on the scored folds
            would have given: about a third more training.
        only_fold: seed only: train and report this fold alone.
        start: a saved head that every probe begins from.
        as_is: score that head itself; nothing is trained.
        asked: the other fields of `Question`, such as probe="attentive".

    Raises:
        InputError: no such task, probe, protocol or group; more folds than patients; a probe that cannot do the task.
    """
    if as_is:
        return _as_is(store, start, split, protocol, Question(task, manifest, **asked))
    question = Question(task, manifest, start=start, **asked)
    kind = find_kind(question.probe)
    _check(protocol, split, question.group, patience)
    if repeats < 1 or (repeats > 1 and (protocol != "nested" or split)):
        raise InputError(
            f"--repeats {repeats}: nested cross-validation can be repeated, once or more often; nothing else."
        )
    if only_fold is not None and protocol != "seed":
        raise InputError("--only-fold goes with --protocol seed, whose folds need not be run together.")
    grid = settings_with(question.probe, kind.seed_settings if protocol == "seed" else kind.settings, question.hyper)
    if protocol == "seed":
        question = replace(question, batch=published.BATCH)
    if protocol == "seed" or split == "official":
        question = replace(question, group="video")
    setup = set_up(store, question, grid)
    if start is not None:
        warnings = seen_before(start, store.snapshot.dataset, split)
        setup = replace(setup, data=replace(setup.data, notes=(*setup.data.notes, *warnings)))
    settings = {
        **setup.settings,
        "protocol": "split" if split else protocol,
        "grid": [dict(setting) for setting in grid],
        "patience": patience,
    }
    if split:
        return one_split(setup, grid, settings, split, patience=patience)
    if protocol == "seed":
        return published.published(setup, grid, settings, only_fold)
    return nested(setup, grid, settings, patience=patience, repeats=repeats, diagnose=diagnose)


def _as_is(store: TokenStore, start: Start | None, split: str | None, protocol: str, question: Question) -> Result:
    """Return what a saved head makes of a store."""
    if start is None:
        raise InputError("--as-is scores a saved head: name it with --start-from.")
    if protocol != "nested" or question.hyper:
        raise InputError("--as-is trains nothing: it goes with no --set, --depth, --loss or other --protocol.")
    _check(protocol, split, question.group, None)
    question = replace(question, probe=start.probe.kind, group="video" if split == "official" else question.group)
    # Whatever its loss was, none is taken here.
    setup = set_up(store, question, [{name: value for name, value in start.setting.items() if name != "loss"}])
    check_own_tokens(start, store)
    notes = check_start(start, store, question, setup.data, setup.features.dim)
    notes += seen_before(start, store.snapshot.dataset, split)
    setup = replace(setup, data=replace(setup.data, notes=(*setup.data.notes, *notes)))
    return score_as_is(setup, start, setup.settings, split)


def _check(protocol: str, split: str | None, group: str | None, patience: int | None) -> None:
    if protocol not in PROTOCOLS:
        raise InputError(
            f"There is no protocol {protocol!r}; there are nested and seed.{suggest(protocol, list(PROTOCOLS))}"
        )
    if patience is not None and protocol == "seed":
        raise InputError("--patience does not go with --protocol seed, which looks at every epoch, as published.")
    if split and protocol == "seed":
        raise InputError("--split does not go with --protocol seed, which has the published folds.")
    if group and (protocol == "seed" or split == "official"):
        raise InputError(f"--group {group} does not go with folds that are given: leave out --group.")
