"""How far a new video lies from the videos that a probe has learnt from: the cosine distance to the k-th nearest of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32

NEIGHBOURS = 5

MOST = 2_000
"""Training videos that are kept: enough for a 0.99 quantile, and 8 MB at a width of 1,024."""

WARNINGS = {0.95: "unusual", 0.99: "far"}
"""Quantile of the training videos' own distances -> what a video beyond it is called, the mildest first."""


@dataclass(frozen=True, eq=False)
class Reference:
    """What new videos are compared with.

    Attributes:
        embeddings: mean tokens of the training videos, or of a draw of them.
        distances: of each of them to the others, ascending, its patient's own left out.
        k: which neighbour counts.
        unit: what is left out with a video: "patient", "video", or both, where some patients are not known.
    """

    embeddings: Float32[np.ndarray, "m d"]
    distances: Float32[np.ndarray, " m"]
    k: int
    unit: str

    def distance(self, embeddings: Float32[np.ndarray, "v d"]) -> Float32[np.ndarray, " v"]:
        """Return the cosine distance of each video to the k-th nearest training video, from 0 to 2.

        A distance to nearest neighbours needs no assumption on how features are spread (Sun et al., "Out-of-distribution
        detection with deep nearest neighbors", ICML 2022).
        """
        return kth_nearest(embeddings, self.embeddings, self.k)

    def percentile(self, distances: Float32[np.ndarray, " v"]) -> Float[np.ndarray, " v"]:
        """Return the share of training videos that lie nearer to the others than each of these does, in per cent."""
        return 100 * np.searchsorted(self.distances, distances) / len(self.distances)

    def warnings(self, distances: Float32[np.ndarray, " v"]) -> list[str]:
        """Return "" for each video that is as near as the training videos are to each other, else a word of `WARNINGS`."""
        beyond = [distances > limit for limit in np.quantile(self.distances, list(WARNINGS))]
        words = ["", *WARNINGS.values()]
        return [words[level] for level in np.sum(beyond, axis=0)]


def make_reference(
    embeddings: Float32[np.ndarray, "v d"],
    patients: Sequence[str],
    k: int = NEIGHBOURS,
    most: int = MOST,
    seed: int = 0,
) -> Reference | None:
    """Return the reference for videos like these, None where there are too few to tell (one patient alone).

    Videos of one patient are near each other by construction, and a new video comes from a new patient: so each training
    video is compared with those of other patients.

    Args:
        embeddings: mean token of each training video.
        patients: of each; "" where not known, which counts as a patient of its own.
        k: which neighbour counts; fewer where there are not so many.
        most: videos to keep at most.
        seed: of which are drawn where there are more.
    """
    if len(embeddings) > most:
        drawn = np.sort(np.random.default_rng(seed).choice(len(embeddings), most, replace=False))
        embeddings, patients = embeddings[drawn], [patients[i] for i in drawn]
    known = [bool(patient) for patient in patients]
    unit = "patient" if all(known) else "patient or video" if any(known) else "video"
    names = np.array([f"patient {p}" if p else f"video {i}" for i, p in enumerate(patients)])
    same = names[:, None] == names[None, :]
    k = min(k, int((~same).sum(1).min(initial=len(same))))
    if k < 1:
        return None
    distances = kth_nearest(embeddings, embeddings, k, same)
    return Reference(np.ascontiguousarray(embeddings), np.sort(distances), k, unit)


def kth_nearest(
    new: Float32[np.ndarray, "v d"],
    known: Float32[np.ndarray, "m d"],
    k: int,
    but: Bool[np.ndarray, "v m"] | None = None,
) -> Float32[np.ndarray, " v"]:
    """Return the cosine distance of each of `new` to its k-th nearest among `known`, leaving out the pairs marked in `but`."""
    from sklearn.metrics.pairwise import cosine_distances

    # Embeddings of one encoder lie in a narrow cone: in float32 little would be left of 1 - cos.
    distances = cosine_distances(new.astype(np.float64), known.astype(np.float64))
    if but is not None:
        distances[but] = np.inf
    return np.partition(distances, k - 1, axis=1)[:, k - 1].astype(np.float32)
