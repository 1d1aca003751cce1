"""Probes on mean tokens that do not learn in epochs: logistic regression and nearest neighbours, from scikit-learn."""

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float32

from echolung.probes.features import Features
from echolung.probes.hyper import Hyper
from echolung.probes.jobs import Arrays, Job, OnEpoch, ProbeKind, Setting, Training

FitOne = Callable[[np.ndarray, np.ndarray, int, Setting], Arrays]
PredictOne = Callable[[Arrays, np.ndarray], Float32[np.ndarray, "v c"]]


@dataclass(frozen=True)
class _Model:
    """How one such probe is fitted to mean tokens [v, d], and how it predicts."""

    fit: FitOne
    predict: PredictOne


def classical(
    title: str,
    fit_one: FitOne,
    predict_one: PredictOne,
    settings: tuple[Setting, ...],
    hyper: Hyper,
    *,
    regression: bool,
) -> ProbeKind:
    """Return the kind of probe that is fitted job by job."""
    model = _Model(fit_one, predict_one)
    kind = partial(_fit, model), partial(_predict, model), partial(_estimate, model)
    return ProbeKind(title, True, settings, 1, *kind, regression, seed_settings=settings, hyper=hyper)


def _fit(
    model: _Model,
    features: Features,
    targets: np.ndarray,
    outputs: int,
    jobs: Sequence[Job],
    training: Training,
    on_epoch: OnEpoch,
) -> list[Arrays | None]:
    from threadpoolctl import threadpool_limits

    means, kept = features.values[:, 0, 0], []
    # A fit takes milliseconds, and threads that wait for each other on a busy machine were seen to make it 20 times that.
    with threadpool_limits(1):
        for index, job in enumerate(jobs):
            own = targets if job.targets is None else job.targets
            arrays = model.fit(means[job.train], own[job.train], outputs, job.setting)
            on_epoch(1, [index], model.predict(arrays, means)[None])
            kept.append(arrays if job.keep else None)
    return kept


def _predict(model: _Model, arrays: Arrays, features: Features, setting: Setting) -> Float32[np.ndarray, "v c"]:
    return model.predict(arrays, features.values[:, 0, 0])


def _estimate(
    model: _Model, features: Features, targets: np.ndarray, outputs: int, jobs: Sequence[Job], training: Training
) -> float:
    _fit(model, features, targets, outputs, jobs[-1:], training, lambda *_: None)  # the first also imports scikit-learn
    began = time.perf_counter()
    _fit(model, features, targets, outputs, jobs[-1:], training, lambda *_: None)
    return (time.perf_counter() - began) * len(jobs)


def logistic_fit(means: np.ndarray, targets: np.ndarray, outputs: int, setting: Setting) -> Arrays:
    """Return scaler and coefficients of a multinomial logistic regression with an L2, L1 or mixed penalty of strength 1/C."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(means.astype(np.float64))
    how: dict[str, Any] = {"max_iter": 2000}
    if share := setting.get("l1_ratio", 0.0):
        # The only solver of scikit-learn's for every share; it visits videos at random.
        how = {"max_iter": 5000, "solver": "saga", "l1_ratio": share, "random_state": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # nearly there is a probe, too: its loss decides
        model = LogisticRegression(C=setting["C"], **how).fit(scaler.transform(means), targets)
    # scikit-learn gives two classes one row of coefficients: the logit of the second against the first's 0.
    weight, bias = model.coef_, model.intercept_
    if outputs == 2:
        weight, bias = np.vstack([np.zeros_like(weight), weight]), np.append(0.0, bias)
    return {"mean": scaler.mean_, "scale": scaler.scale_, "weight": weight, "bias": bias}


def logistic_predict(arrays: Arrays, means: np.ndarray) -> Float32[np.ndarray, "v c"]:
    """Return the logits."""
    scaled = (means - arrays["mean"]) / arrays["scale"]
    return (scaled @ arrays["weight"].T + arrays["bias"]).astype(np.float32)


def knn_fit(means: np.ndarray, targets: np.ndarray, outputs: int, setting: Setting) -> Arrays:
    """Return what a kNN probe consists of: its training videos, and their mean and spread to standardise others by."""
    mean, scale = means.mean(0), means.std(0)
    scale = np.where(scale > 0, scale, 1).astype(np.float32)
    k = min(int(setting["k"]), len(means))
    return {
        "mean": mean,
        "scale": scale,
        "points": (means - mean) / scale,
        "targets": targets,
        "k": np.array([k]),
        "classes": np.array([outputs if targets.dtype.kind == "i" else 0]),
    }


def knn_predict(arrays: Arrays, means: np.ndarray) -> Float32[np.ndarray, "v c"]:
    """Return log-probabilities by the neighbours' votes, one vote more for every class (Laplace), or their mean target.

    Without the extra votes a class that no neighbour has would get probability 0, and one such error an infinite loss.
    """
    from sklearn.neighbors import NearestNeighbors

    k, classes = int(arrays["k"][0]), int(arrays["classes"][0])
    model = NearestNeighbors(n_neighbors=k).fit(arrays["points"])
    near = model.kneighbors((means - arrays["mean"]) / arrays["scale"], return_distance=False)
    targets = arrays["targets"][near]
    if classes == 0:
        return targets.mean(1, keepdims=True).astype(np.float32)
    votes = (targets[:, :, None] == np.arange(classes)).sum(1) + 1.0
    return np.log(votes / votes.sum(1, keepdims=True)).astype(np.float32)
