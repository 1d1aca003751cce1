"""EL1..: what the data themselves give away, before any model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from echolung.evaluation.checks.codes import check_codes, fine, muted, not_applicable, warning
from echolung.evaluation.checks.duplicates import Pair, alike_pictures, alike_tokens
from echolung.evaluation.checks.finding import Finding
from echolung.evaluation.checks.forest import Blind, blind, blind_at, columns_that_vary
from echolung.evaluation.checks.subject import FILE, KNOWN_WITHOUT_VIDEO, Subject
from echolung.evaluation.splits import grouped_folds
from echolung.text import listed

FEW_PATIENTS, FEW_OF_A_CLASS = 20, 10
"""Below so many patients, in all or of one class, an interval is called into question."""

NAMES = {
    "fps": "frame rate",
    "frame_rate": "frame rate as the dataset states it",
    "source_size": "size in bytes",
    "frames": "frame count",
}
"""Column -> what sentences call it."""


def audit(subject: Subject, mute: Sequence[str] = ()) -> list[Finding]:
    """Return the findings of every check that needs no model, in the order of their codes.

    Args:
        subject: the videos; `folds` may be None.
        mute: codes that are marked as muted.

    Raises:
        InputError: a code that there is not.
    """
    check_codes(mute)
    return muted([check(subject) for check in AUDIT], mute)


# ---- patients and sources --------------------------------------------------------------------------------------------


def mixed_patients(subject: Subject) -> Finding:
    """EL101: patients whose videos differ in class."""
    if not subject.task.classes:
        return not_applicable("EL101", "The labels are numbers.")
    known = subject.knows("patient")
    if not known.any():
        return not_applicable("EL101", "No patient is known.")
    labels = subject.videos["label"][known].groupby(subject.names("patient")[known])
    several = labels.agg(lambda values: ", ".join(sorted(set(values))))[labels.nunique() > 1]
    if several.empty:
        return fine("EL101", f"Each of {labels.ngroups} patients has one class.")
    who = listed((f"{patient} ({what})" for patient, what in several.items()), 5)
    return warning("EL101", f"{len(several)} of {labels.ngroups} patients have videos of several classes: {who}.")


def shared_by_video_folds(subject: Subject) -> Finding:
    """EL102: how many videos a probe would be tested on whose patient it has learnt, were folds made by video."""
    known = subject.knows("patient")
    if not known.all():
        return not_applicable("EL102", f"The patient is not known for {int((~known).sum())} of {len(known)} videos.")
    patients = subject.names("patient")
    counts = pd.Series(patients).value_counts()
    if counts.max() == 1:
        return fine("EL102", f"Each of {len(counts)} patients has one video.")
    units = subject.units("video")
    folds = None if units is None else grouped_folds(units, min(5, units.largest_k), 42)
    several = f"{int((counts > 1).sum())} of {len(counts)} patients have several videos, up to {counts.max()}"
    if folds is None:
        return warning("EL102", f"{several}.")
    shared = sum(int(np.isin(patients[folds.test(f)], patients[folds.train(f)]).sum()) for f in range(folds.count))
    text = (
        f"In {folds.count} folds made by video, {shared} of {len(patients)} tested videos are of a patient in training."
    )
    return warning("EL102", f"{several}. {text}", {"shared_by_video_folds": shared})


def lonely_classes(subject: Subject) -> Finding:
    """EL103: classes of which one source or patient has all, or most of whose videos are from sources without another class."""
    if not subject.task.classes:
        return not_applicable("EL103", "The labels are numbers.")
    found = []
    for column in ("patient", "source"):
        names, known = subject.names(column), subject.knows(column)
        if len(set(names[known])) < 2:
            continue
        for label in subject.task.classes:
            own = (subject.videos["label"] == label).to_numpy() & known
            if own.any() and len(set(names[own])) == 1:
                found.append(f"every {label} video is of {column} {names[own][0]}")
    if not subject.knows("source").any() or len(set(subject.names("source"))) < 2:
        if found:
            return warning("EL103", f"{_sentence(found)}.")
        return not_applicable("EL103", "All videos are from one source, or none is known.")
    found += _segregated(subject)
    if found:
        return warning("EL103", f"{_sentence(found)}.")
    return fine(
        "EL103", f"Every class comes from sources that have others, too ({len(set(subject.names('source')))} sources)."
    )


def _segregated(subject: Subject) -> list[str]:
    """Return the classes of which more than half of the videos are from sources that have no other class."""
    known = subject.knows("source")
    table = pd.DataFrame({"source": subject.names("source"), "label": subject.videos["label"]})[known]
    pure = table.groupby("source")["label"].nunique()
    alone = table[table["source"].map(pure) == 1]
    found = []
    for label, count in alone["label"].value_counts().items():
        total = int((table["label"] == label).sum())
        sources = sorted(set(alone["source"][alone["label"] == label]))
        if count > total / 2 and len(set(table["source"][table["label"] == label])) > 1:
            found.append(
                f"{count} of {total} {label} videos are from sources with no other class ({listed(sources, 5)})"
            )
    return found


def _sentence(parts: Sequence[str]) -> str:
    text = "; ".join(parts)
    return text[0].upper() + text[1:]


# ---- twice the same --------------------------------------------------------------------------------------------------


def equal_files(subject: Subject) -> Finding:
    """EL104: files that are equal byte for byte, or show the same frames."""
    if subject.equal is None:
        return not_applicable("EL104", "The files were not read.")
    parts = [
        f"{len(groups)} × {what}: {listed((' = '.join(names) for names in groups), 3)}"
        for groups, what in ((subject.equal, "equal files"), (subject.same_frames, "with equal frames in other files"))
        if groups
    ]
    return warning("EL104", f"{_sentence(parts)}.") if parts else fine("EL104", "No two files are equal.")


def look_alike(subject: Subject) -> Finding:
    """EL105: pairs of clips whose pictures are alike and whose patients differ."""
    if not subject.pictures:
        return not_applicable("EL105", "There are no pictures of the frames (a store made with --no-preview).")
    return _alike("EL105", subject, alike_pictures(subject.pictures), len(subject.pictures), "look alike")


def tokens_alike(subject: Subject) -> Finding:
    """EL106: pairs of clips whose tokens are alike and whose patients differ."""
    if not subject.tokens:
        return not_applicable("EL106", "There are no tokens of these videos here.")
    return _alike("EL106", subject, alike_tokens(subject.tokens), len(subject.tokens), "have tokens that are alike")


def _alike(code: str, subject: Subject, pairs: Sequence[Pair], count: int, what: str) -> Finding:
    if count < 8:
        return not_applicable(code, f"{count} videos are too few to tell what is peculiar to two of them.")
    patient = dict(zip(subject.videos["video_id"].astype(str), subject.names("patient"), strict=True))
    apart = [pair for pair in pairs if not patient[pair.first] or patient[pair.first] != patient[pair.second]]
    together = f"of one patient: {len(pairs) - len(apart)}"
    if not apart:
        return fine(code, f"No two of {count} videos of different patients {what} (pairs {together}).")
    return warning(code, f"Pairs of different patients that {what}: {len(apart)}, {name_pairs(apart)} ({together}).")


def name_pairs(pairs: Sequence[Pair]) -> str:
    """Return the first few pairs with their likeness."""
    return listed((f"{pair.first} and {pair.second} ({pair.alike:.2f})" for pair in pairs), 4)


# ---- what should not matter ------------------------------------------------------------------------------------------


def file_alone(subject: Subject) -> Finding:
    """EL107: what a forest makes of container, frame count, frame size and frame rate; without a run at every level."""
    if "frames" in subject.videos:
        return _predictable("EL107", FILE, subject, ("video", "patient", "source"))
    found = _predictable("EL107", KNOWN_WITHOUT_VIDEO, subject, ("video", "patient", "source"))
    note = " The store was made before stores kept frame count, size and rate: `echolung data audit` knows more."
    return replace(found, found=found.found + note)


def source_alone(subject: Subject) -> Finding:
    """EL108: what a forest makes of the source."""
    if len(set(subject.names("source")[subject.knows("source")])) < 2:
        return not_applicable("EL108", "All videos are from one source, or none is known.")
    return _predictable("EL108", ("source",), subject)


def clinical_alone(subject: Subject) -> Finding:
    """EL109: what a forest makes of age, sex and the clinical variables that the dataset has."""
    names = ("age", "sex", *(str(name) for name in subject.videos if str(name).startswith("clinical_")))
    return _predictable("EL109", names, subject)


def _predictable(code: str, wanted: Sequence[str], subject: Subject, levels: Sequence[str] = ()) -> Finding:
    """Return how well the label can be told from the `wanted` columns that are known and differ.

    In the folds of the run; without one in folds by the unit that echolung keeps together, which the verdict is on, and by
    `levels`.
    """
    columns = columns_that_vary(subject.videos, wanted)
    if not columns:
        there = [_name(column) for column in wanted if column in subject.videos]
        if code == "EL107" and there:
            return fine(code, f"The same in all videos, or unknown for half of them: {', '.join(there)}.")
        return not_applicable(code, "Nothing of the kind is known of half of the videos, and differs between them.")
    if len(set(subject.targets.tolist())) < 2:
        return not_applicable(code, "All videos have one label.")
    seen = listed(map(_name, columns), 30)
    if subject.folds is not None:
        one = blind(subject, columns, subject.folds)
        text = f"From {seen} alone a forest scores {told(one.scores)} in the same folds; {_luck(subject, one)}."
        return (warning if one.beats else fine)(code, text, one.scores)
    own = subject.level
    levels = levels or (own,)
    drawn = {level: blind_at(subject, columns, level) for level in levels}
    by_level = {level: found for level, found in drawn.items() if found is not None}
    if own not in by_level:
        return not_applicable(code, f"These {own}s cannot be divided into folds.")
    scores = {level: one.pooled for level, one in by_level.items()}
    text = "; ".join(f"{told(values)} in folds by {level}" for level, values in scores.items())
    text = f"From {seen} alone a forest scores {text}; {_luck(subject, by_level[own])}."
    return (warning if by_level[own].beats else fine)(code, text, scores)


def _name(column: str) -> str:
    return NAMES.get(column, column).removeprefix("clinical_").replace("_", " ")


def told(scores: Mapping[str, float]) -> str:
    """Return scores as sentences tell them: "74.8 % (balanced 73.8 %)" or "MAE 4.1, R² 0.2"."""
    if "accuracy" in scores:
        return f"{100 * scores['accuracy']:.1f} % (balanced {100 * scores['balanced_accuracy']:.1f} %)"
    return f"MAE {scores['mae']:.3g}, R² {scores['r2']:.2f}"


def _luck(subject: Subject, one: Blind) -> str:
    if not subject.task.classes:
        return f"guessing has R² 0, and r up to {one.limit:.2f} by luck"
    return f"guessing has balanced {100 * one.guess:.1f} %, and up to {100 * one.limit:.1f} % by luck"


# ---- how many --------------------------------------------------------------------------------------------------------


def few_patients(subject: Subject) -> Finding:
    """EL110: fewer than 20 patients in all, or than 10 of a class; of a run, of those that are scored."""
    level = "patient" if subject.knows("patient").all() else "video"
    groups, labels = subject.groups(level), subject.videos["label"].to_numpy()
    assert groups is not None
    if subject.folds is not None:
        scored = (subject.folds.of >= 0) & (subject.folds.of < subject.folds.count)
        groups, labels = groups[scored], labels[scored]
    total = len(set(groups))
    counts = {c: len(set(groups[labels == c])) for c in subject.task.classes}
    few = {name: count for name, count in counts.items() if count < FEW_OF_A_CLASS}
    text = f"{total} {level}s" + (f" ({', '.join(f'{c}: {n}' for c, n in counts.items())})" if counts else "")
    if total < FEW_PATIENTS or few:
        return warning("EL110", f"{text}: fewer than {FEW_PATIENTS} in all, or than {FEW_OF_A_CLASS} of a class.")
    return fine("EL110", f"{text}.")


Check = Callable[[Subject], Finding]

AUDIT: tuple[Check, ...] = (
    mixed_patients,
    shared_by_video_folds,
    lonely_classes,
    equal_files,
    look_alike,
    tokens_alike,
    file_alone,
    source_alone,
    clinical_alone,
    few_patients,
)
"""Every check that needs no model."""
