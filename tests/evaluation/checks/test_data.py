"""Checks that need no model: each trips where it should, and not elsewhere."""

import numpy as np
import pandas as pd
import pytest

from echolung.datasets.manifest import Task
from echolung.errors import InputError
from echolung.evaluation.checks import data, forest
from echolung.evaluation.checks.codes import CHECKS
from echolung.evaluation.checks.subject import Subject, labelled, present
from echolung.evaluation.splits import Folds

TASK = Task("classification", "kind", ("covid", "healthy"))


@pytest.fixture(autouse=True)
def small_forest(monkeypatch):
    monkeypatch.setattr(forest, "TREES", 10)
    monkeypatch.setattr(forest, "DRAWS", 1)


def subject(patients=24, each=2, task=TASK, folds=None, **columns):
    """Return videos of which nothing is wrong but that patients have several; columns replace what there is."""
    count = patients * each
    person = np.repeat(np.arange(patients), each)
    videos = pd.DataFrame(
        {
            "video_id": [f"v{i}" for i in range(count)],
            "path": [f"v{i}.mp4" for i in range(count)],
            "patient": [f"p{i}" for i in person],
            "source": [f"s{i // 2 % 4}" for i in person],
            "kind": np.array(TASK.classes)[person % 2],
        }
    )
    table = labelled(videos.assign(**columns), task)
    return Subject(present(task, table), table, folds, equal=[])


def test_patients_of_several_classes():
    assert data.mixed_patients(subject()).status == "fine"
    kinds = np.array(TASK.classes)[np.arange(48) % 2]
    found = data.mixed_patients(subject(kind=kinds))
    assert found.status == "warning" and "24 of 24 patients" in found.found and "p0 (covid, healthy)" in found.found
    assert data.mixed_patients(subject(patient="")).status == "not applicable"
    numbers = Task("regression", "age")
    assert data.mixed_patients(subject(task=numbers, age=1.0)).status == "not applicable"


def test_what_folds_by_video_would_share():
    found = data.shared_by_video_folds(subject())
    assert found.status == "warning" and "24 of 24 patients have several videos, up to 2" in found.found
    assert 30 <= found.scores["shared_by_video_folds"] <= 48  # of two videos one is elsewhere in four cases of five
    assert data.shared_by_video_folds(subject(each=1)).status == "fine"
    assert data.shared_by_video_folds(subject(patient=["", *["p"] * 47])).status == "not applicable"


