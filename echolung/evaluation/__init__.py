"""Which videos may be learnt from and which are predicted, and what the predictions are worth."""

from echolung.evaluation.protocols import Result, cross_validate

__all__ = ["Result", "cross_validate"]
