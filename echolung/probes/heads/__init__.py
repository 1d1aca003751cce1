"""The probes themselves, P of them side by side: parameters carry a leading axis p, tokens are shared.

A head is a few plain functions over a dict of stacked parameters, so that a probe's slice is the textbook module's state.
"""

from echolung.probes.heads.attentive import ATTENTIVE, attention_heads
from echolung.probes.heads.base import EPS, Head, Parameters, Step
from echolung.probes.heads.deep import attentive_deep
from echolung.probes.heads.linear import LINEAR
from echolung.probes.heads.lite import attentive_lite
from echolung.probes.heads.mlp import NORMS, mlp

__all__ = [
    "ATTENTIVE",
    "EPS",
    "LINEAR",
    "NORMS",
    "Head",
    "Parameters",
    "Step",
    "attention_heads",
    "attentive_deep",
    "attentive_lite",
    "mlp",
]
