"""What a pretraining run's log comes to."""

import json

import numpy as np
import pytest

from echolung.errors import InputError
from echolung.report.pretraining import context_slots, draw_log, read_log, smooth, summarise_log


def line(step, **more):
    return {"step": step, "steps": 40, "loss": 2.0 - step / 40, "lr": 1e-3, "seconds": 0.5, "waited": 0.1, **more}


@pytest.fixture
def log_file(tmp_path):
    """A log with gauges each 10 steps and scores each 20."""
    lines = []
    for step in range(1, 41):
        gauges = {
            "effective_rank_wanted": 10.0 + step, "effective_rank_predicted": 5.0, "std_wanted": 0.9, "std_predicted": 0.2,
            "context_share_0": 0.3, "context_slots_0": [4.0, 2.0 + step], "context_slots_1": [1.0, 1.0],
        }  # fmt: skip
        scores = {"r2": step / 100, "score": step / 100}
        more = ({"gauges": gauges} if step % 10 == 0 else {}) | ({"scores": scores} if step % 20 == 0 else {})
        lines.append(json.dumps(line(step, clips_per_second=8.0, **more)))
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_numbers_of_a_run(log_file):
    found = summarise_log(read_log(log_file))
    assert found["steps"] == 40 and found["seconds"] == 20 and found["waited_share"] == pytest.approx(0.2)
    assert (found["loss_first"], found["loss_last"]) == pytest.approx((2 - 1 / 40, 1.0))
    assert found["gauges"]["effective_rank_wanted"] == 50 and found["scores"]["r2"] == 0.4
    json.dumps(found)  # plain values


def test_a_log_as_a_kill_leaves_it(log_file):
    """A step taken twice counts as it was taken last; a last line cut short does not count."""
    with log_file.open("a") as file:
        file.write(json.dumps(line(40) | {"loss": 7.0}) + "\n" + json.dumps(line(41))[:20])
    log = read_log(log_file)
    assert log["step"].tolist() == list(range(1, 41)) and log["loss"].iloc[-1] == 7.0


def test_a_run_without_a_step_is_told(tmp_path):
    with pytest.raises(InputError, match="has not begun"):
        read_log(tmp_path / "log.jsonl")
    (tmp_path / "log.jsonl").write_text("\n")
    with pytest.raises(InputError, match="no step"):
        read_log(tmp_path / "log.jsonl")


@pytest.mark.parametrize("columns", [["gauges", "scores"], ["gauges"], ["scores"], []])
def test_the_picture_shows_what_there_is(log_file, tmp_path, columns):
    log = read_log(log_file)
    log = log.drop(columns=[name for name in ("gauges", "scores") if name not in columns])
    draw_log(log, "a run", tmp_path / "loss.png")
    size = (tmp_path / "loss.png").stat().st_size
    assert size > 10_000
    draw_log(log.head(1), "its first step", tmp_path / "first.png")
    assert (tmp_path / "first.png").stat().st_size > 5_000


def test_visible_tokens_are_means_over_the_run(log_file):
    log = read_log(log_file)
    looked = log[log["gauges"].notna()].rename(columns={"gauges": "value"})
    slots = context_slots(looked)
    assert list(slots) == ["generator 1", "generator 2"]
    assert slots["generator 1"].tolist() == [4.0, 2.0 + np.mean([10, 20, 30, 40])]


def test_smoothing_keeps_the_mean():
    values = np.random.default_rng(0).normal(size=600)
    at, mean = smooth(np.arange(1, 601), values, 50)
    assert len(at) == 50 and mean.mean() == pytest.approx(values.mean()) and (np.diff(at) == 12).all()
    assert smooth(np.arange(3), values[:3], 50)[1].tolist() == values[:3].tolist()
