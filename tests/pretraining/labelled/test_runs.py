"""Whole runs that learn from labels, from videos to checkpoints; killed, they go on as if they had not been."""

from pathlib import Path

import pytest

from echolung.datasets import Manifest
from echolung.pretraining.labelled.labels import Labels
from echolung.pretraining.labelled.recipe import LabelledRecipe
from echolung.pretraining.log import StepRecord, read_lines
from echolung.pretraining.loop import pretrain
from echolung.pretraining.pool import Pool
from echolung.probes.saved import load_probe

SMALL = [
    "clips.frames=4", "clips.size=32", "clips.shift=2", "encoder.start=random:uniformer_tiny@0", "encoder.dropout=0.2",
    "objective.hidden=16", "optimiser.batch=2", "optimiser.epochs=2", "run.gauge_every=2",
]  # fmt: skip


class KilledError(Exception):
    pass


@pytest.fixture
def pool(few: Manifest) -> Pool:
    return Pool.of([few])


@pytest.mark.parametrize(
    "objective", ["coreecho", *(pytest.param(name, marks=pytest.mark.slow) for name in ("echocotr", "supervised"))]
)
def test_a_killed_run_ends_as_one_that_was_not(objective: str, pool: Pool, tmp_path: Path) -> None:
    recipe = LabelledRecipe().with_changes([*SMALL, f"objective.name={objective}"])
    classes = ("normal", "reduced") if objective == "supervised" else ()
    values = {name: float(row % 2) if classes else 40.0 + 5 * row for row, name in enumerate(pool.names)}
    labels = Labels("ef", values, classes)

    def die(record: StepRecord) -> None:
        if record.step == 5:  # of six, after the first epoch's checkpoint
            raise KilledError

    through = pretrain(recipe, pool, tmp_path / "through", labels=labels, workers=1)
    with pytest.raises(KilledError):
        pretrain(recipe, pool, tmp_path / "killed", labels=labels, workers=1, on_step=die)
    resumed = pretrain(recipe, pool, tmp_path / "killed", labels=labels, workers=1, resume=True)
    assert through.finished
    assert (through.step, resumed.step) == (6, 6)
    for name in ("last.safetensors", "last.head/probe.safetensors"):
        assert (tmp_path / "through" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()
    assert load_probe(tmp_path / "killed" / "last.head").classes == classes
    lines = [read_lines(tmp_path / run / "log.jsonl") for run in ("through", "killed")]
    assert [line["loss"] for line in lines[0]] == [line["loss"] for line in lines[1]]
    assert {line["clips"] for line in lines[0]} == {4 if objective == "coreecho" else 2}
