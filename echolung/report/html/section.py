"""A section of the page, and what sections are made from."""

from collections.abc import Sequence
from dataclasses import dataclass

from echolung.cache import TokenStore
from echolung.report.html.images import Drawn, Image
from echolung.report.html.prose import READ, TITLES
from echolung.report.html.tables import Table
from echolung.report.run import Run


@dataclass(frozen=True)
class Material:
    """What sections are made from.

    Attributes:
        run: the run.
        store: what it was found in; None where that is not at hand.
        drawn: its figures.
    """

    run: Run
    store: TokenStore | None
    drawn: Drawn

    def images(self, name: str) -> list[Image]:
        """Return the figures of a name; none where there was nothing to draw."""
        return self.drawn.images.get(name, [])


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        key: its anchor.
        title: its head.
        read: how to read it, and where that ends.
        images: figures.
        tables: tables, below them.
        note: what is left out, and why.
        scored: whether it shows what the run scored, which is marked where that is optimistic.
    """

    key: str
    title: str
    read: str
    images: Sequence[Image]
    tables: Sequence[Table]
    note: str
    scored: bool

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show."""
        return not (self.images or self.tables or self.note)


def section(
    key: str,
    images: Sequence[Image] = (),
    tables: Sequence[Table] = (),
    *,
    read: str = "",
    note: str = "",
    scored: bool = True,
) -> Section:
    """Return the section `key`; `read` names the words that say how to read it, where it is not `key` itself."""
    words = " ".join(READ.get(read or key, "").split())
    return Section(key, TITLES[key], words, images, [table for table in tables if table.rows], note, scored)
