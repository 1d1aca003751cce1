"""A saved head scored as it is: nothing is trained."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Bool

from echolung.errors import InputError
from echolung.evaluation.holdout import division
from echolung.evaluation.nested import calibrated
from echolung.evaluation.parts import inner_table
from echolung.evaluation.result import Result, build_result, kept_together
from echolung.evaluation.selection import Choice
from echolung.evaluation.setup import Setup
from echolung.evaluation.splits import Folds, grouped_folds
from echolung.probes.saved import with_provenance
from echolung.probes.start import SHAPING, Start


def score_as_is(setup: Setup, start: Start, settings: Mapping[str, Any], split: str | None) -> Result:
    """Return what a saved head makes of videos, without any training.

    With a split its test part is scored; else every video, in the folds that cross-validation has. `Result.inner` has what it
    makes of the validation part, or of the other folds: what temperature and threshold may be chosen on.

    Args:
        setup: videos and features.
        start: the head.
        settings: for the record.
        split: "official", or shares such as "60/20/20"; None: folds.

    Raises:
        InputError: other classes than the head's, no such split, or no such folds.
    """
    data, head = setup.data, start.probe
    if head.classes != data.task.classes:
        raise InputError(
            f"The head {start.name} tells {', '.join(head.classes)} apart, and {data.name} asks for "
            f"{', '.join(data.task.classes)}: as it is it has no answer. Leave out --as-is to train it."
        )
    setting = {name: value for name, value in start.setting.items() if name in SHAPING}
    outputs = setup.kind.predict(head.arrays, setup.features, setting)
    folds, chosen_on, how = _folds(setup, split)
    settings = {**settings, **how, "as_is": True, "start": start.to_json(), "grid": [setting], "epochs": 1}
    notes = [*data.notes, f"The head {start.name} is scored as it is: nothing was trained here."]
    order = range(folds.count)
    choices = [Choice(setting, 0)] * folds.count
    result = build_result(data, folds, order, outputs, choices, settings, notes, None, chosen_on[0] if split else None)
    looked = [np.where(chosen[:, None], outputs, np.nan) for chosen in chosen_on]
    about = {**settings, "setting": start.setting, "epoch": 0, "videos": head.about.get("videos")}
    probe = with_provenance(replace(head, about=about), setup.store, data.videos)
    # How far new videos are from those that it learnt from only its own file can say.
    probe = replace(probe, reference=head.reference)
    return calibrated(replace(result, probe=probe, inner=inner_table(setup, np.stack(looked), order)))


def _folds(setup: Setup, split: str | None) -> tuple[Folds, list[Bool[np.ndarray, " v"]], dict[str, Any]]:
    """Return the folds that are scored, what may be chosen on for each, and settings for the record."""
    if split:
        parts = division(setup, split)
        test, validation = parts.test(2), parts.test(1)
        only = Folds(np.where(test, 0, np.where(parts.test(0), 1, -1)), 1)
        together = {"group": kept_together(setup.data, parts, range(3))} if split == "official" else {}
        return only, [validation], {"protocol": "split", "split": split, **together}
    cv = setup.question.cv
    # Those of nested cross-validation by the same seed, so that the two can be compared fold by fold.
    folds = grouped_folds(setup.units, cv, setup.question.seed)
    if folds is None:
        raise InputError(f"--cv {cv}: no such folds can be made of these {setup.data.level}s; try fewer.")
    return folds, [folds.train(fold) for fold in range(cv)], {"protocol": "as-is", "folds": cv}
