"""A saved probe and a store of other videos -> a table of predictions."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from echolung.cache import Key, TokenStore
from echolung.cache.key import differences
from echolung.errors import InputError
from echolung.probes.bank import PREDICT_BATCH
from echolung.probes.features import load_features
from echolung.probes.kinds import PROBES
from echolung.probes.saved import Probe, softmax
from echolung.text import listed

MEMORY = 2e9
"""Bytes that tokens may take; the rest is streamed."""

SLIGHT = ("decoder", "resampling", "precision", "encoder.timm")
"""Fields of a key that move a number by rounding, or a grey level here and there: said, and no reason to refuse."""


def needed_key(probe: Probe) -> Key:
    """Return the key of the store that a probe was fitted on; InputError where its file does not say."""
    key = probe.about.get("store_key")
    if not isinstance(key, Mapping):
        raise InputError(
            "This probe's file does not say by which encoder and from which windows its tokens were made: an older version "
            "of echolung saved it, or it comes from elsewhere. Repeat the run (echolung probe, or study) with this version."
        )
    return key


def check_key(probe: Probe, key: Key, where: str) -> list[str]:
    """Compare the key of a store (to be) with that of the probe; return what differs slightly.

    Args:
        probe: of which kind matters, too: one on mean tokens does not mind whether and how tokens are kept.
        key: of the store.
        where: what to call it in an error.

    Raises:
        InputError: encoder, window or another field is not what the probe was fitted on; the text names the fields.
    """
    pooled = PROBES[probe.kind].pooled
    found = differences(_that_matters(key, pooled), _that_matters(needed_key(probe), pooled))
    slight = [line for line in found if line.startswith(SLIGHT)]
    if wrong := [line for line in found if line not in slight]:
        # Where the weights are others, that says it all.
        wrong.sort(key=lambda line: not line.startswith("encoder.weights"))
        raise InputError(
            f"{where} is not made as the tokens that this probe was fitted on; {listed(wrong, 4)}. The probe belongs to "
            f"{probe.about.get('encoder')}; name its weights with --encoder, or fit a probe on tokens like these."
        )
    return slight


def _that_matters(key: Key, pooled: bool) -> dict[str, Any]:
    """Return a key without what cannot change a prediction: the dataset's name, random views, for mean tokens what is kept."""
    kept = {
        field: value for field, value in key.items() if field != "dataset" and not (pooled and field == "token_pool")
    }
    if isinstance(kept.get("clips"), Mapping):
        kept["clips"] = {**kept["clips"], "views": 0}
    return kept


def predict_store(probe: Probe, store: TokenStore) -> pd.DataFrame:
    """Return one row a video of a store, in its order.

    Columns: file (the video's id); p_<class> of each class, and with a temperature calibrated_<class>; prediction (the
    likeliest class, or the number); novelty (cosine distance to the k-th nearest training video) and novelty_percentile,
    where the probe has a reference; warning; error. Numbers of a video that could not be read are NaN, texts "".

    Raises:
        InputError: the store is not made as the probe's, or no video of it could be read.
        RunError: the store is damaged.
    """
    check_key(probe, store.key, store.path.name)
    _check_tensors(probe, store)
    kind, fusion = PROBES[probe.kind], probe.about.get("fusion", "early")
    features = load_features(store, pooled=kind.pooled, fusion=fusion, memory=MEMORY, batch=PREDICT_BATCH)
    table = pd.DataFrame({"file": features.video_ids}, dtype=object)
    table = table.assign(**_answers(probe, probe.predict(features)))
    if probe.reference is not None:
        means = load_features(store, pooled=True).held[:, 0, 0]
        distances = probe.reference.distance(means)
        table["novelty"], table["novelty_percentile"] = distances, probe.reference.percentile(distances)
        table["warning"] = probe.reference.warnings(distances)
    every = pd.DataFrame({"file": store.rows["video_id"].unique()}, dtype=object).merge(table, "left", on="file")
    every["error"] = [store.failures.get(name, "") for name in every["file"]]
    texts = [name for name in ("warning", *(["prediction"] if probe.classes else [])) if name in every]
    return every.fillna(dict.fromkeys(texts, ""))


def _answers(probe: Probe, scores: np.ndarray) -> dict[str, Any]:
    """Return the columns that hold answers; a temperature moves probabilities and never the likeliest class."""
    if not probe.classes:
        return {"prediction": scores[:, 0]}
    answers = {f"p_{name}": scores[:, i] for i, name in enumerate(probe.classes)}
    if temperature := probe.about.get("temperature"):
        calibrated = softmax(np.log(np.maximum(scores, np.finfo(np.float32).tiny)) / temperature)
        answers |= {f"calibrated_{name}": calibrated[:, i] for i, name in enumerate(probe.classes)}
    return {**answers, "prediction": np.array(probe.classes, object)[scores.argmax(1)]}


def _check_tensors(probe: Probe, store: TokenStore) -> None:
    """Random weights and a class of one's own can change between versions, under the same name and recipe."""
    expected, held = probe.about.get("weights_tensors"), store.group.attrs.get("weights_tensors")
    if expected and held and expected != held:
        raise InputError(
            f"The weights of {probe.about.get('encoder')} are others than those that this probe was fitted on, under the same "
            f"name: their digest is {held}, expected {expected}. A random initialisation or your own class may have changed "
            "between versions."
        )
