"""What is trained on frozen tokens: linear, logistic, kNN and attentive probes, and the bank that fits many at once."""

from echolung.probes.bank import ProbeBank
from echolung.probes.features import Features, load_features
from echolung.probes.jobs import Job, ProbeKind, Training
from echolung.probes.kinds import PROBES, find_kind, settings_with
from echolung.probes.saved import Probe, load_probe

__all__ = [
    "PROBES",
    "Features",
    "Job",
    "Probe",
    "ProbeBank",
    "ProbeKind",
    "Training",
    "find_kind",
    "load_features",
    "load_probe",
    "settings_with",
]
