"""Two or more runs compared on the same videos: the gain of the first over each other, and what it is worth."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from echolung.errors import InputError
from echolung.evaluation.pairing import Arm, Paired, Scored, dataset_of, pair
from echolung.evaluation.result import is_optimistic
from echolung.evaluation.statistics import weighted
from echolung.evaluation.statistics.delong import Difference, compare_aurocs
from echolung.evaluation.statistics.paired import paired_bootstrap, sign_flip
from echolung.evaluation.statistics.power import smallest_difference
from echolung.evaluation.statistics.resampled import PairedTest, cohens_dz, holm, nadeau_bengio, naive_t, wilcoxon
from echolung.evaluation.statistics.resampling import RESAMPLES
from echolung.text import listed, suggest

METRICS = {
    "classification": ("balanced_accuracy", "accuracy", "auroc", "brier", "qwk"),
    "regression": ("mae", "rmse", "r2"),
}
"""What is compared, the main metric first; qwk of ordinal classes alone."""


@dataclass(frozen=True)
class Gain:
    """How much better the first arm is in one metric; above 0 it is better, of errors, too.

    Attributes:
        a: mean over folds of the first arm, and over its runs.
        b: the same of the other.
        a_sd: standard deviation over folds (ddof 1).
        b_sd: the same of the other.
        mean: of the differences fold by fold; NaN where folds differ, as is sd.
        sd: of these differences (ddof 1).
        pooled: the difference of all predictions pooled (AUROC: of means over folds): what the interval is of.
        low: end of the 95 % interval by patients drawn with replacement, and encoder seeds where an arm has several.
        high: the other end.
        p: patient-wise sign-flip permutation, two-sided.
    """

    a: float
    b: float
    a_sd: float
    b_sd: float
    mean: float
    sd: float
    pooled: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class FoldTests:
    """What papers print of differences fold by fold, and what they should: the corrected test."""

    naive: PairedTest
    corrected: PairedTest
    wilcoxon: float
    dz: float


@dataclass(frozen=True)
class Contrast:
    """The first arm against one other.

    Attributes:
        b: name of the other arm.
        gains: metric -> gain.
        folds: one row a fold and metric: fold, metric, a, b, gain; empty where folds differ.
        p_holm: p of the main metric, corrected for the number of contrasts.
        dz: Cohen's d_z of the main metric over patients; NaN where it is no sum over videos.
        smallest: the least gain in the main metric that these patients would show four times in five; NaN likewise.
        tests: of the main metric, fold by fold; None where folds differ or there is one.
        delong: of AUROC; None of numbers, or where folds differ.
    """

    b: str
    gains: dict[str, Gain]
    folds: pd.DataFrame
    p_holm: float
    dz: float
    smallest: float
    tests: FoldTests | None
    delong: Difference | None


@dataclass(frozen=True)
class Comparison:
    """What comparing found.

    Attributes:
        a: name of the first arm, whose gains these are.
        metric: the main metric, which is tested.
        contrasts: one for each other arm.
        per_run: arm -> metric -> value of each of its runs, all predictions pooled.
        differing: what differs between the arms -> its text for each arm, the first arm first.
        about: dataset, task, group, patients, videos, folds (None where they differ), resamples.
        optimistic: whether any arm chose on the videos that it scores.
        notes: what the reader must know.
    """

    a: str
    metric: str
    contrasts: tuple[Contrast, ...]
    per_run: dict[str, dict[str, list[float]]]
    differing: dict[str, list[str]]
    about: dict[str, Any]
    optimistic: bool
    notes: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """The arms, the first one first."""
        return [self.a, *(contrast.b for contrast in self.contrasts)]


def compare(
    arms: Sequence[Arm], metric: str | None = None, *, anyway: bool = False, seed: int = 0, resamples: int = RESAMPLES
) -> Comparison:
    """Return the gain of the first arm over each other.

    Args:
        arms: two or more, of different names.
        metric: the main one, which is tested; default balanced accuracy, of numbers MAE.
        anyway: compare runs that differ in videos, folds, task or honesty, on the videos in common.
        seed: of resampling and permutation.
        resamples: of patients, and swaps between arms.

    Raises:
        InputError: fewer than two arms, no such metric, or runs that cannot be compared (see `pair`).
    """
    if len(arms) < 2:
        raise InputError("Comparing takes two runs or more.")
    task, settings = arms[0].results[0].task, arms[0].results[0].settings
    names = [name for name in METRICS[task.kind] if name != "qwk" or task.ordinal]
    metric = metric or names[0]
    if metric not in names:
        raise InputError(f"--metric {metric} is not one of {', '.join(names)}.{suggest(metric, names)}")
    paired = pair(arms, anyway)
    contrasts = [_contrast(arms[i].name, paired, i, names, metric, seed, resamples) for i in range(1, len(arms))]
    corrected = holm([contrast.gains[metric].p for contrast in contrasts])
    bold = [arm.name for arm in arms if is_optimistic(arm.results[0].settings)]
    return Comparison(
        a=arms[0].name,
        metric=metric,
        contrasts=tuple(replace(contrast, p_holm=p) for contrast, p in zip(contrasts, corrected, strict=True)),
        per_run={
            arm.name: {name: [weighted.value(name, paired.truth, *run) for run in runs] for name in names}
            for arm, runs in zip(arms, paired.runs, strict=True)
        },
        differing=_differing(arms),
        about={
            "dataset": dataset_of(settings),
            "task": settings["task"],
            "group": settings["group"],
            "patients": len(np.unique(paired.patients)),
            "videos": paired.videos,
            "folds": len(np.unique(paired.runs[0][0][1])) if paired.same_folds else None,
            "resamples": resamples,
        },
        optimistic=bool(bold),
        notes=(*paired.notes, *_notes(arms, bold)),
    )


def _contrast(
    name: str, paired: Paired, i: int, names: Sequence[str], metric: str, seed: int, resamples: int
) -> Contrast:
    """Return the first arm against arm `i`."""
    a, b = paired.runs[0], paired.runs[i]
    arms: dict[str, Any] = {
        "a": [scores for scores, _ in a],
        "b": [scores for scores, _ in b],
        "folds": [folds for _, folds in a],
        "folds_b": [folds for _, folds in b],
    }
    by_fold = {name: _by_fold(paired, a, b, name) for name in names} if paired.same_folds else {}
    gains = {}
    for each in names:
        about = {**arms, "truth": paired.truth, "patients": paired.patients, "measure": each, "seed": seed}
        drawn, p = paired_bootstrap(**about, resamples=resamples), sign_flip(**about, swaps=resamples).p
        # Of errors less is better, and a gain is above 0 all the same.
        ends = (-drawn.high, -drawn.low) if _sign(each) < 0 else (drawn.low, drawn.high)
        a_mean, b_mean, a_sd, b_sd, mean, sd = _spreads(by_fold.get(each), drawn.a, drawn.b)
        gains[each] = Gain(a_mean, b_mean, a_sd, b_sd, mean, sd, _sign(each) * drawn.difference, *ends, p)
    known = by_fold[metric]["gain"].dropna().to_numpy() if by_fold else np.zeros(0)
    sums = _patient_gains(paired, a, b, metric)
    classes = names[0] not in METRICS["regression"]
    return Contrast(
        b=name,
        gains=gains,
        folds=pd.concat([table.assign(metric=each) for each, table in by_fold.items()]) if by_fold else pd.DataFrame(),
        p_holm=float("nan"),
        dz=float("nan") if sums is None else cohens_dz(sums),
        smallest=float("nan") if sums is None else len(sums) * smallest_difference(sums),
        tests=_fold_tests(known, paired.test_share) if len(known) > 1 else None,
        delong=_delong(paired, a, b) if classes and paired.same_folds else None,
    )


def _sign(metric: str) -> int:
    return -1 if metric in weighted.SMALLER_IS_BETTER else 1


def _by_fold(paired: Paired, a: Sequence[Scored], b: Sequence[Scored], metric: str) -> pd.DataFrame:
    """Return a metric of both arms, each the mean over its runs, and the gain; one row a fold."""
    folds, rows = a[0][1], []
    for fold in np.unique(folds):
        own = folds == fold
        values = [
            np.mean([weighted.value(metric, paired.truth[own], scores[own], folds[own]) for scores, _ in runs])
            for runs in (a, b)
        ]
        rows.append({"fold": fold, "metric": metric, "a": values[0], "b": values[1], "gain": values[0] - values[1]})
    table = pd.DataFrame(rows)
    return table.assign(gain=_sign(metric) * table["gain"])


def _spreads(folds: pd.DataFrame | None, a: float, b: float) -> tuple[float, ...]:
    """Return means and standard deviations over folds: a, b, a_sd, b_sd, and those of the gain."""
    nan = float("nan")
    if folds is None:
        return a, b, nan, nan, nan, nan
    means, sds = folds[["a", "b", "gain"]].mean(), folds[["a", "b", "gain"]].std(ddof=1)
    return tuple(map(float, (means["a"], means["b"], sds["a"], sds["b"], means["gain"], sds["gain"])))


def _fold_tests(gains: Float[np.ndarray, " n"], test_share: float) -> FoldTests:
    return FoldTests(naive_t(gains), nadeau_bengio(gains, test_share), wilcoxon(gains), cohens_dz(gains))


def _patient_gains(
    paired: Paired, a: Sequence[Scored], b: Sequence[Scored], metric: str
) -> Float[np.ndarray, " g"] | None:
    """Return what each patient adds to the pooled gain (their sum is the gain); None of metrics that are no such sum."""
    truth = paired.truth
    gain = [np.mean([_per_video(metric, truth, scores) for scores, _ in runs], axis=0) for runs in (a, b)]
    if np.isnan(gain[0]).any():
        return None
    weights = np.full(len(truth), 1 / len(truth))
    if metric == "balanced_accuracy":  # every class counts the same, however many videos it has
        _, place, counts = np.unique(truth, return_inverse=True, return_counts=True)
        weights = 1 / (len(counts) * counts[place])
    _, member = np.unique(paired.patients, return_inverse=True)
    return _sign(metric) * np.bincount(member, weights * (gain[0] - gain[1]))


def _per_video(metric: str, truth: np.ndarray, scores: Float[np.ndarray, "v c"]) -> Float[np.ndarray, " v"]:
    if metric in ("accuracy", "balanced_accuracy"):
        return (scores.argmax(1) == truth).astype(float)
    if metric == "brier":
        return ((scores - np.eye(scores.shape[1])[truth]) ** 2).sum(1)
    return np.abs(scores[:, 0] - truth) if metric == "mae" else np.full(len(truth), np.nan)


def _delong(paired: Paired, a: Sequence[Scored], b: Sequence[Scored]) -> Difference:
    """Return the clustered test of AUROC: every run of one arm against every run of the other, as if repeats of the folds."""
    pairs = [(one, other) for one, _ in a for other, _ in b]
    folds, count = a[0][1], len(pairs)
    apart = np.concatenate([folds + i * (folds.max() + 1) for i in range(count)])
    truth, patients = np.tile(paired.truth, count), np.tile(paired.patients, count)
    first, second = (np.concatenate(each) for each in zip(*pairs, strict=True))
    return compare_aurocs(truth, first, second, apart, patients)


def _differing(arms: Sequence[Arm]) -> dict[str, list[str]]:
    """Return the facts that are not the same in all arms."""
    facts = list(dict.fromkeys(fact for arm in arms for fact in arm.facts))
    texts = {fact: [arm.facts.get(fact, "—") for arm in arms] for fact in facts}
    return {fact: each for fact, each in texts.items() if len(set(each)) > 1}


def _notes(arms: Sequence[Arm], bold: list[str]) -> list[str]:
    notes = []
    if bold:
        notes.append(f"Optimistic: {listed(bold)} chose on the very videos that are scored. The gain is one of maxima.")
    if arms[0].results[0].settings["group"] == "source":
        notes.append(
            "Folds keep sources together; interval and p are for other patients of these sources, not for other sources."
        )
    single = [arm.name for arm in arms if len(arm.results) == 1 and arm.seeded]
    if single:
        notes.append(
            f"One encoder seed of {listed(single)}: the interval leaves out what other random weights would score. Add runs of "
            "two more seeds at least."
        )
    return notes
