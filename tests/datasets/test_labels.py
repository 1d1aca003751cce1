"""A CSV of labels may also correct who a patient is."""

import pandas as pd
import pytest

from echolung.datasets.labels import add_labels
from echolung.datasets.manifest import Manifest
from echolung.errors import InputError


@pytest.fixture
def manifest(tmp_path) -> Manifest:
    videos = pd.DataFrame(
        {"video_id": ["a", "b", "c"], "path": ["a", "b", "c"], "patient": ["1", "2", "3"], "source": "s"}
    )
    return Manifest("made", tmp_path, videos, {})


def test_patients_and_sources_are_corrected_where_the_csv_says_something(manifest, tmp_path):
    file = tmp_path / "who.csv"
    file.write_text("video_id,patient,source\nb,1,t\nc,,\n")
    found = add_labels(manifest, file)
    assert found.videos["patient"].tolist() == ["1", "1", "3"]
    assert found.videos["source"].tolist() == ["s", "t", "s"]
    assert found.tasks == {} and manifest.videos["patient"].tolist() == ["1", "2", "3"]


def test_beside_labels_too(manifest, tmp_path):
    file = tmp_path / "who.csv"
    file.write_text("video_id,patient,finding\na,9,x\nb,9,y\nc,3,x\n")
    found = add_labels(manifest, file)
    assert found.videos["patient"].tolist() == ["9", "9", "3"] and list(found.tasks) == ["finding"]


def test_a_csv_that_says_nothing_is_refused(manifest, tmp_path):
    file = tmp_path / "who.csv"
    file.write_text("video_id\na\n")
    with pytest.raises(InputError, match="no label to add"):
        add_labels(manifest, file)
