"""The labelled probe that watches a pretraining run: the loss of JEPA says nothing about how good an encoder is."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from echolung.cli.pretraining.pools import Sources
from echolung.errors import InputError
from echolung.text import counted, in_bytes, listed

if TYPE_CHECKING:
    import numpy as np

    from echolung.cache import TokenStore
    from echolung.clips.plan import ClipPlan
    from echolung.datasets import Manifest
    from echolung.encoders.vit import VisionTransformer
    from echolung.pretraining.pool import Pool
    from echolung.pretraining.recipe import Recipe

MEMORY = 2e9
"""Bytes that decoded clips are kept in; of more videos than fit a random part is taken, whole patients."""

FOLDS, BATCH = 5, 16


@dataclass
class Judge:
    """Scores an encoder by nested cross-validation of a linear probe on labelled videos, which are decoded once.

    Attributes:
        manifest: the labelled videos.
        task: what is asked of them.
        clips: the windows, of the size that the encoder is trained with.
        decoder: as `echolung.clips.decode` has it.
        workers: decoding processes; None: one a core.
        time_limit: seconds that decoding one video may take.
        tell: is told what could not be read.
    """

    manifest: "Manifest"
    task: str
    clips: "ClipPlan"
    decoder: str
    workers: int | None
    time_limit: float
    tell: Callable[[str], None]
    decoded: "dict[str, np.ndarray]" = field(default_factory=dict)

    def __call__(self, encoder: "VisionTransformer") -> dict[str, float]:
        """Return the metric by its name (balanced accuracy, or R² of numbers), and again as "score", more being better."""
        from echolung.evaluation import cross_validate
        from echolung.evaluation.summary import summarise

        with tempfile.TemporaryDirectory(prefix="echolung-probe-") as folder:
            store = self._encode(encoder, Path(folder) / "looked.zarr")
            result = cross_validate(store, self.task, probe="linear", cv=self._folds())
        metric = "balanced_accuracy" if result.task.classes else "r2"
        score = summarise(result).mean[metric]
        return {metric: score, "score": score}

    def _folds(self) -> int:
        videos = self.manifest.videos
        patients = videos["patient"].astype(str)
        units = patients if (patients != "").all() else videos["video_id"]
        return max(2, min(FOLDS, units.nunique() // 2))

    def _encode(self, encoder: "VisionTransformer", path: Path) -> "TokenStore":
        """Write the mean tokens of every clip as a store."""
        import numpy as np

        from echolung.cache import Snapshot, TokenStore
        from echolung.cache.layout import PREVIEW_SHAPE, Block
        from echolung.device import default_precision
        from echolung.extraction.run import encode

        self._decode()
        device = str(next(encoder.parameters()).device)
        clips = np.concatenate(list(self.decoded.values()))
        parts = [
            encode(encoder, clips[at : at + BATCH], default_precision(device)).mean(1, keepdims=True)
            for at in range(0, len(clips), BATCH)
        ]
        videos = self.manifest.videos.set_index("video_id", drop=False).loc[list(self.decoded)].reset_index(drop=True)
        repeated = videos.loc[videos.index.repeat(self.clips.clips), ["video_id", "patient", "source"]]
        rows = repeated.reset_index(drop=True)
        rows["segment"], rows["view"] = np.tile(np.array(self.clips.slots()), (len(videos), 1)).T
        tasks = {self.task: self.manifest.tasks[self.task].to_json()}
        snapshot = Snapshot(self.manifest.name, videos, tasks)
        count, frames = len(rows), self.clips.frames
        store = TokenStore.create(
            path, {"made": "for one look"}, rows, snapshot,
            tokens=0, dim=encoder.dim, grid=(0, 0, 0), frames=frames, block=count, preview=False,
        )  # fmt: skip
        nothing = np.zeros((count, frames), np.int64), np.zeros((count, *PREVIEW_SHAPE), np.uint8)
        store.write(Block(0, np.concatenate(parts), *nothing, [""] * count, [0] * count, [0] * count, [""] * count))
        store.finish()
        return TokenStore.open(path)

    def _decode(self) -> None:
        """Decode every video, the first time."""
        from echolung.clips.workers import prepare_video, run_in_workers
        from echolung.errors import DecodeError, RunError

        if self.decoded:
            return
        videos = self.manifest.videos
        rows = dict(zip(videos["video_id"], range(len(videos)), strict=True))

        def arguments(video: str) -> tuple[Any, ...]:
            row = rows[video]
            return self.manifest.file(row), video, self.clips, self.decoder, self.manifest.span(row)

        broken = {}
        for video, result in run_in_workers(prepare_video, list(rows), arguments, self.workers, self.time_limit):
            if isinstance(result, DecodeError):
                broken[video] = str(result)
            else:
                self.decoded[video] = result.clips
        if not self.decoded:
            raise RunError(f"Not one video of {self.manifest.name} can be read ({next(iter(broken.values()), '')}).")
        if broken:
            self.tell(
                f"The probe goes without {counted(len(broken), 'video')} that cannot be read: {listed(broken, 5)}."
            )


def open_judge(
    spec: str,
    recipe: "Recipe",
    pool: "Pool",
    *,
    sources: Sources | None = None,
    decoder: str = "auto",
    workers: int | None = None,
    time_limit: float = 120.0,
    tell: Callable[[str], None] = lambda text: None,
) -> Judge:
    """Return the judge that DATASET[:TASK] names; says so where its videos are also learnt from.

    The dataset is where `sources` has it, in the view and fold that they name; where they know none, at home.

    Raises:
        InputError: no such dataset or task, or fewer labelled videos than folds need.
    """
    from echolung.clips.plan import ClipPlan

    name, _, task = spec.partition(":")
    manifest = (sources or Sources(name)).open(name, drop_unlabelled=name.lower().endswith(".csv"))
    task, _ = manifest.task(task or None)
    clips = ClipPlan(segments=2, frames=recipe.clips.frames, fps=recipe.clips.fps, size=recipe.clips.size)
    manifest = _labelled(manifest, task)
    most = int(MEMORY / (clips.clips * clips.frames * clips.size**2 * 3))
    if len(manifest.videos) > most:
        tell(
            f"The probe takes about {most} of the {len(manifest.videos)} labelled videos of {manifest.name}, whole patients at "
            f"random: their frames are kept in {in_bytes(MEMORY)} of memory."
        )
        manifest = _some(manifest, most)
    shared = _shared(manifest, pool)
    if shared:
        tell(
            f"{shared} of the {len(manifest.videos)} labelled videos of {manifest.name} are in the pool, too: their labels are "
            "not used for training, but the probe's score is optimistic for videos never seen."
        )
    return Judge(manifest, task, clips, decoder, workers, time_limit, tell)


def _labelled(manifest: "Manifest", task: str) -> "Manifest":
    from dataclasses import replace

    labels = manifest.videos[manifest.tasks[task].column]
    chosen = labels.notna() & (labels.astype(str) != "")
    if "split" in manifest.videos:  # the best checkpoint is chosen on these videos, so none of a later test
        chosen &= manifest.videos["split"].astype(str).str.lower() != "test"
    videos = manifest.videos[chosen].reset_index(drop=True)
    if len(videos) < 2 * FOLDS:
        raise InputError(
            f"--probe {manifest.name}:{task}: only {len(videos)} videos have a label, and a probe in nested folds needs "
            f"{2 * FOLDS} at least."
        )
    return replace(manifest, videos=videos)


def _some(manifest: "Manifest", most: int) -> "Manifest":
    """Return a manifest of whole patients drawn at random, with at most that many videos (of one that has more, so many)."""
    from dataclasses import replace

    import numpy as np

    videos = manifest.videos
    patient = videos["patient"].astype(str).where(videos["patient"].astype(str) != "", videos["video_id"])
    names = patient.unique()
    order = dict(zip(names, np.random.default_rng(0).permutation(len(names)), strict=True))
    ranked = patient.map(order)
    counts = ranked.value_counts().sort_index().cumsum()
    kept = ranked.isin(counts.index[counts <= most]) if counts.iloc[0] <= most else ranked == counts.index[0]
    return replace(manifest, videos=videos[kept][:most].reset_index(drop=True))


def _shared(manifest: "Manifest", pool: "Pool") -> int:
    """Return how many of the videos are files of the pool."""
    learnt = {str(Path(path).resolve()) for path in pool.videos["path"]}
    return sum(str(manifest.file(row).resolve()) in learnt for row in range(len(manifest.videos)))
