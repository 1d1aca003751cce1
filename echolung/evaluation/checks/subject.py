"""What checks look at: the labelled videos of a task, what is known of their files, and which fold scores each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePath

import numpy as np
import pandas as pd
from jaxtyping import Bool, UInt8

from echolung.cache import TokenStore
from echolung.cache.layout import PREVIEW_SHAPE
from echolung.datasets.manifest import Task
from echolung.evaluation.result import Result
from echolung.evaluation.splits import Folds, Units

FILE = ("container", "frames", "height", "width", "fps")
"""What a file says of itself before anybody looks at a pixel."""

KNOWN_WITHOUT_VIDEO = ("container", "frame_rate", "source_size")
"""What stands in for `FILE` in a store that was made before stores kept those facts."""

MANY = 2000
"""Beyond so many videos only the first clip of each is compared."""


@dataclass(frozen=True)
class Subject:
    """What checks look at.

    Attributes:
        task: what is asked.
        videos: one row a labelled video: video_id, patient and source ("" where unknown), label (class or number), what
            of `FILE` or `KNOWN_WITHOUT_VIDEO` is known, age, sex and clinical_* where the dataset has them.
        folds: which fold scores each video; None: it is not about a run, or what was trained on is not known.
        pictures: video_id -> small grey frames; of some videos, or none.
        tokens: video_id -> mean token [dim]; of some videos, or none.
        equal: groups of video_ids whose files are equal byte for byte; None: not known.
        same_frames: groups of video_ids whose files differ and whose frames do not.
    """

    task: Task
    videos: pd.DataFrame
    folds: Folds | None = None
    pictures: Mapping[str, UInt8[np.ndarray, "f h w"]] = field(default_factory=dict)
    tokens: Mapping[str, np.ndarray] = field(default_factory=dict)
    equal: list[list[str]] | None = None
    same_frames: list[list[str]] = field(default_factory=list)

    @cached_property
    def targets(self) -> np.ndarray:
        """Class index (int64) or number (float64) of each video."""
        if not self.task.classes:
            return self.videos["label"].to_numpy(np.float64)
        return self.videos["label"].map({name: i for i, name in enumerate(self.task.classes)}).to_numpy(np.int64)

    def names(self, column: str) -> np.ndarray:
        """Return the patient or source of each video as str, "" where unknown."""
        return self.videos[column].fillna("").astype(str).to_numpy(object)

    def knows(self, column: str) -> Bool[np.ndarray, " v"]:
        """Return of which videos the patient or source is known."""
        return self.names(column) != ""

    def groups(self, level: str) -> np.ndarray | None:
        """Return what folds by `level` ("video", "patient", "source") keep together; None where it is not known."""
        if level == "video":
            return self.videos["video_id"].astype(str).to_numpy(object)
        return self.names(level) if self.knows(level).all() else None

    def units(self, level: str) -> Units | None:
        """Return what folds by `level` divide; None where it is not known."""
        groups = self.groups(level)
        return None if groups is None else Units.of(self.targets.copy(), groups, level, self.task.classes)

    @property
    def level(self) -> str:
        """The largest unit that folds by default keep together: patient where known, else source, else video."""
        return next(level for level in ("patient", "source", "video") if self.groups(level) is not None)


def labelled(videos: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Return the videos that have a label of the task, as `Subject.videos` wants them (a `label`, a `container`)."""
    labels = videos[task.column]
    if task.classes:
        labels = labels.fillna("").astype(str)
        kept = labels.isin(task.classes)
    else:
        labels = pd.to_numeric(labels, errors="coerce")
        kept = np.isfinite(labels)
    table = videos.assign(label=labels, container=[_container(path) for path in videos["path"]])
    return table[kept.to_numpy()].reset_index(drop=True)


def present(task: Task, videos: pd.DataFrame) -> Task:
    """Return the task with those classes only that a video has."""
    if not task.classes:
        return task
    found = set(videos["label"])
    return Task(task.kind, task.column, tuple(c for c in task.classes if c in found), task.level, task.ordinal)


