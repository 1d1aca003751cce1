import importlib.util
import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from echolung.pretraining.log import Log, StepRecord, read_lines


def record(step: int, **more: Any) -> StepRecord:
    return StepRecord(step, 10, 0.5 / step, 4, 1.0, 1e-3, 0.04, 0.99, 2.0, 0.1, **more)


def test_a_line_a_step(tmp_path: Path) -> None:
    log = Log(tmp_path, 0, {})
    log.write(record(1, gauges={"effective_rank_wanted": 3.0, "context_slots_0": [1.0, 2.0]}))
    log.write(record(2, scores={"r2": 0.25}))
    log.close()
    first, second = read_lines(tmp_path / "log.jsonl")
    assert first["gauges"]["context_slots_0"] == [1.0, 2.0]
    assert first["clips_per_second"] == 2.0
    assert "memory" not in first and "gauges" not in second
    assert second["scores"] == {"r2": 0.25}


def test_steps_after_the_checkpoint_are_written_anew(tmp_path: Path) -> None:
    log = Log(tmp_path, 0, {})
    for step in range(1, 6):
        log.write(record(step))
    log.close()
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')  # killed while writing
    again = Log(tmp_path, 3, {})
    again.write(record(4))
    again.close()
    assert [line["step"] for line in read_lines(tmp_path / "log.jsonl")] == [1, 2, 3, 4]


class Recorder:
    """Stands in for the writers of both libraries."""

    def __init__(self, *args: Any, **more: Any) -> None:
        self.given, self.numbers, self.closed = (args, more), {}, 0

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.numbers[name, step] = value

    def log(self, numbers: dict[str, float], step: int) -> None:
        self.numbers |= {(name, step): value for name, value in numbers.items()}

    def close(self) -> None:
        self.closed += 1

    finish = close


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, Recorder]:
    """Pretend that TensorBoard and Weights & Biases are installed; return what they were told."""
    found: dict[str, Recorder] = {}
    real = importlib.util.find_spec
    known = ("tensorboard", "wandb")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: object() if name in known else real(name, *a))

    def board(*args: Any) -> Recorder:
        return found.setdefault("tensorboard", Recorder(*args))

    def init(**more: Any) -> Recorder:
        return found.setdefault("wandb", Recorder(**more))

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=board))
    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    return found


def test_what_is_installed_is_told(
    tmp_path: Path, installed: dict[str, Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "hearts")
    log = Log(tmp_path / ".", 0, {"optimiser.lr": 1e-3})
    log.write(record(2, gauges={"context_slots_0": [1.0, 2.0]}))
    log.close()
    for name in ("tensorboard", "wandb"):
        assert installed[name].numbers["loss", 2] == 0.25
        assert installed[name].numbers["gauges/context_slots_0/1", 2] == 2.0
        assert installed[name].closed == 1
    assert installed["wandb"].given[1]["config"] == {"optimiser.lr": 1e-3}


def test_nothing_is_sent_anywhere_unasked(
    tmp_path: Path, installed: dict[str, Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    log = Log(tmp_path, 0, {})
    log.write(record(1))
    log.close()
    assert set(installed) == {"tensorboard"}
    assert json.loads((tmp_path / "log.jsonl").read_text())["step"] == 1
