"""The kinds of probe, by name: what they are, what may be set, and the settings that a protocol chooses from."""

import re
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from echolung.errors import InputError
from echolung.probes import classical
from echolung.probes.banked import banked
from echolung.probes.heads import ATTENTIVE, LINEAR, NORMS, Head, attentive_deep, attentive_lite, mlp
from echolung.probes.hyper import Choice, Hyper, Number, read_setting
from echolung.probes.jobs import ProbeKind, Setting
from echolung.probes.objectives import CLASSIFICATION, REGRESSION
from echolung.text import suggest


def _grid(lr: Sequence[float], weight_decay: Sequence[float]) -> tuple[Setting, ...]:
    """Return lr × weight decay with ties going to the smaller learning rate and the larger weight decay."""
    pairs = product(sorted(lr), sorted(weight_decay, reverse=True))
    return tuple({"lr": rate, "weight_decay": decay} for rate, decay in pairs)


SEED_GRID = _grid((1e-4, 5e-5, 1e-5), (0.04, 0.004, 0.0004))
"""The published study's nine settings; they learn at its batch of 2 and hardly at 16."""


def _learning(lr: tuple[float, float]) -> Hyper:
    """Return what every probe that learns in epochs has; a study searches the learning rates between `lr`."""
    default = (lr[0] * lr[1]) ** 0.5
    return {
        "lr": Number(default, 1e-7, 1.0, search=lr, log=True, about="peak learning rate"),
        "weight_decay": Number(0.04, 0, 10, search=(1e-4, 1.0), log=True, about="of AdamW, on every parameter"),
        "dropout": Number(
            0.0, 0, 0.95, search=(0.0, 0.5), about="before the last layer; in an MLP after each hidden layer"
        ),
        "label_smoothing": Number(0.0, 0, 0.9, search=(0.0, 0.2), about="of cross-entropy"),
        "class_weights": Choice("none", ("none", "balanced"), ("none", "balanced"), "balanced: n / (C · n_c)"),
        "warmup": Number(0.0, 0, 0.9, about="share of the steps in which the learning rate rises"),
        "schedule": Choice(
            "cosine", ("cosine", "constant"), about="of the learning rate after that: to 0, or as it is"
        ),
        "epochs": Number(50, 1, 100_000, whole=True, about="length of the schedule"),
        "loss": Choice("auto", ("auto", *CLASSIFICATION, *REGRESSION), about="auto: cross-entropy, smooth-l1"),
    }


_PENALTIES: Hyper = {
    "l1": Number(0.0, 0, 10, about="weight of Σ |W| in the loss"),
    "l2": Number(0.0, 0, 10, about="weight of Σ W² in the loss"),
}

_ATTENTIVE: Hyper = {
    **_learning((1e-5, 3e-3)),
    "depth": Number(1, 1, 12, whole=True, about="blocks; 4: three of self-attention first, as V-JEPA 2 (for a GPU)"),
}

_LITE: Hyper = {
    **_learning((1e-4, 3e-2)),
    "queries": Number(4, 1, 64, whole=True, about="learnt queries, each pools its part of the width"),
}

_MLP: Hyper = {
    **_learning((1e-5, 1e-2)),
    "hidden": Choice("256", None, about="widths of the hidden layers, such as 256 or 512x128; none: one linear layer"),
    "norm": Choice("layer", NORMS, about="of the mean token: LayerNorm, BatchNorm, or none"),
    "input_dropout": Number(0.0, 0, 0.95, about="after that norm, before the first layer"),
    "batch_norm": Choice("no", ("no", "yes"), about="BatchNorm after each hidden layer"),
    **_PENALTIES,
}


def _attentive(setting: Setting) -> Head:
    return ATTENTIVE if setting["depth"] == 1 else attentive_deep(setting["depth"])


