"""How smoothly a number changes over a space of embeddings, in three numbers and their chance levels.

Pictures of a space (UMAP, t-SNE) make bands and islands by themselves; these are computed in all dimensions.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import rankdata

from echolung.evaluation.statistics.permutation import shuffle_patients
from echolung.evaluation.statistics.resampling import LEVEL, draw

NEIGHBOURS = 5

RESAMPLES = 1000

SHUFFLES = 20
"""Of the numbers between patients, behind each chance level."""


@dataclass(frozen=True)
class Continuity:
    """How smoothly a number changes over a space of embeddings.

    Attributes:
        videos: how many were looked at.
        patients: of how many patients.
        spearman: rank correlation of embedding distance and difference of the number, over pairs of videos of different
            patients (the statistic of Mantel's test): 1 is a line, 0 is chance.
        spearman_interval: its 95 % interval, patients drawn with replacement, ranks those of all pairs.
        knn_mae: mean absolute error of the mean number of the 5 nearest videos of other patients.
        knn_mae_interval: its 95 % interval, patients drawn with replacement, neighbours those among all.
        knn_mae_chance: the same with numbers shuffled between patients, mean of 20 shuffles.
        trustworthiness: of the number as a map of the space (Venna & Kaski 2001): 1 where the 5 videos that are nearest in the
            number are among the nearest in embeddings, less the farther away they are; of one video a patient.
        trustworthiness_chance: the same with numbers shuffled, mean of 20; about 0.5.
    """

    videos: int
    patients: int
    spearman: float
    spearman_interval: tuple[float, float]
    knn_mae: float
    knn_mae_interval: tuple[float, float]
    knn_mae_chance: float
    trustworthiness: float
    trustworthiness_chance: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values; NaN becomes None."""
        return {name: _plain(value) for name, value in self.__dict__.items()}


def continuity(
    values: Float[np.ndarray, "v d"], numbers: Float[np.ndarray, " v"], patients: np.ndarray, seed: int = 0
) -> Continuity | None:
    """Return the numbers; None where fewer than 12 patients, or numbers that are all alike, leave nothing to measure.

    Args:
        values: an embedding of each video.
        numbers: the label of each video, such as an ejection fraction.
        patients: of each video.
        seed: of resamples and shuffles.
    """
    from sklearn.metrics import pairwise_distances

    people, first = np.unique(patients, return_index=True)
    if len(people) < 2 * NEIGHBOURS + 2 or np.ptp(numbers) == 0 or np.ptp(values, axis=0).max() == 0:
        return None
    distances = pairwise_distances(values)
    others = patients[:, None] != patients[None, :]
    weights = draw(patients, seed, RESAMPLES).astype(np.float64)
    shuffled = [shuffle_patients(numbers, patients, seed + i) for i in range(SHUFFLES)]
    near = np.argsort(np.where(others, distances, np.inf), axis=1, kind="stable")[:, :NEIGHBOURS]
    error = np.abs(numbers[near].mean(1) - numbers)
    spearman, drawn = _spearman(distances, numbers, others, weights)
    return Continuity(
        videos=len(values),
        patients=len(people),
        spearman=spearman,
        spearman_interval=_ends(drawn),
        knn_mae=float(error.mean()),
        knn_mae_interval=_ends(weights @ error / weights.sum(1)),
        knn_mae_chance=float(np.mean([np.abs(other[near].mean(1) - other).mean() for other in shuffled])),
        trustworthiness=_trust(values[first], numbers[first]),
        trustworthiness_chance=float(np.mean([_trust(values[first], other[first]) for other in shuffled])),
    )


def _spearman(
    distances: Float[np.ndarray, "v v"],
    numbers: Float[np.ndarray, " v"],
    allowed: Bool[np.ndarray, "v v"],
    weights: Float[np.ndarray, "r v"],
) -> tuple[float, Float[np.ndarray, " r"]]:
    """Return Spearman's rho over the allowed pairs, and the same for rows of weights: a pair counts as often as both do."""
    pairs = allowed & np.triu(np.ones_like(allowed), 1)
    ranks = []
    for table in (distances, np.abs(numbers[:, None] - numbers[None, :])):
        of_pair = rankdata(table[pairs])
        centred = np.zeros(pairs.shape)
        centred[pairs] = of_pair - of_pair.mean()
        ranks.append(centred)
    every = np.concatenate([np.ones((1, len(numbers))), weights])

    def total(table: Float[np.ndarray, "v v"]) -> Float[np.ndarray, " r1"]:
        return np.einsum("rv,rv->r", every @ table, every)

    x, y = ranks
    n, sx, sy, sxx, syy, sxy = (total(table) for table in (pairs.astype(float), x, y, x * x, y * y, x * y))
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = (sxy / n - sx * sy / n**2) / np.sqrt((sxx / n - (sx / n) ** 2) * (syy / n - (sy / n) ** 2))
    return float(rho[0]), rho[1:]


def _trust(values: Float[np.ndarray, "v d"], numbers: Float[np.ndarray, " v"]) -> float:
    from sklearn.manifold import trustworthiness

    return float(trustworthiness(values, numbers[:, None], n_neighbors=NEIGHBOURS))


def _ends(values: Float[np.ndarray, " r"]) -> tuple[float, float]:
    low, high = np.nanquantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    return low, high


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return None if value != value else value
