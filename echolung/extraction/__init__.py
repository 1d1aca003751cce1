"""Dataset × encoder -> token store: the heavy stage, run once.

`plan` decides what has to be done without importing torch; `run` does it.
"""

from echolung.extraction.parts import Part, choose_device, choose_part
from echolung.extraction.plan import ExtractionPlan, make_plan

__all__ = ["ExtractionPlan", "Part", "choose_device", "choose_part", "make_plan"]