def subject_of(result: Result, store: TokenStore | None) -> Subject:
    """Return what the checks of a run look at; without a store, what its predictions alone say."""
    first = result.predictions
    if result.settings.get("repeats", 1) > 1:
        first = first[first["fold"] < result.settings["folds"]]
    scored = first[["video_id", "patient", "source", "fold"]].assign(label=first["truth"]).reset_index(drop=True)
    if not result.task.classes:
        scored["label"] = scored["label"].astype(float)
    if store is None or "test" in result.settings:  # of another dataset: the store trained on says nothing of it
        alone = {"split", "only_fold", "test"} & set(result.settings)
        return Subject(result.task, scored, None if alone else _folds_of(scored))
    known = _known(store)
    about = known.drop(columns=[column for column in ("patient", "source", "fold", "label") if column in known])
    videos = scored.merge(about, on="video_id", how="left")
    folds: Folds | None = _folds_of(scored)
    if {"split", "only_fold"} & set(result.settings):
        relabelled = "labels" in result.settings
        videos, folds = (videos, None) if relabelled else _with_training(result.task, videos, known)
    seen = _pictures(store, videos), mean_tokens(store, videos), _equal_files(store, videos)
    return Subject(result.task, videos, folds, *seen)


def _folds_of(scored: pd.DataFrame) -> Folds:
    fold = scored["fold"].to_numpy(np.int64)
    return Folds(fold, int(fold.max()) + 1)


def _with_training(task: Task, scored: pd.DataFrame, known: pd.DataFrame) -> tuple[pd.DataFrame, Folds | None]:
    """Return the scored videos and after them those that were only learnt or chosen on, and the folds: 0 is scored.

    None in the place of folds where the labels learnt are not the store's: those of the other videos are not known then.
    """
    if task.column not in known:
        return scored, None
    every = labelled(known, task)
    rest = every[~every["video_id"].isin(scored["video_id"])]
    told = every.set_index("video_id")["label"].reindex(scored["video_id"]).to_numpy()
    same = told == scored["label"].to_numpy() if task.classes else np.isclose(told, scored["label"], rtol=1e-5, atol=0)
    if rest.empty or not same.all():
        return scored, None
    of = np.repeat([0, 1], [len(scored), len(rest)])
    return pd.concat([scored, rest], ignore_index=True), Folds(of, 1)


def _known(store: TokenStore) -> pd.DataFrame:
    """Return the store's table of the dataset with what it knows of the files."""
    videos = store.snapshot.videos
    table = videos.assign(container=[_container(path) for path in videos["path"]])
    if (facts := store.video_facts) is not None:
        return table.drop(columns=[c for c in facts if c in table]).join(facts, on="video_id")
    sizes = pd.Series(store.array("source_size")[:], store.rows["video_id"]).groupby(level=0).first()
    return table.assign(source_size=table["video_id"].map(sizes.where(sizes >= 0)).astype(float))


def _container(path: object) -> str:
    return PurePath(str(path)).suffix.lower().lstrip(".") or "folder"


def mean_tokens(store: TokenStore, videos: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return video_id -> mean token [dim] of those videos that a store holds, of the fixed view."""
    return {video: store.pooled(at).mean(0) for video, at in _rows_of(store, videos).items()}


def _pictures(store: TokenStore, videos: pd.DataFrame) -> dict[str, np.ndarray]:
    if "preview" not in store.group:
        return {}
    rows = _rows_of(store, videos)
    return {video: store.previews(at).reshape(-1, *PREVIEW_SHAPE[1:]) for video, at in rows.items()}


def _rows_of(store: TokenStore, videos: pd.DataFrame) -> dict[str, np.ndarray]:
    wanted = store.complete & (store.rows["view"] == 0).to_numpy()
    rows = store.rows[wanted & store.rows["video_id"].isin(videos["video_id"]).to_numpy()]
    if len(videos) > MANY:
        rows = rows.groupby("video_id", sort=False).head(1)
    return {str(video): rows.index[at].to_numpy() for video, at in rows.groupby("video_id", sort=False).indices.items()}


def _equal_files(store: TokenStore, videos: pd.DataFrame) -> list[list[str]]:
    table = pd.DataFrame({"video": store.rows["video_id"], "digest": store.array("source_digest")[:].astype(object)})
    table = table[table["video"].isin(videos["video_id"]) & (table["digest"] != "")].drop_duplicates()
    groups = [group["video"].astype(str).tolist() for _, group in table.groupby("digest", sort=False)]
    return [names for names in groups if len(names) > 1]
