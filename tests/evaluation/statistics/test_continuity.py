"""How smoothly a number changes over embeddings: lines, noise, patients, and scikit-learn and scipy restated."""

import json

import numpy as np
import pytest
from scipy import stats
from sklearn.neighbors import KNeighborsRegressor

from echolung.evaluation.statistics.continuity import continuity


def people(patients: int, each: int = 1) -> np.ndarray:
    return np.repeat([f"p{i:03d}" for i in range(patients)], each)


def test_a_line_is_smooth_and_noise_is_not():
    random = np.random.default_rng(0)
    numbers, direction = random.normal(55, 12, 80), random.normal(size=8)
    line = continuity(numbers[:, None] * direction, numbers, people(80))
    assert line.spearman == pytest.approx(1) and line.spearman_interval == pytest.approx((1, 1))
    assert line.trustworthiness == pytest.approx(1) and line.trustworthiness_chance == pytest.approx(0.5, abs=0.1)
    assert line.knn_mae < 2 and line.knn_mae_chance > 8
    noise = continuity(random.normal(size=(80, 8)), numbers, people(80))
    low, high = noise.spearman_interval
    assert abs(noise.spearman) < 0.1 and low < 0 < high
    assert noise.knn_mae == pytest.approx(noise.knn_mae_chance, rel=0.15)
    assert noise.trustworthiness == pytest.approx(noise.trustworthiness_chance, abs=0.08)


def test_pairs_and_neighbours_are_of_different_patients():
    """Tokens know the person alone, two videos each: what a patient's own other video would tell does not count."""
    random = np.random.default_rng(1)
    numbers = np.repeat(random.normal(55, 12, 40), 2)
    values = np.repeat(random.normal(size=(40, 6)), 2, axis=0) + 1e-3 * random.normal(size=(80, 6))
    patients = people(40, 2)
    found = continuity(values, numbers, patients)
    assert found.knn_mae > 7 and abs(found.spearman) < 0.15 and found.patients == 40
    pairs = [(i, j) for i in range(80) for j in range(i) if patients[i] != patients[j]]
    distances = [np.linalg.norm(values[i] - values[j]) for i, j in pairs]
    assert found.spearman == pytest.approx(
        stats.spearmanr(distances, [abs(numbers[i] - numbers[j]) for i, j in pairs])[0]
    )
    alone = [
        KNeighborsRegressor(5)
        .fit(values[patients != patients[i]], numbers[patients != patients[i]])
        .predict([values[i]])[0]
        for i in range(80)
    ]
    assert found.knn_mae == pytest.approx(np.abs(alone - numbers).mean())


def test_where_there_is_nothing_to_measure():
    random = np.random.default_rng(2)
    values, numbers = random.normal(size=(30, 4)), random.normal(size=30)
    assert continuity(values[:11], numbers[:11], people(11)) is None
    assert continuity(values, np.ones(30), people(30)) is None
    assert continuity(np.ones((30, 4)), numbers, people(30)) is None
    fields = json.loads(json.dumps(continuity(values, numbers, people(30)).to_json(), allow_nan=False))
    assert fields["videos"] == 30 and len(fields["spearman_interval"]) == 2


def test_units_of_neither_matter():
    random = np.random.default_rng(3)
    values, numbers = random.normal(size=(40, 4)), random.normal(size=40)
    values[:, 0] += 2 * numbers
    plain, scaled = (continuity(a * values + 1, b * numbers, people(40)) for a, b in ((1.0, 1.0), (7.0, 10.0)))
    assert scaled.spearman == pytest.approx(plain.spearman) and scaled.knn_mae == pytest.approx(10 * plain.knn_mae)
    assert scaled.trustworthiness == pytest.approx(plain.trustworthiness)
