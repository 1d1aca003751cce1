"""Heads as probes are saved: which can be explained, and what they say of their clips."""

from pathlib import Path

import numpy as np
import pytest
import torch

from echolung.errors import InputError
from echolung.explaining.head import load_head, own_head
from echolung.pretraining.labelled.plans import ClipsPlan
from echolung.pretraining.labelled.recipe import LabelledRecipe
from echolung.probes import Features
from echolung.probes.saved import Probe, load_probe
from echolung.settings import home


def write(folder: Path, kind: str = "linear", **more: np.ndarray) -> Path:
    random = np.random.default_rng(0)
    shapes = {"norm.weight": (6,), "norm.bias": (6,), "linear.weight": (2, 6), "linear.bias": (2,)}
    arrays = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    folder.mkdir(parents=True)
    Probe(kind, ("a", "b"), {**arrays, **more}, {"task": "t", "setting": {}}).save(folder)
    return folder


def test_a_linear_probe_says_the_same_as_a_network(tmp_path: Path) -> None:
    place = write(tmp_path / "probe")
    head = load_head(place)
    tokens = np.random.default_rng(1).normal(size=(3, 1, 5, 6)).astype(np.float32)
    expected = load_probe(place).predict(Features(("x", "y", "z"), tokens))
    found = head.network(torch.from_numpy(tokens[:, 0]).mean(1)).softmax(1)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-6)
    assert (head.classes, head.task, dict(head.clips)) == (("a", "b"), "t", {})


def test_heads_without_an_output_a_class_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is trained with the loss coral"):
        load_head(write(tmp_path / "ordered", **{"coral.bias": np.zeros(1, np.float32)}))
    with pytest.raises(InputError, match="a probe of kind attentive"):
        load_head(write(tmp_path / "attentive", "attentive"))


def test_a_checkpoints_head_lies_beside_it_and_its_run_knows_the_clips() -> None:
    place = write(home() / "checkpoints" / "mine.head")
    assert own_head("mine") == place
    assert own_head(str(home() / "checkpoints" / "mine.safetensors")) == place
    assert own_head("random:vit_tiny") is None
    run = home() / "pretraining" / "mine"
    run.mkdir(parents=True)
    (run / "recipe.toml").write_text(LabelledRecipe(clips=ClipsPlan(frames=12, stride=3, size=64)).to_toml())
    clips = {"frames": 12, "stride": 3, "fps": None, "size": 64, "pad": "black", "crop": "whole"}
    assert dict(load_head(place).clips) == clips
