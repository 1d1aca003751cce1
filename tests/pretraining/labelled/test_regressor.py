"""Heads against the probes that they are kept as."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from echolung.encoders.video_checkpoints import REGRESSOR_SETTING
from echolung.errors import InputError
from echolung.pretraining.labelled.regressor import Regressor, from_probe, to_probe
from echolung.probes import Features
from echolung.probes.saved import Probe, load_probe

HEADS = {
    "CoReEcho": {**REGRESSOR_SETTING, "hidden": "24"},
    "linear": {},
    "deep": {"hidden": "16x8", "norm": "layer", "dropout": 0.2},
    "half": {"hidden": "16", "batch_norm": "yes", "input_dropout": 0.5},
}


def trained(outputs: int, **setting: object) -> Regressor:
    """Return a head whose numbers, statistics included, are none of those it began with."""
    torch.manual_seed(0)
    head = Regressor(12, outputs, **setting)
    for parameter in head.parameters():
        nn.init.normal_(parameter)
    for _ in range(3):
        head.train()(2 + 3 * torch.randn(20, 12))
    return head.eval()


def tokens(dim: int = 12) -> Features:
    random = np.random.default_rng(0)
    return Features(tuple("abcde"), random.standard_normal((5, 1, 7, dim)).astype(np.float32))


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("classes", [(), ("low", "middle", "high")])
def test_a_head_and_its_probe_say_the_same_of_mean_tokens(name: str, classes: tuple[str, ...], tmp_path: Path) -> None:
    head = trained(len(classes) or 1, **HEADS[name])
    to_probe(head, classes, {"task": "ef"}).save(tmp_path)
    probe = load_probe(tmp_path)
    features = tokens()
    embeddings = torch.from_numpy(features.held[:, 0]).mean(1)
    with torch.no_grad():
        outputs = head(embeddings)
        again = from_probe(probe).eval()(embeddings)
    expected = outputs.softmax(1) if classes else outputs
    torch.testing.assert_close(torch.from_numpy(probe.predict(features)), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(again, outputs)
    assert from_probe(probe).setting == head.setting


def test_a_probe_that_standardises_its_numbers_becomes_a_head_in_their_unit() -> None:
    plain = to_probe(trained(1, hidden="16", norm="layer"), (), {})
    arrays = {**plain.arrays, "target.shift": np.float32([55.6]), "target.scale": np.float32([12.4])}
    probe = Probe(
        "mlp", (), arrays, {"setting": {"hidden": "16", "lr": 1e-3}}
    )  # without the defaults, as a bank saves it
    features = tokens()
    with torch.no_grad():
        found = from_probe(probe).eval()(torch.from_numpy(features.held[:, 0]).mean(1))
    np.testing.assert_allclose(found.numpy(), probe.predict(features), rtol=1e-5)


def test_coreechos_own_has_as_many_parameters_as_published() -> None:
    assert sum(parameter.numel() for parameter in Regressor(512, 1, **REGRESSOR_SETTING).parameters()) == 265_217


def test_other_probes_are_no_heads() -> None:
    with pytest.raises(InputError, match="of kind linear"):
        from_probe(Probe("linear", (), {}, {}))


def test_what_it_begins_at() -> None:
    head = Regressor(12, 1)
    head.begin_at(55.6)
    with torch.no_grad():
        assert head(torch.zeros(2, 12)).tolist() == [[pytest.approx(55.6)], [pytest.approx(55.6)]]
    assert not head.compares
    assert Regressor(12, 1, norm="batch").compares
