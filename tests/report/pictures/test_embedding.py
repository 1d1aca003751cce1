"""Maps of embeddings, and what their nearest neighbours share."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import NearestNeighbors

from echolung.report.pictures import embedding
from echolung.report.pictures.embedding import draw_maps, neighbour_lines, shared


def test_neighbours_share_what_scikit_learn_finds():
    random = np.random.default_rng(0)
    names = np.array([f"n{i % 4}" for i in range(40)])
    values = random.normal(size=(40, 6)) + 2 * (np.arange(40) % 4)[:, None]
    found, chance = shared(names, values, ~np.eye(40, dtype=bool))
    nearest = NearestNeighbors(n_neighbors=6).fit(values).kneighbors(values, return_distance=False)[:, 1:]
    assert found == pytest.approx((names[nearest] == names[:, None]).mean()) and chance == pytest.approx(9 / 39)
    shuffled = random.permutation(names)
    found, chance = shared(shuffled, values, ~np.eye(40, dtype=bool))
    assert abs(found - chance) < 0.1


def test_a_label_that_only_patients_carry_is_seen_as_such():
    """Tokens know the patient alone: neighbours share the label, those of other patients do not."""
    random = np.random.default_rng(1)
    person = np.repeat(np.arange(20), 8)
    videos = pd.DataFrame(
        {"patient": person, "source": "", "truth": np.array(["a", "b"])[random.permutation(np.arange(20) % 2)[person]]}
    )
    values = 10 * random.normal(size=(20, 8))[person] + random.normal(size=(160, 8))
    label, others, patient = neighbour_lines(videos, values, classes=True)
    assert label.startswith("label: shared by 100 %") and patient.startswith("patient: shared by 100 %")
    share = int(others.split("shared by ")[1].split(" %")[0])
    assert "other patients" in others and share < 75


def test_numbers_of_neighbours_differ_less_where_tokens_know_them():
    numbers = np.linspace(0, 100, 50)
    videos = pd.DataFrame({"patient": [f"p{i}" for i in range(50)], "source": "", "truth": numbers})
    (line,) = neighbour_lines(videos, numbers[:, None], classes=False)
    assert line == "number: neighbours of other patients differ by 3.8 on average, any two by 34.7"


def test_umap_only_where_it_is_installed(monkeypatch):
    assert list(embedding.methods())[:2] == ["PCA", "t-SNE"]
    monkeypatch.setattr(embedding, "find_spec", lambda name: None)
    assert list(embedding.methods()) == ["PCA", "t-SNE"]


def test_too_few_videos_for_a_map(make_run, tmp_path):
    run, store = make_run()
    few = replace(run, result=replace(run.result, predictions=run.result.predictions.head(4)))
    assert draw_maps(few, store, tmp_path) == []
