"""`--dataset NAME[:WEIGHT],…`: several datasets as one pool of videos, each with the options that it has."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from echolung.cli import options
from echolung.cli.terminal.console import say
from echolung.errors import InputError

if TYPE_CHECKING:
    from echolung.datasets import Manifest
    from echolung.pretraining.pool import Pool


@dataclass(frozen=True)
class Sources:
    """Where the datasets of a mix are, and what is taken of them.

    Attributes:
        mix: NAME[:WEIGHT], several apart by commas; a CSV's path stands for `table`.
        data: where the dataset is; of several, a folder that holds each by its name. None: ECHOLUNG_HOME/data.
        view: of the datasets that have views.
        fold: of the datasets that have folds.
    """

    mix: str
    data: Path | None = None
    view: str | None = None
    fold: int | None = None

    @property
    def weights(self) -> dict[str, float | None]:
        """Return name -> weight, None where it has none; InputError where the mix is none."""
        from echolung.pretraining.pool import parse_mix

        return parse_mix(self.mix)

    def open(self, name: str, drop_unlabelled: bool = False) -> "Manifest":
        """Return a dataset, of the mix or another; of `data` only where that is its place."""
        own = _options(name)
        view, fold = self.view if "view" in own else None, self.fold if "fold" in own else None
        return options.open_dataset(name, self._place(name), None, None, drop_unlabelled, view, fold)[0]

    def check(self, others: Sequence[str] = ()) -> None:
        """Raise InputError where a view or fold was asked for that none of the datasets, of the mix or others, has."""
        names = [*self.weights, *others]
        for option, value in (("view", self.view), ("fold", self.fold)):
            if value is not None and not any(option in _options(name) for name in names):
                raise InputError(
                    f"--{option} {value} was given, and none of {', '.join(names)} has a {option}. Leave it out."
                )

    def _place(self, name: str) -> Path | None:
        if self.data is None:
            return None
        if list(self.weights) == [name]:
            return self.data
        known = name in self.weights or (len(self.weights) > 1 and (self.data / name).exists())
        return self.data / name if known else None


def _options(name: str) -> tuple[str, ...]:
    """Return the names of the options that a dataset has; none of a CSV, or where there is no such dataset."""
    from echolung.datasets import DATASETS

    return DATASETS[name].options if name in DATASETS else ()


def open_pool(sources: Sources, all_splits: bool = False, tell: Callable[[str], None] = say) -> "Pool":
    """Return the pool of the datasets named; tells what was left out, repaired or guessed.

    Args:
        sources: the datasets.
        all_splits: take videos for validation and test too.
        tell: is told.

    Raises:
        InputError: no such dataset, it is not there, a weight that is none, or no video is left.
    """
    from echolung.pretraining.pool import Pool

    manifests, weights = [], {}
    for name, weight in sources.weights.items():
        manifest = sources.open(name)
        manifests.append(manifest)
        if weight is not None:
            weights[manifest.name] = weight
        for note in manifest.notes:
            tell(f"{manifest.name}: {note}")
    pool = Pool.of(manifests, weights or None, all_splits)
    for note in pool.notes:
        tell(note)
    return pool
