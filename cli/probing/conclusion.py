"""What every run ends with: checks, the table, the run's folder, the report."""

import json
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from echolung.cli.terminal.console import detail, out, print_json, say
from echolung.errors import InputError

if TYPE_CHECKING:
    from echolung.cache import TokenStore
    from echolung.evaluation import Result
    from echolung.evaluation.checks.finding import Finding
    from echolung.report.run import Twin

LONGEST = 150
"""Letters of what a check found that the terminal shows; the report shows all."""


def conclude(
    result: "Result",
    store: "TokenStore",
    began: float,
    *,
    to: Path | None = None,
    as_json: bool = False,
    twins: "Sequence[Twin]" = (),
    mute: Sequence[str] = (),
    report: bool = True,
    extra: dict[str, Any] | None = None,
) -> Path:
    """Check, show, save and report a result; return the run's folder.

    Args:
        result: what was found.
        store: what it was found in.
        began: when the work began, by `time.perf_counter`.
        to: the run's folder; None: a new one under ECHOLUNG_HOME/runs.
        as_json: print the result for programs, in the place of the table.
        twins: the same question asked of the same model with random weights.
        mute: codes of checks that are not wanted.
        report: also write report.html.
        extra: more fields of the record.
    """
    from echolung.cli.probing.table import show
    from echolung.evaluation.checks.run import check_result
    from echolung.evaluation.summary import summarise
    from echolung.report.record import save_run

    detail(f"Settings: {json.dumps(result.settings, default=str)}")
    summary = summarise(result)
    findings = check_result(result, summary, store, twins, mute)
    extra = {**(extra or {}), **_of_store(result, store)}
    seconds = time.perf_counter() - began
    # Shown first: if saving fails, the result has at least been seen. And what was computed is saved if showing fails.
    if not as_json:
        try:
            show(result, summary, store, seconds, twins)
            show_extra(extra)
            show_findings(findings)
        except Exception as error:
            say(f"The table could not be shown ({type(error).__name__}: {error}); the run is saved.")
    folder = save_run(result, summary, store, seconds, to, twins, findings, extra)
    if as_json:
        fields = {"settings": result.settings, "metrics": summary.to_json(), "notes": list(result.notes)}
        print_json({"run": str(folder), **fields, "findings": [f.to_json() for f in findings], **extra})
    else:
        say(f"Saved in {folder}")
    if report:
        write_report(folder, store)
    return folder


def _of_store(result: "Result", store: "TokenStore") -> dict[str, Any]:
    """Return what the record keeps of a store's embeddings and of its subgroups of videos."""
    from echolung.evaluation.embeddings import continuity_of
    from echolung.evaluation.facts import facts_of
    from echolung.evaluation.statistics.subgroups import subgroups

    found: dict[str, Any] = {}
    if (smooth := continuity_of(result, store)) is not None:
        found["continuity"] = smooth.to_json()
    groups = subgroups(result.predictions, facts_of(store), result.task)
    return {**found, **({"subgroups": [dict(group.__dict__) for group in groups]} if groups else {})}


def write_report(folder: Path, store: "TokenStore | None") -> None:
    """Write the report of a run that has just been saved; a report that fails costs the report, not the run."""
    from echolung.report.html.page import write_report as write
    from echolung.report.run import read_run

    began = time.perf_counter()
    try:
        page = write(read_run(folder), store)
    except (OSError, InputError) as error:
        say(f"No report was written ({error}). The run is safe: echolung report {folder} tries again.")
        return
    say(f"Report: {page} ({time.perf_counter() - began:.0f} s)")


def show_extra(extra: dict[str, Any]) -> None:
    """Print what came of permutations and of leaving pairs out, where asked for, and how smooth embeddings are."""
    from echolung.cli.probing.table import number

    if test := extra.get("permutation"):
        metric, known = test["metric"], {key: number(test["metric"], test[key]) for key in ("observed", "null_mean")}
        out().print(
            f"Permutations: {metric.replace('_', ' ')} {known['observed']}, with meaningless labels {known['null_mean']} on "
            f"average; p = {test['p']:.3g} ({test['permutations']} reruns of the whole procedure)",
            highlight=False,
        )
    if pairs := extra.get("leave_pair_out"):
        out().print(f"Leave-pair-out AUROC {pairs['auroc']:.3f} ({pairs['pairs']} pairs of patients)", highlight=False)
    if found := extra.get("continuity"):
        low, high = found["spearman_interval"]
        told = (
            f"Embeddings: distance goes with difference at Spearman {found['spearman']:.3f} [{low:.3f}, {high:.3f}]",
            f"the 5 nearest of other patients tell it to {found['knn_mae']:.2f} ({found['knn_mae_chance']:.2f} by chance)",
            f"trustworthiness {found['trustworthiness']:.3f} ({found['trustworthiness_chance']:.3f} by chance)",
        )
        out().print("; ".join(told), highlight=False)


def show_findings(findings: "Sequence[Finding]") -> None:
    """Print what checks warn of, two lines each or so, and count the rest."""
    from rich.markup import escape

    warnings = [finding for finding in findings if finding.status == "warning"]
    out().print()
    for finding in warnings:
        told = textwrap.shorten(finding.found, LONGEST, placeholder=" …")
        out().print(f"[yellow]{finding.code}[/] [bold]{escape(finding.title)}[/]: {escape(told)}", highlight=False)
    counts = {status: sum(f.status == status for f in findings) for status in ("fine", "not applicable", "muted")}
    rest = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    told = f"{len(warnings)} of {len(findings)} checks warn" if warnings else f"None of {len(findings)} checks warns"
    out().print(
        f"[dim]{told}{f' ({rest})' if rest else ''}. The report and docs/checks.md say why it matters and what to do.[/]",
        highlight=False,
    )
