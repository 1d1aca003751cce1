"""Who learns and who validates."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from echolung.datasets import Manifest, Task
from echolung.errors import InputError
from echolung.pretraining.labelled.labels import read_labels
from echolung.pretraining.labelled.material import gather

TASKS = {"ef": Task("regression", "ef"), "reduced": Task("classification", "reduced", ("normal", "reduced"))}


def manifest(videos: int = 40, **columns: object) -> Manifest:
    ef = np.linspace(20, 70, videos)
    table = pd.DataFrame(
        {
            "video_id": [f"v{i:03d}" for i in range(videos)],
            "path": [f"v{i:03d}.avi" for i in range(videos)],
            "patient": [f"p{i // 2}" for i in range(videos)],
            "source": "",
            "ef": ef,
            "reduced": np.where(ef < 50, "reduced", "normal"),
            **columns,
        }
    )
    return Manifest("hearts", Path("/nowhere"), table, TASKS)


def test_without_a_split_whole_patients_are_drawn_and_it_is_said() -> None:
    found = gather(manifest(), "", seed=0)
    learnt, held = set(found.pool.videos["video_id"]), set(found.validation.videos["video_id"])
    assert not learnt & held and len(learnt | held) == 40
    patients = manifest().videos.set_index("video_id")["patient"]
    assert not set(patients[sorted(learnt)]) & set(patients[sorted(held)])
    assert len(held) == 6 and any("drawn for validation" in note for note in found.notes)
    assert set(gather(manifest(), "", seed=1).validation.videos["video_id"]) != held
    assert set(found.labels.values) == {f"hearts/{video}" for video in learnt}


def test_a_test_part_is_neither_learnt_from_nor_looked_at() -> None:
    split = ["TRAIN", "VAL", "TEST", "TRAIN"] * 10
    found = gather(manifest(split=split), "ef", seed=0)
    assert len(found.pool.videos) == 20 and len(found.validation.videos) == 10
    assert set(found.validation.videos["split"]) == {"VAL"} and set(found.truth.values) <= {
        f"hearts/{video}" for video in found.validation.videos["video_id"]
    }


def test_videos_without_a_label_are_left_out_and_counted() -> None:
    ef = np.linspace(20, 70, 40)
    ef[:5] = np.nan
    found = gather(manifest(ef=ef), "ef", seed=0)
    assert len(found.pool.videos) + len(found.validation.videos) == 35
    assert any("5 of 40 videos have no label for ef" in note for note in found.notes)


def test_classes_are_numbered_in_their_order() -> None:
    labels = read_labels(manifest(), "reduced")
    assert labels.classes == ("normal", "reduced")
    assert labels.values["hearts/v000"] == 1 and labels.values["hearts/v039"] == 0


@pytest.mark.parametrize(
    ("columns", "task", "said"),
    [
        ({"ef": [55.0] * 40}, "ef", "the same ef, 55"),
        ({"reduced": ["normal"] * 40}, "reduced", "the same reduced, normal"),
        ({"ef": ["fifty"] * 40}, "ef", "have a text: fifty"),
        ({"ef": [np.nan] * 40}, "ef", "No video of hearts has a label"),
        ({"split": ["TRAIN"] * 40}, "ef", "0 validation videos"),
        ({"split": ["VAL"] * 39 + ["TRAIN"]}, "ef", "1 labelled training"),
        ({}, "age", "no task 'age'"),
    ],
)
def test_what_cannot_be_learnt_is_said(columns: dict[str, object], task: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        gather(manifest(**columns), task, seed=0)


def test_one_class_in_the_training_part_alone_is_too_few() -> None:
    split = np.where(manifest().videos["reduced"] == "normal", "TRAIN", "VAL")
    with pytest.raises(InputError, match="Every training video"):
        gather(manifest(split=split), "reduced", seed=0)
