"""The kinds of probe, by name, with the settings that a protocol chooses from."""

from collections.abc import Sequence
from itertools import product

from echolung.probes import classical
from echolung.probes.banked import banked
from echolung.probes.heads import ATTENTIVE, LINEAR
from echolung.probes.jobs import ProbeKind, Setting


def _grid(lr: Sequence[float], weight_decay: Sequence[float]) -> tuple[Setting, ...]:
    """Return lr × weight decay with ties going to the smaller learning rate and the larger weight decay."""
    pairs = product(sorted(lr), sorted(weight_decay, reverse=True))
    return tuple({"lr": rate, "weight_decay": decay} for rate, decay in pairs)


SEED_GRID = _grid((1e-4, 5e-5, 1e-5), (0.04, 0.004, 0.0004))
"""The published study's nine settings; they learn at its batch of 2 and hardly at 16."""


PROBES: dict[str, ProbeKind] = {
    "linear": banked(
        "mean token, LayerNorm, linear layer; AdamW",
        LINEAR,
        _grid((3e-3, 1e-3, 3e-4), (0.04, 0.004, 0.0004)),
        SEED_GRID,
        pooled=True,
    ),
    "logistic": classical.classical(
        "logistic regression on standardised mean tokens",
        classical.logistic_fit,
        classical.logistic_predict,
        tuple({"C": c} for c in (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)),
        regression=False,
    ),
    "knn": classical.classical(
        "k nearest neighbours of standardised mean tokens",
        classical.knn_fit,
        classical.knn_predict,
        tuple({"k": float(k)} for k in (25, 15, 9, 5, 3, 1)),
        regression=True,
    ),
    "attentive": banked(
        "V-JEPA's attentive pooler, depth 1: one query, cross-attention, MLP, linear layer; AdamW",
        ATTENTIVE,
        _grid((1e-3, 3e-4, 1e-4), (0.04,)),
        SEED_GRID,
        pooled=False,
    ),
}
"""Name -> kind. Learning rates suit batches of 16. The attentive probe has one weight decay: over some 400 steps at these
learning rates, 0.04 shrinks a weight by under 1 %, and less cannot be told from none."""
