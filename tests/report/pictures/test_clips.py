"""What is said and shown of a video."""

import numpy as np
import pytest

from echolung.report.pictures.clips import clip_rows, judged, shorten, spread, strip_frames, verdict, whereabouts


def test_a_strip_goes_evenly_over_all_segments(make_run):
    _, store = make_run(segments=2)
    name = store.rows["video_id"][6]
    rows = clip_rows(store, [name, "no such video"])
    assert list(rows) == [name] and rows[name].tolist() == [6, 7]
    both = np.concatenate(list(store.previews([6, 7])))
    np.testing.assert_array_equal(strip_frames(store, rows[name]), both[[0, 2, 4, 6, 9, 11, 13, 15]])
    assert spread(8).tolist() == list(range(8)) and spread(3, 8).max() == 2


def test_each_video_is_judged_by_the_probability_of_its_class(make_run):
    run, _ = make_run()
    table, source = judged(run.result), run.result.predictions
    assert table["video_id"].tolist() == source["video_id"].tolist()
    truth = [row[f"p_{row['truth']}"] for _, row in source.iterrows()]
    np.testing.assert_allclose(table["loss"], -np.log(truth))
    assert table["wrong"].tolist() == [i % 3 == 2 for i in range(len(table))]
    wrong, right = table.iloc[2], table.iloc[0]
    assert verdict(wrong) == "ill 13 %, predicted very ill 74 %" and verdict(right) == "healthy, predicted so 71 %"
    assert whereabouts(wrong) == "a video with q…ame, number 02 · patient p1 · source s2 · fold 1"


@pytest.mark.parametrize("task", ["label", "number"])
def test_repeats_are_one_row_with_the_mean_prediction(make_run, task):
    run, _ = make_run(task, repeats=2)
    table = judged(run.result)
    assert len(table) == 12 and table["fold"][0] == "0, 2"
    if task == "number":  # one repeat errs above, the other as much below
        np.testing.assert_allclose(table["loss"], 0, atol=1e-9)
        assert verdict(table.iloc[3]) == "13, predicted 13"


def test_what_is_not_known_is_not_said(make_run):
    run, _ = make_run()
    video = judged(run.result).iloc[0].copy()
    video["patient"], video["source"] = "", float("nan")
    assert whereabouts(video).endswith("number 00 · fold 0")
    assert shorten("short") == "short" and len(shorten("x" * 100)) == 29
