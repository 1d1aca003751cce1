"""A comparison in words and cells, the same for the terminal and the page."""

from collections.abc import Sequence
from typing import Any

from echolung.evaluation.comparison import Comparison, Contrast, Gain
from echolung.evaluation.metrics import LABELS
from echolung.report.html.tables import LOWER, PER_CENT, between, in_words, number, spread
from echolung.text import counted


def title(found: Comparison) -> str:
    """Return what is compared with what."""
    return f"{found.a} against {' and '.join(found.names[1:])}"


def about(found: Comparison) -> str:
    """Return on which videos, in which folds."""
    it = found.about
    folds = counted(it["folds"], "fold") if it["folds"] else "pooled"
    sizes = f"{counted(it['patients'], 'patient')}, {counted(it['videos'], 'video')}"
    return f"{it['dataset']} · {it['task']} · {sizes} · {folds} by {it['group']}"


def rows(found: Comparison, contrast: Contrast) -> list[list[str]]:
    """Return a row for each metric, the main one first: its name, both arms, gain by fold, gain pooled with interval, p."""
    order = sorted(contrast.gains, key=lambda name: name != found.metric)
    return [[label(name), *_cells(name, contrast.gains[name])] for name in order]


def label(metric: str) -> str:
    """Return a metric's name and unit, and where less of it is better, that."""
    less = " (less is better)" if metric in LOWER else ""
    return f"{LABELS.get(metric, metric)}{' %' if metric in PER_CENT else ''}{less}"


def _cells(metric: str, gain: Gain) -> list[str]:
    by_fold = "—" if gain.mean != gain.mean else f"{signed(metric, gain.mean)} ± {number(metric, gain.sd)}"
    interval = "" if gain.low != gain.low else f" [{signed(metric, gain.low)}, {signed(metric, gain.high)}]"
    each = [spread(metric, gain.a, gain.a_sd).text, spread(metric, gain.b, gain.b_sd).text]
    return [*each, by_fold, signed(metric, gain.pooled) + interval, p_text(gain.p)]


def signed(metric: str, value: float) -> str:
    """Return a difference with its sign."""
    text = number(metric, value)
    return text if text.startswith(("-", "−", "—")) or not text.strip("0.") else f"+{text}"


def p_text(p: float) -> str:
    """Return a p-value with as many digits as mean something."""
    if p != p:
        return "—"
    if p < 0.00005:
        return "< 0.0001"
    return f"{p:.4f}" if p < 0.0995 else f"{p:.2f}"


def verdict(found: Comparison, contrast: Contrast) -> str:
    """Return what may be said of the main metric."""
    gain, name = contrast.gains[found.metric], in_words(found.metric)
    if gain.low != gain.low:
        return f"These patients give no interval of the gain in {name}."
    if gain.low <= 0 <= gain.high:
        said = f"No difference in {name} is shown: the interval of the gain holds 0."
    else:
        said = f"{found.a if gain.low > 0 else contrast.b} is better in {name}: the interval of the gain leaves out 0."
    if contrast.smallest == contrast.smallest:
        said += (
            f" The least gain that these {counted(found.about['patients'], 'patient')} would show four times in five is "
            f"{number(found.metric, contrast.smallest)}{' points' if found.metric in PER_CENT else ''}."
        )
    return said


def sentences(found: Comparison, contrast: Contrast) -> list[str]:
    """Return the tests of the main metric, a sentence or two each."""
    gain, name = contrast.gains[found.metric], in_words(found.metric)
    several = len(found.contrasts)
    corrected = f", Holm over {several} comparisons {p_text(contrast.p_holm)}" if several > 1 else ""
    over = "" if contrast.dz != contrast.dz else f"; Cohen's d_z over patients {contrast.dz:.2f}"
    said = [f"By patient ({name}): sign-flip permutation p {p_text(gain.p)}{corrected}{over}."]
    if tests := contrast.tests:
        said.append(
            f"By fold ({name}): paired t p {p_text(tests.naive.p)}, Wilcoxon p {p_text(tests.wilcoxon)}, d_z {tests.dz:.2f}, as "
            f"papers print them; corrected resampled t p {p_text(tests.corrected.p)} "
            f"[{signed(found.metric, tests.corrected.low)}, {signed(found.metric, tests.corrected.high)}]."
        )
    if (delong := contrast.delong) and delong.se == delong.se:
        ends = f"[{signed('auroc', delong.low)}, {signed('auroc', delong.high)}]"
        said.append(f"AUROC, clustered DeLong: {signed('auroc', delong.difference)} {ends}, p {p_text(delong.p)}.")
    return said


def seeds(found: Comparison) -> list[str]:
    """Return the main metric of each run of the arms that have several."""
    return [
        f"{name}: {in_words(found.metric)} of its {len(values[found.metric])} runs, pooled: "
        f"{', '.join(number(found.metric, value) for value in values[found.metric])}."
        for name, values in found.per_run.items()
        if len(values[found.metric]) > 1
    ]


SMOOTHNESS = (
    "embeddings of",
    "Spearman, distance and difference",
    "MAE of the 5 nearest (by chance)",
    "trustworthiness",
)
"""Heads of `smoothness`; docs/report.md says what each is."""


def smoothness(runs: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Return a row for each run (`encoder`, `continuity`) that knows how smoothly the number changes; none of one alone."""
    rows = []
    for run in runs:
        if found := run.get("continuity"):
            rho, mae, trust, by_chance = (
                number("", found[name]) for name in ("spearman", "knn_mae", "trustworthiness", "knn_mae_chance")
            )
            ends = {name: f"[{between('', found[f'{name}_interval'])}]" for name in ("spearman", "knn_mae")}
            told = [f"{rho} {ends['spearman']}", f"{mae} {ends['knn_mae']} ({by_chance})", trust]
            rows.append([str(run["encoder"]), *told])
    return rows if len(rows) > 1 else []