def _mlp(setting: Setting) -> Head:
    text = str(setting["hidden"])
    if text != "none" and not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", text):
        raise InputError(f"hidden {text!r} must be widths of layers, such as 256 or 512x128, or none.")
    hidden = () if text == "none" else tuple(int(width) for width in text.split("x"))
    return mlp(hidden, setting["batch_norm"] == "yes", setting["norm"], setting["input_dropout"])


PROBES: dict[str, ProbeKind] = {
    "linear": banked(
        "mean token, LayerNorm, linear layer; AdamW",
        lambda setting: LINEAR,
        _grid((3e-3, 1e-3, 3e-4), (0.04, 0.004, 0.0004)),
        SEED_GRID,
        {**_learning((1e-5, 3e-2)), **_PENALTIES},
        pooled=True,
    ),
    "logistic": classical.classical(
        "logistic regression on standardised mean tokens, penalised by L2, L1 or both",
        classical.logistic_fit,
        classical.logistic_predict,
        tuple({"C": c} for c in (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)),
        {
            "C": Number(1e-2, 1e-10, 1e10, search=(1e-5, 1e2), log=True, about="inverse strength of the penalty"),
            "l1_ratio": Number(
                0.0, 0, 1, about="share of L1 in the penalty: 0 is L2 alone, 1 L1 alone, between elastic net"
            ),
        },
        regression=False,
    ),
    "knn": classical.classical(
        "k nearest neighbours of standardised mean tokens",
        classical.knn_fit,
        classical.knn_predict,
        tuple({"k": k} for k in (25, 15, 9, 5, 3, 1)),
        {"k": Number(5, 1, 10_000, search=(1, 50), whole=True, about="neighbours")},
        regression=True,
    ),
    "mlp": banked(
        "mean token, LayerNorm, hidden layers with GELU and dropout, linear layer; AdamW",
        _mlp,
        _grid((1e-3, 3e-4, 1e-4), (0.04,)),
        SEED_GRID,
        _MLP,
        pooled=True,
    ),
    "attentive-lite": banked(
        "learnt queries straight on the tokens, linear layer, a few thousand numbers; AdamW",
        lambda setting: attentive_lite(setting["queries"]),
        _grid((1e-2, 3e-3, 1e-3), (0.04, 0.0004)),
        SEED_GRID,
        _LITE,
        pooled=False,
    ),
    "attentive": banked(
        "V-JEPA's attentive pooler: one query, cross-attention, MLP, linear layer; AdamW",
        _attentive,
        _grid((1e-3, 3e-4, 1e-4), (0.04,)),
        SEED_GRID,
        _ATTENTIVE,
        pooled=False,
    ),
}
"""Name -> kind. Learning rates suit batches of 16. The attentive probe has one weight decay: over some 400 steps at these
learning rates, 0.04 shrinks a weight by under 1 %, and less cannot be told from none."""


def find_kind(probe: str) -> ProbeKind:
    """Return the kind of probe of that name; InputError, with the nearest name, where there is none."""
    if probe not in PROBES:
        raise InputError(f"There is no probe {probe!r}; there are {', '.join(PROBES)}.{suggest(probe, list(PROBES))}")
    return PROBES[probe]


def settings_with(probe: str, grid: Sequence[Setting], given: Mapping[str, Any]) -> tuple[Setting, ...]:
    """Return a grid in which some hyper-parameters have the values given: one for all, or several (a list) to choose from.

    Raises:
        InputError: a hyper-parameter that this kind of probe does not have, or a value that is not allowed.
    """
    kind = find_kind(probe)
    lists = {name: value if isinstance(value, list | tuple) else [value] for name, value in given.items()}
    combinations = [read_setting(probe, kind.hyper, dict(zip(lists, c, strict=True))) for c in product(*lists.values())]
    settings = [{**setting, **chosen} for setting in grid for chosen in combinations]
    unique = {tuple(sorted(setting.items())): setting for setting in settings}
    # At a tie the earlier is taken: the smaller learning rate, then the larger weight decay.
    return tuple(sorted(unique.values(), key=lambda s: (s.get("lr", 0.0), -s.get("weight_decay", 0.0))))