def test_a_class_in_a_source_of_its_own():
    assert data.lonely_classes(subject()).status == "fine"
    assert data.lonely_classes(subject(source="one")).status == "not applicable"
    kinds = subject().videos["label"]
    found = data.lonely_classes(subject(source=np.where(kinds == "covid", "A", ["B", "C"] * 24)))
    assert found.status == "warning" and "very covid video is of source A" in found.found
    assert "healthy videos are from sources with no other class (B, C)" in found.found
    mixed = np.where((kinds == "covid") & (np.arange(48) < 36), "A", "B")
    assert (
        "18 of 24 covid videos are from sources with no other class (A)"
        in data.lonely_classes(subject(source=mixed)).found
    )
    half = np.where((kinds == "covid") & (np.arange(48) < 24), "A", np.array(["B", "C"])[np.arange(48) // 4 % 2])
    assert data.lonely_classes(subject(source=half)).status == "fine"  # half of them are with others
    one = data.lonely_classes(subject(patient=np.where(kinds == "covid", "p", subject().videos["patient"])))
    assert "very covid video is of patient p" in one.found


def test_equal_files():
    from dataclasses import replace

    assert data.equal_files(subject()).status == "fine"
    assert data.equal_files(replace(subject(), equal=None)).status == "not applicable"
    found = data.equal_files(replace(subject(), equal=[["v0", "v3"]], same_frames=[["v1", "v2", "v4"]]))
    assert found.status == "warning" and "v0 = v3" in found.found and "v1 = v2 = v4" in found.found


def test_the_file_gives_the_label_away():
    random = np.random.default_rng(0)
    facts = {"frames": random.integers(20, 90, 48), "height": 480, "width": 640, "fps": random.choice([25.0, 30.0], 48)}
    assert data.file_alone(subject(**facts)).status == "fine"
    kinds = subject().videos["label"]
    paths = [f"v{i}.{'gif' if kind == 'covid' else 'mp4'}" for i, kind in enumerate(kinds)]
    found = data.file_alone(subject(path=paths, **facts))
    assert found.status == "warning" and "container" in found.found and "height" not in found.found
    assert found.scores["patient"] == {"accuracy": 1, "balanced_accuracy": 1}
    assert set(found.scores) == {"video", "patient", "source"}
    old = data.file_alone(subject(path=paths, frame_rate=25.0))
    assert old.status == "warning" and "made before stores kept frame count" in old.found
    same = data.file_alone(subject(frames=9, height=9, width=9, fps=9.0))
    assert same.status == "fine" and "same in all videos" in same.found


def test_in_the_folds_of_a_run():
    kinds = subject().videos["label"]
    folds = Folds(np.repeat(np.arange(24), 2) // 2 % 3, 3)
    found = data.file_alone(subject(folds=folds, frames=np.where(kinds == "covid", 50, 60), height=1, width=1, fps=9.0))
    assert found.status == "warning" and "in the same folds" in found.found
    assert found.scores == {"accuracy": 1, "balanced_accuracy": 1}


def test_numbers_from_the_file():
    random = np.random.default_rng(0)
    task, age = Task("regression", "age"), np.repeat(random.normal(50, 10, 24), 2)
    facts = {"height": 480, "width": 640, "fps": 25.0}
    found = data.file_alone(subject(task=task, age=age, frames=age * 3 + random.normal(size=48), **facts))
    assert found.status == "warning" and found.scores["patient"]["r2"] > 0.5 and "R²" in found.found
    assert data.file_alone(subject(task=task, age=age, frames=random.permutation(48), **facts)).status == "fine"


def test_numbers_that_are_one_in_every_fold_have_no_r2():
    """As of a test part with one visit: R² is defined in no fold, and that is no warning of numpy's."""
    age = np.repeat([40.0, 50.0, 60.0], 16)
    folds = Folds(np.repeat(np.arange(3), 16), 3)
    scored = forest.blind(subject(task=Task("regression", "age"), folds=folds, age=age, frames=age), ["frames"], folds)
    assert np.isnan(scored.scores["r2"]) and scored.scores["mae"] > 5


def test_the_source_alone():
    assert data.source_alone(subject()).status == "fine"
    assert data.source_alone(subject(source="one")).status == "not applicable"
    kinds = subject().videos["label"]
    found = data.source_alone(subject(source=np.where(kinds == "covid", "A", "B")))
    assert found.status == "warning" and list(found.scores) == ["patient"]


def test_clinical_variables():
    random = np.random.default_rng(0)
    assert data.clinical_alone(subject()).status == "not applicable"
    assert data.clinical_alone(subject(age=np.repeat(random.normal(60, 9, 24), 2))).status == "fine"
    crp = np.where(subject().videos["label"] == "covid", 90.0, 9.0)
    crp[:8] = np.nan
    found = data.clinical_alone(subject(clinical_crp_value=crp))
    assert found.status == "warning" and "crp value" in found.found
    rare = np.where(np.arange(48) < 30, np.nan, crp)
    assert data.clinical_alone(subject(clinical_crp=rare)).status == "not applicable"


def test_few_patients():
    assert data.few_patients(subject()).status == "fine"
    assert data.few_patients(subject(patients=18)).status == "warning"
    found = data.few_patients(subject(kind=["covid"] * 10 + ["healthy"] * 38))
    assert found.status == "warning" and "covid: 5, healthy: 19" in found.found
    assert "48 videos" in data.few_patients(subject(patient="")).found
    only_scored = Folds(np.repeat([0, 1], [20, 28]), 1)  # one division: 1 is what was learnt from
    assert data.few_patients(subject(folds=only_scored)).found.startswith("10 patients (covid: 5, healthy: 5)")


def test_pictures_and_tokens_of_different_patients():
    from dataclasses import replace

    random = np.random.default_rng(0)
    videos = subject()
    names = videos.videos["video_id"]
    pictures = {name: random.integers(0, 256, (4, 28, 28), np.uint8) for name in names}
    tokens = {name: random.normal(size=64).astype(np.float32) for name in names}
    seen = replace(videos, pictures=pictures, tokens=tokens)
    assert data.look_alike(seen).status == data.tokens_alike(seen).status == "fine"
    assert data.look_alike(videos).status == data.tokens_alike(videos).status == "not applicable"
    within = replace(seen, pictures={**pictures, "v1": pictures["v0"]}, tokens={**tokens, "v1": tokens["v0"] * 1.01})
    assert data.look_alike(within).status == data.tokens_alike(within).status == "fine"  # both are of p0
    assert "of one patient: 1" in data.look_alike(within).found
    across = replace(seen, pictures={**pictures, "v9": pictures["v0"]}, tokens={**tokens, "v9": tokens["v0"] * 1.01})
    for found in (data.look_alike(across), data.tokens_alike(across)):
        assert found.status == "warning" and "v0 and v9" in found.found
    unknown = replace(across, videos=across.videos.assign(patient=""))
    assert data.look_alike(unknown).status == "warning"


def test_the_whole_audit():
    found = data.audit(subject(), mute=["el102"])
    assert [f.code for f in found] == [f"EL1{i:02d}" for i in range(1, 11)]
    assert found[1].status == "muted"
    for finding in found:
        about = CHECKS[finding.code]
        assert finding.title == about.title
        assert (finding.why, finding.advice) == ((about.why, about.advice) if finding.code == "EL102" else ("", ""))
    with pytest.raises(InputError, match="There is no check 'EL999' to mute"):
        data.audit(subject(), mute=["EL999"])
