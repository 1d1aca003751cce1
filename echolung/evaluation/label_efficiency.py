"""Label efficiency: the nested protocol with fewer and fewer labelled patients in its training parts, all in one bank."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from echolung.cache import TokenStore
from echolung.datasets.manifest import Manifest, Task
from echolung.evaluation import metrics
from echolung.evaluation.bootstrap import LEVEL, resample
from echolung.evaluation.data import TaskData
from echolung.evaluation.parts import Part, choose_inside, fewer_inner_folds, refit, say_how_long
from echolung.evaluation.question import Question
from echolung.evaluation.result import build_result
from echolung.evaluation.selection import Choice
from echolung.evaluation.setup import Setup, set_up
from echolung.evaluation.splits import Folds, nested_folds
from echolung.evaluation.starting import seen_before
from echolung.evaluation.subsets import Subset, check_shares, distinct, draw_subsets, notes_of_raised
from echolung.evaluation.summary import summarise
from echolung.probes import find_kind, settings_with


@dataclass(frozen=True)
class LabelEfficiency:
    """What probes that learnt from shares of the patients make of the rest.

    Attributes:
        table: one row a share, draw and fold: fraction, seed (of the draw; all patients are drawn once), fold, patients and
            videos learnt from, every metric of the outer fold, the number of inner folds, the epoch and setting chosen.
        predictions: fraction, seed, then as in `Result.predictions`: every video once for each fraction and seed.
        guess: metric -> what guessing from the labels of the whole training part scores, mean over folds.
        intervals: fraction -> 95 % patient-bootstrap interval of the main metric, pooled over folds, mean over draws.
        unit: what `patients` counts: "patient", where patients are known.
        task: what was asked.
        settings: how, fully resolved.
        notes: what the reader should know.
        shared: how many "patients" and "groups" are on both sides of an outer fold.
    """

    table: pd.DataFrame
    predictions: pd.DataFrame
    guess: dict[str, float]
    intervals: dict[float, tuple[float, float]]
    unit: str
    task: Task
    settings: dict[str, Any]
    notes: tuple[str, ...]
    shared: dict[str, int]

    @property
    def metric(self) -> str:
        """The one that is drawn: balanced accuracy, of numbers the mean absolute error."""
        return metrics.MAIN[self.task.kind]

    def by_draw(self) -> pd.DataFrame:
        """Return one row a (fraction, seed): means over folds (of those in which a metric is defined)."""
        return self.table.groupby(["fraction", "seed"])[["patients", "videos", *self.guess]].mean()

    def by_fraction(self) -> pd.DataFrame:
        """Return one row a fraction: the mean over draws of every column of `by_draw`, and metric_sd over draws (ddof 1)."""
        draws = self.by_draw().groupby("fraction")
        spread = draws.std(ddof=1)[list(self.guess)].add_suffix("_sd")
        return draws.mean().join(spread).assign(seeds=draws.size())


def label_efficiency(
    store: TokenStore,
    task: str | None = None,
    manifest: Manifest | None = None,
    *,
    fractions: Sequence[float | int],
    seeds: int = 5,
    patience: int | None = None,
    **asked: Any,
) -> LabelEfficiency:
    """Return how well probes do that learn from shares of the patients of each outer training part.

    Outer folds, choice of setting and epoch, and refit are those of `cross_validate(protocol="nested")`, inside each share;
    test parts are always whole. All patients are always among the shares. Every share takes the steps that all patients
    take, with fewer videos in each: a batch is drawn from all videos, and a probe learns from those that are its own.

    Args:
        store: the tokens.
        task: as in `Question`.
        manifest: as in `Question`.
        fractions: shares of the patients, above 0 and up to 1.
        seeds: random draws of each share.
        patience: epochs without a lesser held-out loss after which a setting is trained no further; None: all epochs.
        asked: the other fields of `Question`, such as probe="attentive"; `group` is what is drawn.

    Raises:
        InputError: shares or draws that make no sense, and whatever `cross_validate` raises.
        RunError: a training diverged.
    """
    shares = check_shares(fractions, seeds)
    question = Question(task, manifest, **asked)
    grid = settings_with(question.probe, find_kind(question.probe).settings, question.hyper)
    run = set_up(store, question, grid)
    outer, inner = nested_folds(run.units, question.cv, question.seed)
    drawn = draw_subsets(run.units, outer, inner, shares, seeds, question.seed)
    subsets, left_out = distinct(run.units, drawn)
    parts = [Part(subset.inner, outer.test(subset.fold)) for subset in subsets]
    say_how_long(run, grid, parts)
    choices, _ = choose_inside(run, grid, parts, patience)
    outputs, _ = refit(run, parts, choices)
    counts = sorted({subset.inner.count for subset in subsets})
    settings = {
        **run.settings, "protocol": "nested", "grid": [dict(setting) for setting in grid],
        "patience": patience, "folds": question.cv, "inner_folds": counts, "label_seeds": seeds,
        "label_fractions": sorted({subset.fraction for subset in subsets}),
    }  # fmt: skip
    notes = [*run.data.notes, *notes_of_raised(run.units, subsets), *left_out, *fewer_inner_folds(counts)]
    if question.start is not None:
        notes += seen_before(question.start, store.snapshot.dataset)
    return _collect(run, outer, subsets, choices, outputs, settings, notes)


def _collect(
    run: Setup,
    outer: Folds,
    subsets: Sequence[Subset],
    choices: Sequence[Choice],
    outputs: Float[np.ndarray, "s v c"],
    settings: dict[str, Any],
    notes: Sequence[str],
) -> LabelEfficiency:
    """Put the result together, one `Result` a share and draw on the way."""
    unit, names = _unit(run.data)
    members: dict[tuple[float, int], list[int]] = {}
    for i, subset in enumerate(subsets):
        members.setdefault((subset.fraction, subset.seed), []).append(i)
    rows, tables, right = [], [], dict[float, list[np.ndarray]]()
    for (fraction, draw), own in members.items():
        scores = np.take_along_axis(outputs[own], outer.of[None, :, None], 0)[0]
        picks = [choices[i] for i in own]
        result = build_result(run.data, outer, range(outer.count), scores, picks, settings, [], None)
        tables.append(result.predictions.assign(fraction=fraction, seed=draw))
        right.setdefault(fraction, []).append(_achieved(run.data, result.scores))
        for i in own:
            test = outer.test(subsets[i].fold)
            rows.append(
                {
                    "fraction": fraction, "seed": draw, "fold": subsets[i].fold,
                    "patients": len(np.unique(names[subsets[i].chosen])), "videos": int(subsets[i].chosen.sum()),
                    **_measure(run.data, result.scores, test), "inner_folds": subsets[i].inner.count,
                    "epoch": choices[i].epoch, **choices[i].setting,
                }
            )  # fmt: skip
    # The last is of all patients: what guessing scores, and who is on both sides, is the same for all.
    whole = summarise(result)
    columns = ["fraction", "seed"]
    predictions = pd.concat(tables, ignore_index=True)
    predictions = predictions[columns + [name for name in predictions if name not in columns]]
    bounds = {fraction: _interval(run.data, names, np.mean(values, axis=0)) for fraction, values in right.items()}
    return LabelEfficiency(
        pd.DataFrame(rows), predictions, whole.guess, bounds, unit, run.data.task, settings, tuple(notes), result.shared
    )


def _unit(data: TaskData) -> tuple[str, np.ndarray]:
    """Return what labelled people are counted in, and its name for each video: patients where all are known."""
    patients = data.videos["patient"].fillna("").astype(str).to_numpy()
    return (data.level, data.groups) if (patients == "").any() else ("patient", patients)


def _measure(data: TaskData, scores: np.ndarray, test: Bool[np.ndarray, " v"]) -> dict[str, float]:
    if data.task.classes:
        return metrics.classification(data.targets[test], scores[test], data.task.ordinal)
    return metrics.regression(data.targets[test].astype(np.float64), scores[test, 0])


def _achieved(data: TaskData, scores: np.ndarray) -> Float[np.ndarray, " v"]:
    """Return what the main metric averages: whether each video was told right, of numbers the absolute error."""
    if data.task.classes:
        return (scores.argmax(1) == data.targets).astype(np.float64)
    return np.abs(scores[:, 0] - data.targets)


def _interval(data: TaskData, names: np.ndarray, achieved: Float[np.ndarray, " v"]) -> tuple[float, float]:
    """Return the interval of the main metric: with `achieved` a mean over draws, that of its mean over draws."""
    weights = resample(names)
    strata = data.targets if data.task.classes else np.zeros(len(achieved), int)
    with np.errstate(invalid="ignore"):  # a resample that lost a class counts for nothing
        means = [
            (weights[:, own] @ achieved[own]) / weights[:, own].sum(1) for own in strata == np.unique(strata)[:, None]
        ]
    low, high = np.nanquantile(np.mean(means, axis=0), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
