"""Which videos may be learnt from and which are predicted, and what the predictions are worth."""

from echolung.evaluation.protocols import cross_validate
from echolung.evaluation.question import Question
from echolung.evaluation.result import Result

__all__ = ["Question", "Result", "cross_validate"]
