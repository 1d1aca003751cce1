"""What `verify` reports: each thing that is broken, and the store as a whole."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from echolung.cache.place import Place

Kind = Literal["attributes", "metadata", "table", "data", "stray"]


@dataclass(frozen=True)
class Damage:
    """One thing that is broken.

    Attributes:
        array: which array, table or file, as a path below the store; "" for the store's own attributes.
        what: what is wrong with it, for people.
        kind: what has to be mended: the store's attributes, an array's zarr.json, a table, clips' data, a stray file.
        rows: the clips that it concerns.
        videos: their videos.
    """

    array: str
    what: str
    kind: Kind
    rows: tuple[int, ...] = ()
    videos: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verification:
    """What a store was found to hold.

    Attributes:
        path: the store.
        clips: how many clips it has rows for.
        complete: how many of them have their tokens.
        finished: whether its extraction ended.
        bytes: what was read.
        damages: what is broken; none: nothing is.
        notes: what else a reader should know.
    """

    path: Place
    clips: int
    complete: int
    finished: bool
    bytes: int
    damages: tuple[Damage, ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {**asdict(self), "path": str(self.path), "damages": [asdict(damage) for damage in self.damages]}
