"""EL301 to EL307: whether the numbers of a result can be what they seem."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from echolung.evaluation.checks.choices import score_by
from echolung.evaluation.checks.codes import fine, not_applicable, warning
from echolung.evaluation.checks.data import told
from echolung.evaluation.checks.finding import Finding
from echolung.evaluation.result import Result
from echolung.evaluation.summary import Summary
from echolung.text import sentence

OUTLIER = 3.0
"""Standard errors that a fold must be from the others, and scaled median deviations from the median, to be an outlier."""

SUM_TOLERANCE = 1e-3

SAME = 2e-6
"""What two scores of one set of predictions may differ by: folds.csv has six digits."""


def below_guessing(result: Result, summary: Summary) -> Finding:
    """EL301: no better than the most frequent class of the training part (of numbers: its mean)."""
    name = "accuracy" if result.task.classes else "mae"
    if not result.task.classes:
        text = f"MAE {summary.mean[name]:.3g}; guessing the mean has {summary.guess[name]:.3g}"
        return (warning if summary.mean[name] >= summary.guess[name] else fine)("EL301", f"{text}.")
    text = f"Accuracy {told(summary.mean)}; guessing the most frequent class has {told(summary.guess)}"
    worse = (
        summary.mean[name] < summary.guess[name]
        or summary.mean["balanced_accuracy"] <= summary.guess["balanced_accuracy"]
    )
    return (warning if worse else fine)("EL301", f"{text}.")


def below_random(result: Result, summary: Summary, twins: Sequence[Any]) -> Finding:
    """EL302: no better than the mean of the same model with random weights."""
    if not twins:
        return not_applicable("EL302", "There is no store of the same model with random weights beside this one.")
    name = "balanced_accuracy" if result.task.classes else "mae"
    random = [float(twin.summary.mean[name]) for twin in twins]
    own, mean = float(summary.mean[name]), float(np.mean(random))
    spread = f" ({min(random):.3g} to {max(random):.3g})" if len(random) > 1 else ""
    what = "Balanced accuracy" if result.task.classes else "MAE"
    seeds = "one seed" if len(random) == 1 else f"{len(random)} seeds"
    text = f"{what} {own:.3g}; with random weights {mean:.3g}{spread}, {seeds}"
    worse = own <= mean if result.task.classes else own >= mean
    return (warning if worse else fine)("EL302", f"{text}.", {"own": own, "random": mean})


def outlier_fold(result: Result) -> Finding:
    """EL303: a fold more than 3 standard errors from the others, and more than 3 scaled median deviations from the median.

    The standard error counts patients, not videos, so that small folds may differ; the median deviation (× 1.4826) asks
    that the other folds agree. Of five equal folds of noise one in several hundred sets trips.
    """
    table, goodness = result.predictions, _goodness(result)
    order = sorted(table["fold"].unique())
    if len(order) < 4:
        return not_applicable("EL303", f"{len(order)} folds are too few to call one of them unlike the others.")
    fold = table["fold"].to_numpy()
    people = table["patient"].astype(str).where(table["patient"].astype(str) != "", table["video_id"]).to_numpy()
    means = np.array([goodness[fold == f].mean() for f in order])
    deviation = 1.4826 * np.median(np.abs(means - np.median(means)))
    odd = []
    for f, mean in zip(order, means, strict=True):
        own, rest = fold == f, fold != f
        error = goodness[rest].std() * np.sqrt(1 / len(set(people[own])) + 1 / len(set(people[rest])))
        far = abs(mean - goodness[rest].mean()) > OUTLIER * max(error, 1e-12)
        if far and abs(mean - np.median(means)) > OUTLIER * deviation:
            odd.append(f"fold {f} has {_shown(result, mean)}, the others {_shown(result, goodness[rest].mean())}")
    if odd:
        return warning("EL303", sentence(odd))
    return fine(
        "EL303", f"Folds from {_shown(result, means.min())} to {_shown(result, means.max())}; none is out of line."
    )


def _goodness(result: Result) -> np.ndarray:
    """Return of each prediction whether it is right, or its absolute error."""
    if not result.task.classes:
        return np.abs(result.scores[:, 0] - result.predictions["truth"].to_numpy(np.float64))
    return (_classes(result) == result.predictions["truth"].to_numpy()).astype(np.float64)


def _classes(result: Result) -> np.ndarray:
    return np.array(result.task.classes, object)[np.nan_to_num(result.scores, nan=-1).argmax(1)]


def _shown(result: Result, value: float) -> str:
    return f"{100 * value:.0f} %" if result.task.classes else f"MAE {value:.3g}"


def constant(result: Result) -> Finding:
    """EL304: one class for all of a fold that has several; of numbers: no spread.

    It warns of all videos at once, of a fold of five videos or more, and where half of the folds or more are so.
    """
    fold = result.predictions["fold"].to_numpy()
    truth = result.predictions["truth"].to_numpy()
    said = _classes(result) if result.task.classes else result.scores[:, 0]
    if _same(said, truth, result):
        return warning("EL304", f"All {len(said)} predictions are {_value(said[0])}.")
    order = sorted(set(fold))
    several = [f for f in order if len(set(truth[fold == f])) > 1]
    stuck = [f for f in several if _same(said[fold == f], truth[fold == f], result)]
    if not stuck:
        return fine("EL304", "Predictions differ in every fold.")
    each = ", ".join(f"fold {f}: {_value(said[fold == f][0])} for all {int((fold == f).sum())}" for f in stuck)
    if not result.task.classes:
        text = f"{each[0].upper()}{each[1:]}."
    else:
        ends = "; sensitivity and specificity are 0 or 1 there" if len(result.task.classes) == 2 else ""
        text = f"{len(stuck)} of {len(order)} folds predict one class only ({each}){ends}."
    bad = any((fold == f).sum() >= 5 for f in stuck) or 2 * len(stuck) >= len(several)
    scores = {"collapsed": len(stuck), "folds": len(order)}
    return warning("EL304", text, scores) if bad else fine("EL304", text, scores)


def _same(said: np.ndarray, truth: np.ndarray, result: Result) -> bool:
    if result.task.classes:
        return len(set(said)) == 1 and len(set(truth)) > 1
    return bool(np.ptp(said) <= 1e-3 * np.ptp(truth.astype(float)) and np.ptp(truth.astype(float)) > 0)


def _value(said: object) -> str:
    return f"{said:.3g}" if isinstance(said, float) else str(said)


def no_probabilities(result: Result) -> Finding:
    """EL305: a row that is not finite, outside 0..1, or does not sum to 1 (± 0.001)."""
    scores = result.scores
    bad = ~np.isfinite(scores).all(1)
    if result.task.classes:
        bad |= (np.nan_to_num(scores) < 0).any(1) | (np.nan_to_num(scores) > 1 + SUM_TOLERANCE).any(1)
        bad |= np.abs(np.nan_to_num(scores).sum(1) - 1) > SUM_TOLERANCE
    if bad.any():
        first = result.predictions["video_id"].to_numpy()[bad][0]
        what = "are no probabilities that sum to 1" if result.task.classes else "are not finite"
        return warning("EL305", f"{int(bad.sum())} of {len(bad)} rows of predictions {what} (first: {first}).")
    return fine("EL305", f"{len(bad)} rows of probabilities." if result.task.classes else f"{len(bad)} finite numbers.")


def below_file(result: Result, summary: Summary, blind: Finding | None) -> Finding:
    """EL306: no better than the forest of EL107 in the same folds."""
    if blind is None or not blind.scores:
        return not_applicable("EL306", "Nothing of the files is known that differs between them.")
    name = "balanced_accuracy" if result.task.classes else "mae"
    own, forest = float(summary.mean[name]), float(blind.scores[name])
    text = f"{'Balanced accuracy' if result.task.classes else 'MAE'} {own:.3g}; a forest without pixels {forest:.3g}"
    worse = own <= forest if result.task.classes else own >= forest
    return (warning if worse else fine)("EL306", f"{text}.")


# ---- what was saved is what was chosen -------------------------------------------------------------------------------


def not_the_chosen(result: Result) -> Finding:
    """EL307: predictions whose scores are not those noted when the chosen probe made them.

    Compared are, as far as there: `looks.honest` of every fold; of the seed protocol the look (setting, epoch) that was
    chosen; inner predictions with the inner look that was chosen.
    """
    pairs: list[tuple[str, float | None, float]] = []
    own = score_by(result, result.predictions, "fold")
    if result.looks is not None and len(result.looks):
        honest = zip(result.looks["fold"].tolist(), result.looks["honest"].tolist(), strict=True)
        pairs += [(f"fold {fold}", own.get(fold), float(value)) for fold, value in honest]
    if result.task.classes and result.curves is not None and len(result.curves):
        seed = result.settings["protocol"] == "seed"
        seen, where = (own, "fold") if seed else (_inner_scores(result), "inner predictions of part")
        pairs += [(f"{where} {part}", seen.get(part), look) for part, look in _chosen_looks(result).items()]
    both = [(what, found, noted) for what, found, noted in pairs if found is not None and not np.isnan(noted)]
    wrong = [
        f"{what} has {found:.4f}, noted was {noted:.4f}"
        for what, found, noted in both
        if abs(found - noted) > SAME * max(1.0, abs(noted))
    ]
    if wrong:
        return warning(
            "EL307", f"{len(wrong)} of {len(both)} scores are not those of the chosen probe: {'; '.join(wrong[:4])}."
        )
    if not both:
        return not_applicable("EL307", "Nothing was noted that the predictions could be compared with.")
    return fine("EL307", f"{len(both)} scores, computed anew, are those that were noted.")


def _inner_scores(result: Result) -> dict[int, float]:
    return {} if result.inner is None else score_by(result, result.inner, "part")


def _chosen_looks(result: Result) -> dict[int, float]:
    """Return part -> accuracy noted for the setting and epoch that its fold chose."""
    grid = [dict(setting) for setting in result.settings.get("grid") or []]
    assert result.curves is not None
    table = result.curves.set_index(["part", "setting", "epoch"])["accuracy"]
    found = {}
    for fold, chosen in zip(result.folds["fold"].tolist(), result.chosen, strict=True):
        setting = {name: value for name, value in chosen.items() if name in (grid[0] if grid else {})}
        if setting in grid and (at := (fold, grid.index(setting), chosen["epoch"])) in table.index:
            found[fold] = float(table[at])
    return found
