"""EL201 to EL203: what training and test share."""

import numpy as np

from echolung.evaluation.checks.codes import fine, not_applicable, warning
from echolung.evaluation.checks.data import name_pairs
from echolung.evaluation.checks.duplicates import Pair, alike_pictures, alike_tokens
from echolung.evaluation.checks.finding import Finding
from echolung.evaluation.checks.subject import Subject
from echolung.evaluation.result import Result


def shared_patients(result: Result, subject: Subject) -> Finding:
    """EL201: patients in a test part and in what its probe was trained or chosen on, as the run itself counted them."""
    patients = subject.knows("patient")
    if not patients.any():
        return not_applicable("EL201", "No patient is known, so videos of one patient may be in train and test.")
    shared = result.shared.get("patients", 0)
    unknown = int((~patients).sum())
    note = f" The patient of {unknown} videos is not known." if unknown else ""
    if shared:
        return warning(
            "EL201", f"{shared} patients are in a test part and in what its probe was trained or chosen on.{note}"
        )
    return fine("EL201", f"No patient is in train and test.{note}")


def shared_sources(subject: Subject) -> Finding:
    """EL202: tested videos whose source is in training."""
    sources, known = subject.names("source"), subject.knows("source")
    if len(set(sources[known])) < 2:
        return not_applicable(
            "EL202", "All videos are from one source, or none is known, so nothing shows how it is elsewhere."
        )
    if subject.folds is None:
        return not_applicable("EL202", "What was trained on is not known here.")
    folds, shared, tested = subject.folds, 0, 0
    for fold in range(folds.count):
        test, train = folds.test(fold) & known, folds.train(fold) & known
        shared += int(np.isin(sources[test], sources[train]).sum())
        tested += int(test.sum())
    if shared:
        return warning("EL202", f"{shared} of {tested} tested videos are of a source that is in training, too.")
    return fine("EL202", f"No source is in train and test ({len(set(sources[known]))} sources).")


def duplicates_across(subject: Subject) -> Finding:
    """EL203: pairs that are alike by pictures or tokens, or equal, one in a test part and the other in its training."""
    if subject.folds is None:
        return not_applicable("EL203", "What was trained on is not known here.")
    if not (subject.pictures or subject.tokens):
        return not_applicable("EL203", "There are neither pictures nor tokens of these videos here.")
    if len(subject.videos) < 8:
        return not_applicable(
            "EL203", f"{len(subject.videos)} videos are too few to tell what is peculiar to two of them."
        )
    fold = dict(zip(subject.videos["video_id"].astype(str), subject.folds.of.tolist(), strict=True))
    equal = [Pair(names[0], other, 1.0) for names in subject.equal or [] for other in names[1:]]
    kinds = {
        "equal files": equal,
        "alike by pictures": alike_pictures(subject.pictures),
        "alike by tokens": alike_tokens(subject.tokens),
    }
    apart = {kind: [p for p in pairs if fold[p.first] != fold[p.second]] for kind, pairs in kinds.items()}
    told = [f"{len(pairs)} {kind}: {name_pairs(pairs)}" for kind, pairs in apart.items() if pairs]
    if told:
        return warning("EL203", f"Pairs with one clip in train and one in test: {'; '.join(told)}.")
    inside = sum(len(pairs) for pairs in kinds.values())
    return fine("EL203", f"No two clips that are alike are in train and test ({inside} pairs are in one fold).")
