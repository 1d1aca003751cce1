"""Text burned into a video: bright, sharp marks that never change, in rows as writing is (docs/motion-mask.md)."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, UInt8

STILL = 10
"""Grey levels that a pixel of text may vary by over a video: lossy codecs shimmer around sharp edges."""

CONTRAST = 50
"""Grey levels that text stands out from what is around it."""

TALLEST, SHORTEST = 0.06, 5
"""Height of a character: at most this share of the picture's height, at least so many pixels."""

LONG = 3
"""Marks in a row that make it text: the transducer's own echoes give two now and then."""


@dataclass(frozen=True)
class Text:
    """A line of burned-in text: its box, pixels, the right and lower edge not included, and how many marks it has."""

    left: int
    top: int
    right: int
    bottom: int
    marks: int

    def touches(self, keep: Bool[np.ndarray, "h w"]) -> bool:
        """Whether a pixel of the box is kept."""
        return bool(keep[self.top : self.bottom, self.left : self.right].any())


def find_text(grey: UInt8[np.ndarray, "t h w"]) -> list[Text]:
    """Return the lines of text that are likely burned into a video, from the top down.

    Not found is text that changes (a clock, a heart rate), is dark on bright, slanted, or of one or two characters.
    """
    height = grey.shape[1]
    boxes = _characters(still_marks(grey), max(round(TALLEST * height), 2 * SHORTEST))
    lines = [line for line in _rows(boxes) if len(line) >= LONG]
    found = [
        Text(
            min(x for x, _, _, _ in line),
            min(y for _, y, _, _ in line),
            max(x + w for x, _, w, _ in line),
            max(y + h for _, y, _, h in line),
            len(line),
        )
        for line in lines
    ]
    return sorted(found, key=lambda text: (text.top, text.left))


def still_marks(grey: UInt8[np.ndarray, "t h w"]) -> Bool[np.ndarray, "h w"]:
    """Return the pixels that never change and stand out brightly from what is around them, as strokes of a pen do."""
    import cv2

    still = grey.max(0) - grey.min(0) <= STILL
    picture = np.median(grey[:: max(len(grey) // 8, 1)], axis=0).astype(np.uint8)
    stroke = 2 * max(round(TALLEST * len(picture) / 8), 2) + 1  # wider than any stroke, narrower than a bright region
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (stroke, stroke))
    return still & (cv2.morphologyEx(picture, cv2.MORPH_TOPHAT, disc) >= CONTRAST)


Box = tuple[int, int, int, int]
"""left, top, width, height"""


def _characters(marks: Bool[np.ndarray, "h w"], tallest: int) -> list[Box]:
    """Return the boxes of connected marks as large as a character."""
    import cv2

    count, _, stats, _ = cv2.connectedComponentsWithStats(marks.astype(np.uint8))
    boxes = [tuple(int(value) for value in stats[i, :4]) for i in range(1, count)]
    return [(x, y, w, h) for x, y, w, h in boxes if SHORTEST <= h <= tallest and w <= 4 * tallest]


def _rows(boxes: list[Box]) -> list[list[Box]]:
    """Return the boxes in groups: of like height, on one line, no further apart than two of their heights."""
    rows: list[list[Box]] = []
    for box in sorted(boxes):
        x, y, _, h = box
        for row in rows:
            left, top, wide, high = row[-1]
            near = x - (left + wide) <= 2 * max(h, high)
            shared = min(y + h, top + high) - max(y, top)
            if near and shared >= 0.6 * min(h, high) and max(h, high) <= 2 * min(h, high):
                row.append(box)
                break
        else:
            rows.append([box])
    return rows
