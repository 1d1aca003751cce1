"""Every check is in the documentation, and the other way round."""

import re
from pathlib import Path

from echolung.evaluation.checks.codes import CHECKS

PAGE = Path(__file__).parents[3] / "docs" / "checks.md"


def test_every_code_is_documented():
    rows = re.findall(r"^\| (EL\d{3}) \|", PAGE.read_text("utf-8"), re.M)
    assert rows == list(CHECKS) == sorted(CHECKS)


def test_every_check_says_why_and_what_to_do():
    for about in CHECKS.values():
        assert about.title and about.why.endswith(".") and about.advice.endswith(".")
