"""`--dataset NAME[:WEIGHT],…`: several datasets as one pool of videos."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from echolung.cli import options
from echolung.cli.console import say

if TYPE_CHECKING:
    from echolung.pretraining.pool import Pool


def open_pool(
    dataset: str, data: Path | None = None, all_splits: bool = False, tell: Callable[[str], None] = say
) -> "Pool":
    """Return the pool of the datasets named; tells what was left out, repaired or guessed.

    Args:
        dataset: NAME[:WEIGHT], several apart by commas; a CSV's path stands for `table`.
        data: where the dataset is; of several, a folder that holds each by its name. Default: ECHOLUNG_HOME/data.
        all_splits: take videos for validation and test too.
        tell: is told.

    Raises:
        InputError: no such dataset, it is not there, a weight that is none, or no video is left.
    """
    from echolung.pretraining.pool import Pool, parse_mix

    mix = parse_mix(dataset)
    manifests, weights = [], {}
    for name, weight in mix.items():
        folder = data / name if data is not None and len(mix) > 1 else data
        manifest, _ = options.open_dataset(name, folder, None, None, False)
        manifests.append(manifest)
        if weight is not None:
            weights[manifest.name] = weight
        for note in manifest.notes:
            tell(f"{manifest.name}: {note}")
    pool = Pool.of(manifests, weights or None, all_splits)
    for note in pool.notes:
        tell(note)
    return pool
