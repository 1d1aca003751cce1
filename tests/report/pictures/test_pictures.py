"""Every picture: drawn where it applies, the same each time, nothing where it does not."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from echolung.report.pictures import attention, embedding, mistakes, samples
from echolung.report.pictures.strips import Sheet, Strip, draw_strips

DRAW = {
    "mistakes": (mistakes.draw_mistakes, mistakes.caption),
    "samples": (samples.draw_samples, samples.caption),
    "attention": (attention.draw_attention, attention.caption),
    "maps": (embedding.draw_maps, embedding.caption),
}
every = pytest.mark.parametrize("name", DRAW)


@every
@pytest.mark.parametrize("task", ["label", "number"])
def test_drawn_and_the_same_bytes_again(make_run, tmp_path, monkeypatch, name, task):
    monkeypatch.setattr(attention, "CLIPS", 3)
    run, store = make_run(task)
    draw, caption = DRAW[name]
    first = draw(run, store, tmp_path)
    assert first and all(path.parent == tmp_path and path.name.startswith(name) for path in first)
    contents = [path.read_bytes() for path in first]
    assert [path.read_bytes() for path in draw(run, store, tmp_path)] == contents
    for path in first:
        with Image.open(path) as image:
            image.load()
            assert image.width > 400 and np.asarray(image.convert("L")).std() > 5
    assert caption(run, store).endswith(".")


@every
def test_without_previews_only_the_map_is_drawn(make_run, tmp_path, name):
    run, store = make_run(preview=False)
    assert bool(DRAW[name][0](run, store, tmp_path)) == (name == "maps")


@every
def test_without_tokens_all_but_attention(make_run, tmp_path, name):
    run, store = make_run(tokens=False)
    assert bool(DRAW[name][0](run, store, tmp_path)) == (name != "attention")


@every
def test_of_repeated_runs(make_run, tmp_path, monkeypatch, name):
    monkeypatch.setattr(attention, "CLIPS", 3)
    run, store = make_run(repeats=2)
    assert DRAW[name][0](run, store, tmp_path)


def test_only_what_is_wrong_is_a_mistake_worst_first(make_run, tmp_path, monkeypatch):
    run, store = make_run()
    strips: list[Strip] = []
    monkeypatch.setattr(mistakes, "draw_strips", lambda drawn, title: strips.extend(drawn) or draw_strips(drawn, title))
    mistakes.draw_mistakes(run, store, tmp_path)
    assert [strip.detail.split(" · ")[0][-2:] for strip in strips] == ["11", "08", "05", "02"]
    right = run.result.predictions.iloc[[0, 1, 3]].reset_index(drop=True)
    all_right = replace(run, result=replace(run.result, predictions=right))
    assert mistakes.draw_mistakes(all_right, store, tmp_path) == []


def test_samples_are_of_every_class_and_of_different_patients(make_run, tmp_path, monkeypatch):
    run, store = make_run()
    strips: list[Strip] = []
    monkeypatch.setattr(samples, "draw_strips", lambda drawn, title: strips.extend(drawn) or draw_strips(drawn, title))
    samples.draw_samples(run, store, tmp_path)
    classes = [strip.above for strip in strips]
    assert classes == sorted(classes) and set(classes) == {"healthy", "ill", "very ill"}
    patients = [strip.detail.split("patient ")[1].split(" ")[0] for strip in strips[:2]]
    assert len(set(patients)) == 2


def test_a_grey_sheet_is_a_grey_file_and_knows_its_size(tmp_path):
    grey = Strip(np.full((8, 112, 112), 90, np.uint8), "above", "detail")
    with Image.open(draw_strips([grey], "title").save(tmp_path / "a.png")) as image:
        assert image.mode == "L" and image.width / image.info["dpi"][0] == pytest.approx(7, abs=0.01)
        assert (np.asarray(image)[-50:-10, 10:100] == 90).all()  # a pixel of a frame is one of the picture
    colour = Strip(np.full((8, 112, 112, 3), (90, 10, 10), np.uint8))
    with Image.open(draw_strips([colour], "title").save(tmp_path / "b.png")) as image:
        assert image.mode == "RGB"
    assert isinstance(draw_strips([grey], "title", foot=50), Sheet)
