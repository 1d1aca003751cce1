"""The scored videos as points, and how smoothly a number changes over them."""

import numpy as np
import pytest

from echolung.evaluation import cross_validate, embeddings
from echolung.evaluation.embeddings import continuity_of


@pytest.fixture(scope="module")
def store(write_classes):
    split = ["train"] * 20 + ["val"] * 14 + ["test"] * 14
    return write_classes(patients=48, each=1, columns={"split": split})


def test_only_scored_videos_at_most_so_many_standardised(store, monkeypatch):
    result = cross_validate(store, "number", split="official", epochs=2)
    videos, values = embeddings.embeddings(result, store)
    assert sorted(videos["video_id"]) == sorted(store.snapshot.videos["video_id"][34:])
    np.testing.assert_allclose(values.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(values.std(0), 1)
    monkeypatch.setattr(embeddings, "MOST", 7)
    some = embeddings.embeddings(result, store)[0]["video_id"].tolist()
    assert len(some) == 7 and embeddings.embeddings(result, store)[0]["video_id"].tolist() == some


def test_numbers_have_a_continuity_and_classes_none(store):
    result = cross_validate(store, "number", cv=3, epochs=2)
    found = continuity_of(result, store)
    assert (found.videos, found.patients) == (48, 48)
    assert found.spearman > 0.1 and found.knn_mae < found.knn_mae_chance
    assert continuity_of(cross_validate(store, "label", cv=3, epochs=2), store) is None
