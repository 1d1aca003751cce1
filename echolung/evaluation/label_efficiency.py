"""Label efficiency: the nested protocol with fewer and fewer labelled patients in its training parts, all in one bank."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from echolung.cache import TokenStore
from echolung.datasets.manifest import Manifest, Task
from echolung.errors import InputError
from echolung.evaluation import metrics
from echolung.evaluation.bootstrap import LEVEL, resample
from echolung.evaluation.data import TaskData
from echolung.evaluation.protocols import fewer_inner_folds, inner_jobs
from echolung.evaluation.result import build_result
from echolung.evaluation.selection import Choice, Collector, choose
from echolung.evaluation.setup import Setup, set_up
from echolung.evaluation.splits import Folds, Units, holds_every_class, inner_folds, nested_folds
from echolung.evaluation.summary import summarise
from echolung.probes import Job, find_kind, settings_with
from echolung.probes.jobs import Setting

MOST_SEEDS = 100


@dataclass(frozen=True)
class Subset:
    """The videos that one probe may learn from.

    Attributes:
        fraction: share of the groups (patients) of the outer training part that was asked for.
        seed: which draw of that share.
        fold: the outer fold that scores it.
        inner: the folds that its setting is chosen on; -1: not in the subset.
    """

    fraction: float
    seed: int
    fold: int
    inner: Folds

    @property
    def chosen(self) -> Bool[np.ndarray, " v"]:
        """Return which videos are in it."""
        return self.inner.of >= 0


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
        return main_metric(self.task)

    def by_draw(self) -> pd.DataFrame:
        """Return one row a (fraction, seed): means over folds (of those in which a metric is defined)."""
        return self.table.groupby(["fraction", "seed"])[["patients", "videos", *self.guess]].mean()

    def by_fraction(self) -> pd.DataFrame:
        """Return one row a fraction: the mean over draws of every column of `by_draw`, and metric_sd over draws (ddof 1)."""
        draws = self.by_draw().groupby("fraction")
        spread = draws.std(ddof=1)[list(self.guess)].add_suffix("_sd")
        return draws.mean().join(spread).assign(seeds=draws.size())


def main_metric(task: Task) -> str:
    """Return the metric that a curve of a task shows."""
    return "balanced_accuracy" if task.classes else "mae"


def label_efficiency(
    store: TokenStore,
    task: str | None = None,
    manifest: Manifest | None = None,
    *,
    fractions: Sequence[float | int],
    seeds: int = 5,
    probe: str = "linear",
    cv: int = 5,
    group: str | None = None,
    epochs: int | None = None,
    batch: int = 16,
    seed: int = 0,
    device: str = "cpu",
    memory: float = 4e9,
    precision: str = "float32",
    fusion: str = "early",
    patience: int | None = None,
    hyper: Mapping[str, Any] | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> LabelEfficiency:
    """Return how well probes do that learn from shares of the patients of each outer training part.

    Outer folds, choice of setting and epoch, and refit are those of `cross_validate(protocol="nested")`, inside each share;
    test parts are always whole. All patients are always among the shares. Every share takes the steps that all patients
    take, with fewer videos in each: a batch is drawn from all videos, and a probe learns from those that are its own.

    Args:
        store: the tokens.
        task: name of the task; None: the dataset's first.
        manifest: another table for the same videos; None: the store's own.
        fractions: shares of the patients, above 0 and up to 1.
        seeds: random draws of each share.
        probe: a name in `PROBES`.
        cv: number of outer folds.
        group: "patient", "source" or "video": what is drawn, and what folds keep together; None: patients where known.
        epochs: length of training; None: the kind's.
        batch: videos a step.
        seed: of folds, draws, initial parameters and batches.
        device: where probes are trained.
        memory: bytes that tokens and one bank of probes may take together.
        precision: "float32" or "bfloat16", of the products over tokens.
        fusion: "early" or "late", of a video's segments.
        patience: epochs without a lesser held-out loss after which a setting is trained no further; None: all epochs.
        hyper: hyper-parameters, by name, that take the place of the grid's.
        tell: is told what a long run is about to do.

    Raises:
        InputError: shares or draws that make no sense, and whatever `cross_validate` raises.
        RunError: a training diverged.
    """
    shares = check_shares(fractions, seeds)
    grid = settings_with(probe, find_kind(probe).settings, hyper or {})
    run = set_up(
        store, task, manifest, probe=probe, settings=grid, group=group, epochs=epochs, batch=batch, seed=seed, device=device,
        memory=memory, precision=precision, fusion=fusion, tell=tell,
    )  # fmt: skip
    outer, inner = nested_folds(run.units, cv, seed)
    drawn = draw_subsets(run.units, outer, inner, shares, seeds, seed)
    subsets, left_out = _distinct(run.units, drawn)
    choices, outputs = _train(run, grid, patience, outer, subsets)
    counts = sorted({subset.inner.count for subset in subsets})
    settings = {
        **run.settings, "hyper": dict(hyper or {}), "protocol": "nested", "grid": [dict(setting) for setting in grid],
        "patience": patience, "folds": cv, "inner_folds": counts, "label_seeds": seeds,
        "label_fractions": sorted({subset.fraction for subset in subsets}),
    }  # fmt: skip
    notes = [*run.data.notes, *_raised(run.units, subsets), *left_out, *fewer_inner_folds(counts)]
    return _collect(run, outer, subsets, choices, outputs, settings, notes)


def check_shares(fractions: Sequence[float | int], seeds: int) -> tuple[float, ...]:
    """Return the shares in rising order, with 1 at the end; InputError where one makes no sense or comes twice."""
    for fraction in fractions:
        if not 0 < fraction <= 1:
            raise InputError(f"--label-fractions {fraction:g}: a share of the patients is above 0 and at most 1.")
    if not fractions or len(set(fractions)) < len(fractions):
        given = ",".join(f"{fraction:g}" for fraction in fractions)
        raise InputError(f"--label-fractions {given or 'is empty'}: name each share once, such as 0.1,0.25,0.5,1.")
    if not 1 <= seeds <= MOST_SEEDS:
        raise InputError(f"--label-seeds {seeds} must be 1 to {MOST_SEEDS}; 5 to 20 draws show the spread well.")
    return tuple(sorted({*map(float, fractions), 1.0}))


# ---- who is drawn ------------------------------------------------------------------------------------------------------


def draw_subsets(
    units: Units, outer: Folds, inner: Sequence[Folds], fractions: Sequence[float], seeds: int, seed: int
) -> list[Subset]:
    """Return for every fraction, draw and outer fold a subset of its training part, in that order.

    Within a draw the groups of a smaller fraction are among those of a larger. A share too small for two inner folds is
    raised to the fewest groups that allow them. All (fraction 1) are drawn once, with the given `inner` folds.
    """
    return [
        _subset(units, Subset(fraction, draw, fold, inner[fold]), seed)
        if fraction < 1
        else Subset(1.0, 0, fold, inner[fold])
        for fraction in fractions
        for draw in range(seeds if fraction < 1 else 1)
        for fold in range(outer.count)
    ]


def _subset(units: Units, whole: Subset, seed: int) -> Subset:
    """Return the share of a whole training part."""
    part = units.part(whole.chosen)
    order = draw_order(part, np.random.default_rng((seed, whole.seed, whole.fold)))
    for n in range(max(2, round(whole.fraction * len(order))), len(order)):
        chosen = np.isin(part.groups, order[:n])
        folds = inner_folds(part.part(chosen), seed + 1 + whole.fold) if holds_every_class(part, chosen) else None
        if folds is not None:
            of = np.full(len(units.groups), -1)
            of[np.flatnonzero(whole.chosen)[chosen]] = folds.of
            return replace(whole, inner=Folds(of, folds.count))
    return whole


def draw_order(units: Units, random: np.random.Generator) -> np.ndarray:
    """Return the groups in the order in which they are taken: two of every class, then all classes at an even pace.

    This is systematic sampling: the j-th of the n groups of a class (most of whose videos are of it) comes at (j + u) / n, u
    the same for all of that class, so that the first groups hold the classes in the shares that all have.
    """
    names, member = np.unique(units.groups, return_inverse=True)
    counts = np.zeros((len(names), units.strata.max() + 1), int)
    np.add.at(counts, (member, units.strata), 1)
    main = counts.argmax(1)
    place = np.empty(len(names))
    for stratum in np.unique(main):
        own = random.permutation(np.flatnonzero(main == stratum))
        place[own] = (np.arange(len(own)) + random.uniform()) / len(own)
    order = np.argsort(place, kind="stable")
    needed = (
        [group for c in np.unique(units.strata) for group in order[counts[order, c] > 0][:2]] if units.classes else []
    )
    first = sorted(set(needed), key=lambda group: place[group])
    return names[list(dict.fromkeys([*first, *order]))]


def _distinct(units: Units, subsets: Sequence[Subset]) -> tuple[list[Subset], list[str]]:
    """Return the subsets without those of a fraction that takes as many groups as the next, and a note for each."""
    sizes = _mean_groups(units, subsets)
    same = {small: large for small, large in pairwise(sizes) if sizes[large] - sizes[small] < 0.5}
    notes = [
        f"The share {small:g} comes to the same {units.kind}s as {same[small]:g}, and is left out." for small in same
    ]
    return [s for s in subsets if s.fraction not in same], notes


def _mean_groups(units: Units, subsets: Sequence[Subset]) -> dict[float, float]:
    """Return fraction -> groups in its subsets, on average, in rising order."""
    return {
        fraction: float(np.mean([len(np.unique(units.groups[s.chosen])) for s in subsets if s.fraction == fraction]))
        for fraction in sorted({s.fraction for s in subsets})
    }


def _raised(units: Units, subsets: Sequence[Subset]) -> list[str]:
    """Return a note for each fraction that takes more groups than it says."""
    sizes = _mean_groups(units, subsets)
    return [
        f"A share of {fraction:g} would be {fraction * sizes[1.0]:.1f} {units.kind}s; {size:.1f} are learnt from, the fewest "
        "that settings can be chosen on."
        for fraction, size in sizes.items()
        if size > fraction * sizes[1.0] + 0.5
    ]


# ---- what they learn ---------------------------------------------------------------------------------------------------


def _train(
    run: Setup, grid: Sequence[Setting], patience: int | None, outer: Folds, subsets: Sequence[Subset]
) -> tuple[list[Choice], Float[np.ndarray, "s v c"]]:
    """Return what each subset chooses, and the outputs of its refitted probe for the videos of its outer test fold."""
    jobs, owners = inner_jobs([subset.inner for subset in subsets], grid, grouped=patience is not None)
    likely = [Job(grid[0], subset.chosen, watch=outer.test(subset.fold)) for subset in subsets]
    run.say_how_long([jobs, likely], f"{len(jobs)} probes to choose from, {len(likely)} to score")
    collector = Collector(run.data, owners, len(grid), run.training.epochs, len(subsets), patience)
    run.fit(jobs, collector.on_epoch)
    choices = [choose(losses, grid) for losses in collector.losses]
    outputs = np.full((len(subsets), len(run.data.targets), run.data.outputs), np.nan)

    def look(epoch: int, indices: Sequence[int], values: np.ndarray) -> list[int]:
        ready = [(i, value) for i, value in zip(indices, values, strict=True) if epoch == choices[i].epoch]
        for i, value in ready:
            test = outer.test(subsets[i].fold)
            outputs[i, test] = value[test]
        return [i for i, _ in ready]  # they leave the bank; none is kept, which would add up for large probes

    finals = [
        Job(choice.setting, subset.chosen, watch=outer.test(subset.fold))
        for choice, subset in zip(choices, subsets, strict=True)
    ]
    run.fit(finals, look)
    return choices, outputs


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
        result = build_result(run.data, run.probe, outer, range(outer.count), scores, picks, settings, [], None)
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
