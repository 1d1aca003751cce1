"""What holds of every figure: a file that opens, the same each time, readable, honest, or nothing at all."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from echolung.report.plots.bars import draw_folds, draw_inner_outer, draw_twins
from echolung.report.plots.calibration import draw_reliability
from echolung.report.plots.confusion import draw_confusion
from echolung.report.plots.curves import draw_roc_pr
from echolung.report.plots.regression import draw_scatter
from echolung.report.plots.sources import draw_sources
from echolung.report.plots.training import draw_curves

FIGURES = [
    draw_confusion, draw_roc_pr, draw_reliability, draw_curves, draw_twins, draw_folds, draw_inner_outer, draw_sources,
    draw_scatter,
]  # fmt: skip
OF_CLASSES = [draw for draw in FIGURES if draw is not draw_scatter]
OF_NUMBERS = [draw for draw in FIGURES if draw not in (draw_confusion, draw_roc_pr, draw_reliability)]
SHAPES = {
    "three": {"classes": ("a $trange name", "another one that is very long", "x_1"), "sources": 9, "twins": 3},
    "one fold": {"cv": 1, "twins": 1, "split": "60/20/20", "protocol": "split"},
    "25 folds": {"cv": 5, "repeats": 5, "twins": 2},
}
MORE = {
    "two": {"twins": 1},
    "five": {"classes": ("0", "1", "2", "3", "4"), "patients": 40, "sources": 1, "twins": 2},
    "eight": {"classes": tuple("abcdefgh"), "patients": 40, "sources": 40, "twins": 5},
}
NUMBERS = {"numbers": {"twins": 2}}
MORE_NUMBERS = {"one": {"cv": 1, "twins": 1, "sources": 1}, "25": {"cv": 5, "repeats": 5, "twins": 1}}


def shapes(fast, slow):
    every = [pytest.param(shape, id=name) for name, shape in fast.items()]
    every += [pytest.param(shape, id=name, marks=pytest.mark.slow) for name, shape in slow.items()]
    return pytest.mark.parametrize("shape", every)


@shapes(SHAPES, MORE)
@pytest.mark.parametrize("draw", OF_CLASSES)
def test_a_figure_is_a_picture_with_all_its_text(make_run, tmp_path, written, draw, shape):
    check(draw, make_run(**shape), tmp_path / "a.png", written)


@shapes(NUMBERS, MORE_NUMBERS)
@pytest.mark.parametrize("draw", OF_NUMBERS)
def test_figures_of_numbers(make_run, tmp_path, written, draw, shape):
    check(draw, make_run(classes=(), **shape), tmp_path / "a.png", written)


def check(draw, run, file, written):
    assert draw(run, file)
    with Image.open(file) as image:
        image.load()
        assert image.format == "PNG" and 450 < image.width <= 1450 and image.height > 350
        assert np.asarray(image.convert("L")).std() > 5
    [figure] = written
    hidden, (_, _, width, height) = hidden_ticks(figure), figure.bbox.bounds
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text().strip() and text.get_text() not in hidden:
            box = text.get_window_extent()
            assert min(box.x0, box.y0) >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1, f"{text} is cut off"
            assert text.get_fontsize() / 72 * 700 / figure.get_figwidth() >= 8, f"{text} is too small at 700 pixels"


def hidden_ticks(figure):
    """Return labels of ticks outside the limits, which matplotlib keeps and does not draw."""
    hidden = set()
    for axis in [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]:
        low, high = sorted(axis.get_view_interval())
        ticks = [tick for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high]
        hidden |= {tick.label1.get_text() for tick in ticks}
    return hidden


@pytest.mark.parametrize("draw", FIGURES)
def test_the_same_run_gives_the_same_file(make_run, tmp_path, draw):
    run = make_run(classes=() if draw is draw_scatter else ("no", "yes"), twins=1)
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    assert [draw(run, file) for file in files] == [True, True]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("draw", FIGURES)
def test_what_does_not_apply_writes_nothing(make_run, tmp_path, draw):
    bare = {"inner": None, "curves": None, "looks": None, "temperatures": ()}
    run = make_run(classes=("no", "yes") if draw is draw_scatter else (), sources=1, **bare)
    run = replace(run, result=replace(run.result, predictions=run.result.predictions.assign(patient="")))
    applies = draw is draw_folds
    assert draw(run, tmp_path / "a.png") == applies == (tmp_path / "a.png").exists()


@pytest.mark.parametrize("draw", OF_CLASSES)
@pytest.mark.parametrize("protocol", ["seed", "flat", "nested"])
def test_what_is_optimistic_says_so_in_its_title(make_run, tmp_path, drawn, draw, protocol):
    assert draw(make_run(protocol=protocol, twins=1), tmp_path / "a.png")
    title = drawn[0].get_suptitle()
    assert ("optimistic" in title.lower()) == (protocol != "nested")
    assert "made up · label" in title and f"linear, {protocol}" in title and "an:encoder" in title
