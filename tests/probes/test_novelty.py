"""How far a video is from the training videos: against scikit-learn, and against the slow way."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from echolung.probes.novelty import kth_nearest, make_reference


def cone(count: int, seed: int = 0, dim: int = 12, spread: float = 1.0) -> np.ndarray:
    """Return embeddings around one direction, as those of a frozen encoder are."""
    random = np.random.default_rng(seed)
    return (5 + spread * random.normal(size=(count, dim))).astype(np.float32)


def slow_cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return 1 - float(a @ b) / float(np.linalg.norm(a) * np.linalg.norm(b))


@pytest.mark.parametrize("k", [1, 5, 20])
def test_distances_of_new_videos_are_those_of_scikit_learn(k):
    known, new = cone(20), cone(30, seed=1)
    near = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(known.astype(np.float64))
    expected = near.kneighbors(new.astype(np.float64))[0][:, k - 1]
    np.testing.assert_allclose(kth_nearest(new, known, k), expected, rtol=1e-5, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(["", "a", "b", "c", "d"]), min_size=6, max_size=16), st.integers(1, 5))
def test_training_videos_are_compared_with_those_of_other_patients(patients, k):
    embeddings = cone(len(patients), seed=len(patients))
    reference = make_reference(embeddings, patients, k)
    others = [
        [j for j in range(len(patients)) if j != i and (not patients[i] or patients[j] != patients[i])]
        for i in range(len(patients))
    ]
    if (fewest := min(map(len, others))) == 0:
        assert reference is None
        return
    assert reference is not None and reference.k == min(k, fewest)
    expected = [
        sorted(slow_cosine(embeddings[i], embeddings[j]) for j in rest)[reference.k - 1]
        for i, rest in enumerate(others)
    ]
    np.testing.assert_allclose(reference.distances, sorted(expected), rtol=1e-5, atol=1e-9)


def test_siblings_would_make_every_new_patient_look_far():
    """Six near copies of each patient: left out one video at a time, the training distances are those between copies."""
    patients = np.repeat([f"p{i}" for i in range(15)], 6).tolist()
    embeddings = np.repeat(cone(15), 6, axis=0) + 0.01 * cone(90, seed=2, spread=0.1)
    new = cone(40, seed=3)
    by_patient = make_reference(embeddings, patients)
    by_video = make_reference(embeddings, [""] * 90)
    assert by_patient is not None and by_video is not None
    assert by_patient.unit == "patient" and by_video.unit == "video"
    flagged = [sum(word != "" for word in r.warnings(r.distance(new))) for r in (by_patient, by_video)]
    assert flagged[0] <= 8 and flagged[1] == 40


def test_what_is_elsewhere_is_flagged_and_what_is_alike_is_not():
    reference = make_reference(cone(300), [f"p{i}" for i in range(300)])
    assert reference is not None
    alike, elsewhere = reference.distance(cone(400, seed=1)), reference.distance(-cone(5, seed=1))
    words = reference.warnings(alike)
    # By its definition one in twenty of what is alike is called unusual, and one in a hundred far.
    assert 8 <= 400 - words.count("") <= 36 and words.count("far") <= 14
    assert reference.warnings(elsewhere) == ["far"] * 5
    np.testing.assert_array_equal(reference.percentile(elsewhere), 100)
    assert 40 < np.median(reference.percentile(alike)) < 60
    assert reference.percentile(np.zeros(1, np.float32))[0] == 0


def test_scale_does_not_matter_and_a_narrow_cone_keeps_its_digits():
    known, new = cone(40, spread=1e-3), cone(10, seed=1, spread=1e-3)
    expected = [sorted(slow_cosine(a, b) for b in known)[4] for a in new]
    assert max(expected) < 1e-6, "1 - cos of these is rounding noise in float32"
    np.testing.assert_allclose(kth_nearest(new, known, 5), expected, rtol=1e-4)
    np.testing.assert_allclose(kth_nearest(new * 8, known, 5), kth_nearest(new, known * 0.25, 5), rtol=1e-4)


def test_of_many_videos_some_are_kept_the_same_each_time():
    embeddings, patients = cone(60), [f"p{i // 2}" for i in range(60)]
    one, two = (make_reference(embeddings, patients, most=25) for _ in range(2))
    other = make_reference(embeddings, patients, most=25, seed=1)
    assert one is not None and two is not None and other is not None
    assert one.embeddings.shape == (25, 12) and one.distances.shape == (25,)
    np.testing.assert_array_equal(one.embeddings, two.embeddings)
    assert (one.embeddings != other.embeddings).any()
    assert (np.diff(one.distances) >= 0).all()


@pytest.mark.parametrize(
    ("patients", "unit"),
    [(["a", "b", "c"], "patient"), (["", "", ""], "video"), (["a", "", "c"], "patient or video"), (["a"] * 3, None)],
)
def test_what_is_left_out(patients, unit):
    reference = make_reference(cone(3), patients)
    assert (reference.unit if reference else None) == unit
    assert reference is None or reference.k == 2


def test_one_video_has_nothing_to_be_compared_with():
    assert make_reference(cone(1), ["a"]) is None
