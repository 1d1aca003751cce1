"""Every check of a run: of a result just found, with its store."""

from collections.abc import Sequence
from typing import Any

from echolung.cache import TokenStore
from echolung.evaluation.checks.choices import grid_edge, inner_against_outer, last_epoch, optimism
from echolung.evaluation.checks.codes import check_codes, muted, not_applicable
from echolung.evaluation.checks.data import (
    clinical_alone,
    equal_files,
    few_patients,
    file_alone,
    lonely_classes,
    mixed_patients,
    source_alone,
)
from echolung.evaluation.checks.finding import Finding
from echolung.evaluation.checks.folds import duplicates_across, shared_patients, shared_sources
from echolung.evaluation.checks.outcome import (
    below_file,
    below_guessing,
    below_random,
    constant,
    no_probabilities,
    not_the_chosen,
    outlier_fold,
)
from echolung.evaluation.checks.subject import subject_of
from echolung.evaluation.result import Result
from echolung.evaluation.summary import Summary

BLIND = {"EL107": file_alone, "EL108": source_alone, "EL109": clinical_alone}


def check_result(
    result: Result, summary: Summary, store: TokenStore, twins: Sequence[Any] = (), mute: Sequence[str] = ()
) -> list[Finding]:
    """Return the findings of every check of a run, in the order of their codes. Needs no video.

    Args:
        result: what was found.
        summary: its numbers.
        store: whose tokens it was found in; its table, previews and facts of files are looked at.
        twins: the same question asked of the same model with random weights: objects with a `summary`.
        mute: codes that are marked as muted.

    Raises:
        InputError: a code that there is not.
    """
    check_codes(mute)
    subject = subject_of(result, store)
    if subject.folds is None:
        blind = {code: not_applicable(code, "What was trained on is not known here.") for code in BLIND}
    else:
        blind = {code: check(subject) for code, check in BLIND.items()}
    findings = [
        mixed_patients(subject),
        lonely_classes(subject),
        equal_files(subject),
        *blind.values(),
        shared_sources(subject),
        duplicates_across(subject),
        below_file(result, summary, blind["EL107"]),
        few_patients(subject),
        shared_patients(result, subject),
        grid_edge(result),
        last_epoch(result),
        optimism(result),
        inner_against_outer(result),
        below_guessing(result, summary),
        below_random(result, summary, twins),
        outlier_fold(result),
        constant(result),
        no_probabilities(result),
        not_the_chosen(result),
    ]
    return muted(findings, mute)
