"""What an attentive probe looks at: the weight of every token of a video, a map for each attention head."""

import numpy as np
import torch
from jaxtyping import Float32

from echolung.errors import InputError
from echolung.probes.features import Features
from echolung.probes.heads import ATTENTIVE, Head, attentive_deep, attentive_lite
from echolung.probes.saved import Probe


def attends(probe: Probe) -> bool:
    """Whether a probe has attention to be shown."""
    return probe.kind in ("attentive", "attentive-lite")


def attention_maps(probe: Probe, features: Features) -> Float32[np.ndarray, "v heads n"]:
    """Return how much of its attention each head (each query of a light probe) gives to each token of each video.

    Weights are the very softmax that pools the tokens, of a probe of some depth in its last, pooling layer. A head's sum to 1
    over a video's tokens, with late fusion over each segment's. Of several videos take `features.select`.

    Args:
        probe: attentive or attentive-lite.
        features: videos with all their tokens, their fixed view. They are gone through one at a time.

    Raises:
        InputError: another kind of probe, mean tokens only, or tokens of another width.
    """
    if not attends(probe):
        raise InputError(
            f"A {probe.kind} probe has no attention: it sees the mean of all tokens. Take an attentive one."
        )
    width = probe.arrays["query"].shape[-1]
    if features.pooled or features.dim != width:
        found = "their mean only" if features.pooled else f"tokens of width {features.dim}"
        raise InputError(f"The probe attends to tokens of width {width}, and there are {found}.")
    head = _head(probe)
    parameters = {name: torch.from_numpy(v)[None] for name, v in probe.arrays.items() if not name.startswith("target.")}
    one_by_one = [(np.array([video]), None) for video in range(len(features))]
    with torch.inference_mode():
        maps = [_one(head, parameters, tokens, features.segments) for tokens in features.batches(one_by_one)]
    return torch.stack(maps).numpy().astype(np.float32)


def _head(probe: Probe) -> Head:
    """Return the head that the arrays of a probe belong to."""
    if probe.kind == "attentive-lite":
        return attentive_lite(len(probe.arrays["query"]))
    blocks = {name.split(".")[1] for name in probe.arrays if name.startswith("blocks.")}
    return attentive_deep(1 + len(blocks)) if blocks else ATTENTIVE


def _one(head: Head, parameters: dict[str, torch.Tensor], tokens: torch.Tensor, segments: int) -> torch.Tensor:
    """Return the map [heads, n] of one video's tokens [1, n, d]."""
    assert head.attention is not None
    runs = head.normalise(tokens.reshape(segments, -1, tokens.shape[-1]))
    return head.attention(parameters, runs)[:, 0].transpose(0, 1).flatten(1)
