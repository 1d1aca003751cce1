"""The one door: what `load_encoder` returns, whatever the encoder."""

import sys

import numpy as np
import pytest
import torch

from echolung.encoders import Encoder, EncoderSpec, identify, load_encoder, normalise
from echolung.errors import InputError


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    """Return the smallest random encoder."""
    return load_encoder("random:vit_tiny@7")


def test_tokens_and_spec(encoder):
    frames = torch.randn(2, 3, 4, 32, 48)
    tokens = encoder(frames)
    assert encoder.spec.grid(4, 32, 48) == (2, 2, 3)
    assert tokens.shape == (2, 12, encoder.spec.dim) == (2, 12, 192)
    identity = identify("random:vit_tiny@7")
    assert encoder.spec == EncoderSpec("random:vit_tiny@7", 192, identity.weights, identity.config, encoder.spec.grid)
    assert encoder.loaded == "Drew random weights for vit_tiny (seed 7)."


def test_it_is_frozen_but_its_tokens_can_be_learned_from(encoder):
    encoder.train()
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    tokens = encoder(torch.randn(1, 3, 2, 16, 16, requires_grad=True))
    assert not tokens.requires_grad
    probe = torch.nn.Linear(192, 1)
    probe(tokens).sum().backward()
    assert probe.weight.grad is not None


def test_digest_is_of_every_tensor(encoder):
    again, other = load_encoder("random:vit_tiny@7"), load_encoder("random:vit_tiny@8")
    digest = encoder.tensors_digest()
    assert again.tensors_digest() == digest != other.tensors_digest()
    again.model.norm.bias[3] += 1e-3
    assert again.tensors_digest() != digest


def test_normalise_is_imagenets():
    frames = torch.randint(0, 256, (2, 4, 5, 6, 3), dtype=torch.uint8)
    expected = (frames.numpy() / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    normal = normalise(frames)
    assert normal.dtype == torch.float32
    np.testing.assert_allclose(normal.numpy(), expected.transpose(0, 4, 1, 2, 3), atol=1e-6)


OWN = """
import torch
class Mine(torch.nn.Module):
    dim = 3
    def grid(self, frames, height, width):
        return frames, height, width
    def forward(self, frames):
        return frames.flatten(2).movedim(1, 2)
class Argument(Mine):
    def __init__(self, size):
        super().__init__()
class Bare(torch.nn.Module):
    pass
class Plain:
    dim = "3"
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch) -> str:
    """Write a module of encoders into a folder of its own, and enter it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "echolung_test_own.py").write_text(OWN)
    yield "echolung_test_own"
    sys.modules.pop("echolung_test_own", None)


def test_a_class_of_ones_own(own_module):
    encoder = load_encoder(f"python:{own_module}:Mine")
    assert encoder.spec.grid(2, 4, 4) == (2, 4, 4)
    assert encoder(torch.ones(1, 3, 2, 4, 4)).shape == (1, 32, 3)
    assert encoder.spec.config == {"class": f"{own_module}:Mine"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Absent", "has no 'Absent'"),
        ("Argument", "called without arguments.*size"),
        ("Bare", "lacks an attribute dim.*and a method grid"),
        ("Plain", "lacks being a torch.nn.Module and an attribute dim"),
    ],
)
def test_a_class_that_cannot_serve(own_module, name, message):
    with pytest.raises(InputError, match=message):
        load_encoder(f"python:{own_module}:{name}")
