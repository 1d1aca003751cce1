"""What a check comes to: found or not, and then why it matters and what to do."""

from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["fine", "warning", "not applicable", "muted"]


@dataclass(frozen=True)
class Finding:
    """The answer of one check.

    Attributes:
        code: by which it is muted, such as "EL101": EL1.. of the data, EL2.. of folds and choices, EL3.. of the result.
        title: what was looked for, in a few words.
        status: "fine", "warning" (look at it), "not applicable" (then `found` says why), or "muted" (looked for, not shown).
        found: what was found, with its numbers, in a sentence or two.
        why: why that matters; "" where nothing was found.
        advice: what to do about it; "" where nothing was found.
        scores: figures to be shown beside the model's, metric -> value, such as those of a forest that saw no pixel.
    """

    code: str
    title: str
    status: Status
    found: str
    why: str = ""
    advice: str = ""
    scores: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the finding as plain values."""
        return dict(self.__dict__)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Finding":
        """Rebuild a finding from `to_json`."""
        return cls(**fields)
