"""A store -> the encoder that it was made by, and the videos that it was made of, cut into the same clips."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from echolung.cache import TokenStore
from echolung.cache.key import differences
from echolung.clips.plan import ClipPlan
from echolung.clips.workers import TIME_LIMIT, prepare_video, run_in_workers
from echolung.datasets import DATASETS, load_manifest
from echolung.encoders.encoder import load_model
from echolung.encoders.identity import EncoderIdentity
from echolung.encoders.make import make
from echolung.errors import DecodeError, InputError
from echolung.evaluation.data import TaskData
from echolung.extraction.rebuild import decoder_of, identity_of
from echolung.extraction.sources import cut_from
from echolung.text import listed


@dataclass(frozen=True)
class Source:
    """Where a store came from.

    Attributes:
        store: the store.
        root: folder of the dataset, that the paths in the store's table are relative to.
        identity: the encoder, its weights checked against the store's key.
    """

    store: TokenStore
    root: Path
    identity: EncoderIdentity


def find_source(store: TokenStore, data: Path | None = None, encoder: str | None = None) -> Source:
    """Return where the videos and the encoder of a store are.

    Args:
        store: the store.
        data: where the dataset is (of a table: its CSV); default ECHOLUNG_HOME/data/<name>.
        encoder: where the weights are now; default where the store's name for them says.

    Raises:
        InputError: the dataset or the encoder is not there, or its weights are others.
    """
    held = store.key.get("encoder")
    if held is None or "clips" not in store.key:
        raise InputError(
            f"{store.path.name} does not say what encoder and which clips it was made of: it was not made by echolung extract."
        )
    root = _root(store, data)
    identity = identity_of(str(store.group.attrs.get("encoder")), held, encoder)
    now = {"kind": identity.kind, **identity.config, "weights": identity.weights}
    if found := differences({"encoder": held}, {"encoder": now}):
        raise InputError(
            f"The encoder {identity.name} is not the one that {store.path.name} was made by; {'; '.join(found)}. "
            "Name its checkpoint with --encoder."
        )
    return Source(store, root, identity)


def _root(store: TokenStore, data: Path | None) -> Path:
    """Return the folder of the dataset."""
    options = {name: value for name, value in store.key["dataset"].items() if name != "name"}
    name = str(store.key["dataset"]["name"])
    if data is not None and data.suffix.lower() == ".csv":
        table = data.expanduser().absolute()
        if not table.is_file():
            raise InputError(f"There is no table at {table}.")
        return table.parent
    if name not in DATASETS:
        raise InputError(f"{store.path.name} is of the table {name}: say where that is, --data {name}.csv.")
    return load_manifest(name, data, **options).root


def model_of(source: Source, fresh: int | None = None) -> tuple[Any, str]:
    """Return the encoder's network, which may learn, and a sentence on its weights.

    Args:
        source: where a store came from.
        fresh: take random weights of this seed in the place of the encoder's own.

    Raises:
        InputError: random weights are asked for of a class of the user's.
    """
    model: Any
    model, loaded = load_model(source.identity)
    if fresh is None:
        return model, loaded
    if not hasattr(model, "config"):
        raise InputError(f"{source.identity.name} cannot be drawn at random: leave out --from-scratch.")
    return make(
        model.config, fresh
    ), f"Drew random weights for the architecture of {source.identity.name} (seed {fresh})."


def read_clips(
    source: Source,
    data: TaskData,
    *,
    views: bool = False,
    place: Callable[[tuple[int, ...]], np.ndarray] | None = None,
    workers: int | None = None,
    time_limit: float = TIME_LIMIT,
    decoded: Callable[[int, int], None] = lambda done, total: None,
) -> UInt8[np.ndarray, "v views segments t s s 3"]:
    """Return the clips of the videos of a task, cut as the store's were.

    Args:
        source: where the videos are.
        data: which videos, in their order.
        views: also the random views of the store's plan; view 0 is the fixed one.
        place: shape -> where to put them; default memory.
        workers: decoding processes; default one a core.
        time_limit: seconds that decoding one video may take.
        decoded: called with (videos decoded, videos in all) after each.

    Raises:
        InputError: videos that are not there, are others than the store was made of, or can no longer be read.
    """
    key = source.store.key
    plan = ClipPlan.from_json(key["clips"])
    plan = plan if views else replace(plan, views=0)
    names = data.videos["video_id"].astype(str).tolist()
    cut = cut_from(data.videos)
    paths = {name: source.root / path for name, (path, _, _) in zip(names, cut, strict=True)}
    _check_there(source, paths)
    digests = dict(zip(source.store.rows["video_id"], source.store.array("source_digest")[:], strict=True))
    shape = (len(names), 1 + plan.views, plan.segments, plan.frames, plan.size, plan.size, 3)
    clips = (place or (lambda of: np.empty(of, np.uint8)))(shape)
    decoder = decoder_of(key["decoder"])

    def arguments(row: int) -> tuple[Any, ...]:
        return paths[names[row]], names[row], plan, decoder, *cut[row][1:]

    for row, result in run_in_workers(prepare_video, range(len(names)), arguments, workers, time_limit):
        if isinstance(result, DecodeError):
            raise InputError(f"The video {names[row]} can no longer be read, and the store was made of it: {result}")
        if digests[names[row]] not in ("", result.digest):
            raise InputError(
                f"{paths[names[row]]} is not the file that {source.store.path.name} was made of (its SHA-256 differs). Restore "
                "it, or extract again: fine-tuning and probe must see the same videos to be compared."
            )
        by_segment = result.clips.reshape(plan.segments, 1 + plan.views, *shape[3:])
        clips[row] = by_segment.swapaxes(0, 1)
        decoded(row + 1, len(names))
    return clips


def _check_there(source: Source, paths: dict[str, Path]) -> None:
    if absent := [name for name, path in paths.items() if not path.exists()]:
        raise InputError(
            f"{len(absent)} of {len(paths)} videos of {source.store.path.name} are not under {source.root} "
            f"({listed(absent, 3)}). Fine-tuning decodes them again: say where they are with --data."
        )
