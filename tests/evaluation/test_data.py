"""A store and a task -> labelled videos: labels, groups, and what is said of what is left out."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from echolung.datasets.manifest import Manifest, Task
from echolung.errors import InputError
from echolung.evaluation.data import manifest_of, task_data
from echolung.probes import load_features

CLASSES = Task("classification", "label", ("healthy", "ill"))


def store_of(write_store, unreadable=(), tasks=None, **columns):
    videos = pd.DataFrame({"video_id": [f"v{i}" for i in range(6)], "patient": "", "source": ""})
    videos = videos.assign(**{"label": ["ill", "healthy"] * 3, **columns})
    return write_store(np.zeros((6, 1, 1, 1, 4)), videos, tasks or {"label": CLASSES}, unreadable)


def data_of(store, task=None, manifest=None, group=None):
    return task_data(store, load_features(store, pooled=True).video_ids, task, manifest, group)


def test_targets_are_places_among_the_classes(write_store):
    data = data_of(store_of(write_store))
    assert data.targets.tolist() == [1, 0, 1, 0, 1, 0] and data.targets.dtype == np.int64
    assert (data.name, data.outputs, data.rows.tolist()) == ("label", 2, [0, 1, 2, 3, 4, 5])


def test_videos_without_label_or_tokens_are_left_out_and_counted(write_store):
    store = store_of(write_store, ["v1"], label=["ill", "healthy", "", "healthy", "ill", "healthy"])
    data = data_of(store)
    assert data.videos["video_id"].tolist() == ["v0", "v3", "v4", "v5"]
    assert data.rows.tolist() == [0, 2, 3, 4]  # among the readable
    assert data.targets.tolist() == [1, 0, 1, 0]
    assert "1 of 5 videos have no label for label and are left out." in data.notes
    assert "1 videos could not be read at extraction: v1." in data.notes


@pytest.mark.parametrize(
    ("patient", "source", "level"),
    [
        ("p", "s", "patient"),
        (["p", "p", "", "q", "q", "r"], "s", "source"),
        ("", "", "video"),
        ("", ["s"] * 5 + [""], "video"),
    ],
)
def test_groups_fall_back_from_patient_to_source_to_video(write_store, patient, source, level):
    store = store_of(write_store, patient=patient, source=source)
    data = data_of(store)
    assert data.level == level
    assert data.groups.tolist() == data.videos["video_id" if level == "video" else level].tolist()
    said = [note for note in data.notes if f"folds keep each {level} together" in note]
    assert len(said) == (level != "patient")
    assert not [note for note in data_of(store, group="video").notes if "together" in note]  # asked for: no remark


def test_groups_that_are_not_known(write_store):
    store = store_of(write_store, patient=["p", "p", "", "q", "q", "r"])
    with pytest.raises(InputError, match=r"--group patient: the patient is not known for 1 of 6 videos \(first: v2\)"):
        data_of(store, group="patient")
    with pytest.raises(InputError, match="--group hospital is unknown; it is one of patient, source, video"):
        data_of(store, group="hospital")


def test_tasks_that_cannot_be_asked(write_store):
    with pytest.raises(InputError, match=r"no task 'labels'; it has label\. Did you mean 'label'"):
        data_of(store_of(write_store), "labels")
    with pytest.raises(InputError, match=r"No video of synthetic\.zarr has a label in the column 'label'"):
        data_of(store_of(write_store, label=""))
    with pytest.raises(InputError, match="classes healthy, ill, but labels say dead"):
        data_of(store_of(write_store, label=["ill", "dead"] * 3))
    with pytest.raises(InputError, match=r"Every labelled video of synthetic\.zarr is 'ill'"):
        data_of(store_of(write_store, label="ill"))


def test_a_class_that_no_video_has_is_not_judged(write_store):
    task = Task("classification", "label", ("healthy", "dead", "ill"))
    data = data_of(store_of(write_store, tasks={"label": task}))
    assert data.task.classes == ("healthy", "ill") and data.targets.tolist() == [1, 0, 1, 0, 1, 0]
    assert "No video here is dead; label is judged on the other classes." in data.notes


def test_numbers_that_are_none(write_store):
    store = store_of(
        write_store, tasks={"ef": Task("regression", "ef")}, ef=[55.5, np.nan, np.inf, 30.0, -np.inf, 61.25]
    )
    data = data_of(store)
    assert data.targets.tolist() == [55.5, 30.0, 61.25] and data.targets.dtype == np.float32
    assert data.outputs == 1 and "3 of 6 videos have no label for ef and are left out." in data.notes


def test_labels_from_another_table(write_store):
    """In another order, with a video that the store has not, without one that it has."""
    store = store_of(write_store)
    videos = pd.DataFrame({"video_id": ["v5", "x", "v0", "v3", "v1", "v4"], "path": "", "patient": "", "source": ""})
    videos["side"] = ["l", "r", "r", "l", "r", "l"]
    manifest = Manifest("synthetic", Path(), videos, {"side": Task("classification", "side", ("l", "r"))})
    data = data_of(store, manifest=manifest)
    assert data.videos["video_id"].tolist() == ["v0", "v1", "v3", "v4", "v5"]
    assert data.rows.tolist() == [0, 1, 3, 4, 5] and data.targets.tolist() == [1, 1, 0, 0, 0]
    assert data.notes[0] == "1 of 6 videos have no label for side and are left out."


def test_the_snapshot_is_a_manifest(write_store):
    store = store_of(write_store, patient="p")
    manifest = manifest_of(store.snapshot)
    assert (manifest.name, manifest.tasks) == ("synthetic", {"label": CLASSES})
    assert manifest.videos["patient"].tolist() == ["p"] * 6
