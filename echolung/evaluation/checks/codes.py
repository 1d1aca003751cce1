"""Every check by its code: what it looks for, why that matters, what to do. docs/checks.md is this table in prose."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from echolung.errors import InputError
from echolung.evaluation.checks.finding import Finding
from echolung.text import suggest


@dataclass(frozen=True)
class About:
    """What a check looks for (`title`), why that matters, and what to do where it is found."""

    title: str
    why: str
    advice: str


CHECKS = {
    # ---- data --------------------------------------------------------------------------------------------------------
    "EL101": About(
        "patients with videos of several classes",
        "A patient under two labels is either a real change of state or a mistake in the table; a patient-level score "
        "leaves such patients out.",
        "Look these patients up. Where the label is the patient's, correct the table (--labels CSV).",
    ),
    "EL102": About(
        "patients with several videos",
        "Folds made by video put clips of one patient on both sides: the probe recognises a person, and that counts as "
        "a diagnosis.",
        "Keep patients together (the default), or sources (--group source); never --group video.",
    ),
    "EL103": About(
        "classes that live in sources of their own",
        "Whatever tells the sources apart (scanner, crop, compression) also tells these classes apart, and no folds by "
        "patient can show the difference.",
        "Run --group source beside every result, and quote both numbers.",
    ),
    "EL104": About(
        "equal files",
        "The same clip counts twice, and on both sides of a fold it is an answer that is known beforehand.",
        "Remove all but one of each, or give them one patient.",
    ),
    "EL105": About(
        "clips that look alike though their patients differ",
        "One scan under two patients defeats folds that keep patients together.",
        "Look at these pairs. Where they show one person, give both the same patient (--labels CSV with a column patient).",
    ),
    "EL106": About(
        "clips whose tokens are alike though their patients differ",
        "To the encoder these are one clip, so a probe that has learnt one of them knows the other.",
        "Look at these pairs. Where they show one person, give both the same patient (--labels CSV with a column patient).",
    ),
    "EL107": About(
        "label predictable from the file alone",
        "A forest that sees no pixel does better than guessing, so a model that does as well need not have looked at "
        "the organ.",
        "Quote the forest's score beside the model's; group by source; resample in time (--fps); see whether an encoder "
        "with random weights does as well.",
    ),
    "EL108": About(
        "label predictable from the source alone",
        "Knowing where a video came from is enough, and scanner, crop and compression give that away.",
        "Run --group source, where this knowledge is worth nothing.",
    ),
    "EL109": About(
        "label predictable from clinical variables alone",
        "A model of videos is of use where it adds to what is known without them.",
        "Quote this score beside the model's.",
    ),
    "EL110": About(
        "too few patients for an interval to mean much",
        "With so few patients a bootstrap draws the same ones over and over, and its interval is too short.",
        "Call the result a pilot; report the number of patients beside it; gather more.",
    ),
    # ---- folds and choices -------------------------------------------------------------------------------------------
    "EL201": About(
        "patients in train and test",
        "The probe is tested on people whom it has learnt: it recognises them.",
        "Use --group patient (the default), and call this number optimistic.",
    ),
    "EL202": About(
        "sources in train and test",
        "Nothing here shows that the result holds at another hospital or on another scanner.",
        "Run --group source beside it.",
    ),
    "EL203": About(
        "near-duplicate clips in train and test",
        "The answer for one of a pair was seen in training.",
        "Give both clips of a pair one patient (--labels CSV with a column patient), and run again.",
    ),
    "EL204": About(
        "settings chosen at the edge of the grid",
        "The best value may lie beyond the edge, so this result may be less than the encoder can give.",
        "Extend the grid on that side (--set), or run `echolung study`.",
    ),
    "EL205": About(
        "epochs chosen at the first or last",
        "Training was too short or too long for this choice to be a free one.",
        "Change --epochs, or the learning rates (--set lr=...).",
    ),
    "EL206": About(
        "what choosing on the scored videos adds",
        "The best of many looks at few videos is high by chance; many published numbers are of this kind.",
        "Quote the nested number.",
    ),
    "EL207": About(
        "inner score far above the outer",
        "What was chosen inside does not hold outside: too many settings for so few patients, or folds that differ.",
        "Use fewer settings (--set), and look at the folds one by one.",
    ),
    # ---- result ------------------------------------------------------------------------------------------------------
    "EL301": About(
        "no better than guessing",
        "Whoever only knows how frequent the classes are does as well.",
        "Do not use this probe. Look at the labels, then at the encoder.",
    ),
    "EL302": About(
        "no better than random weights",
        "The same network that has learnt nothing does as well, so pretraining is not what gives this score.",
        "Do not speak of a gain by pretraining here; compare with `echolung compare`.",
    ),
    "EL303": About(
        "one fold unlike the others",
        "A mean over folds hides it; its videos may differ in kind, or its training may have failed.",
        "Look at the patients and sources of that fold; repeat with other folds (--repeats).",
    ),
    "EL304": About(
        "the same prediction for every video",
        "The probe has learnt nothing there, and its accuracy is only the share of that class.",
        "Look at balanced accuracy; try larger learning rates, or --set class_weights=balanced.",
    ),
    "EL305": About(
        "predictions that are no probabilities",
        "Every metric that uses them is wrong.",
        "Repeat the run; a file that was written by something else has to hold probabilities that sum to 1.",
    ),
    "EL306": About(
        "no better than what the file alone gives away",
        "A forest that sees no pixel does as well in the same folds.",
        "Do not read this score as a finding about the organ; run --group source.",
    ),
    "EL307": About(
        "predictions that are not those of the chosen probe",
        "What was saved and what was chosen are two different probes, so the table mixes them.",
        "Repeat the run; do not quote its numbers.",
    ),
}
"""Code -> what it is about. EL1.. data, EL2.. folds and choices, EL3.. the result."""


def fine(code: str, found: str, scores: dict[str, Any] | None = None) -> Finding:
    """Return that nothing is wrong; `found` says what was looked at."""
    return Finding(code, CHECKS[code].title, "fine", found, scores=scores or {})


def warning(code: str, found: str, scores: dict[str, Any] | None = None) -> Finding:
    """Return what was found, with why it matters and what to do."""
    about = CHECKS[code]
    return Finding(code, about.title, "warning", found, about.why, about.advice, scores or {})


def not_applicable(code: str, found: str) -> Finding:
    """Return that the question does not arise; `found` says why."""
    return Finding(code, CHECKS[code].title, "not applicable", found)


def muted(findings: Iterable[Finding], mute: Sequence[str]) -> list[Finding]:
    """Return the findings, in the order of their codes, with those in `mute` marked as not to be shown."""
    codes = {code.upper() for code in mute}
    ordered = sorted(findings, key=lambda finding: finding.code)
    return [replace(finding, status="muted") if finding.code in codes else finding for finding in ordered]


def check_codes(mute: Sequence[str]) -> None:
    """Raise InputError where a code to be muted is none."""
    for code in mute:
        if code.upper() not in CHECKS:
            raise InputError(
                f"There is no check {code!r} to mute; docs/checks.md lists them: {', '.join(CHECKS)}."
                f"{suggest(code.upper(), list(CHECKS))}"
            )
