"""A file elsewhere, as the tables of datasets and weights describe it; free of what downloads it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Remote:
    """A file elsewhere.

    Attributes:
        path: where it goes under the folder, with slashes.
        urls: tried in order; the digest decides what counts, not the place.
        sha256: of the whole file; "": not known.
        size: bytes; 0: not known.
    """

    path: str
    urls: tuple[str, ...]
    sha256: str = ""
    size: int = 0
