"""Optuna studies of a probe's hyper-parameters, inside the same honest protocol."""

from echolung.evaluation.studies.objective import objective
from echolung.evaluation.studies.run import Progress, StudyResult, run_study

__all__ = ["Progress", "StudyResult", "objective", "run_study"]
