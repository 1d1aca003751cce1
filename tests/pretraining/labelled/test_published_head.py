"""CoReEcho's regressor out of its checkpoint, against the same layers built up anew."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from echolung.encoders import load_encoder
from echolung.encoders.make import make
from echolung.encoders.networks import NETWORKS
from echolung.errors import InputError
from echolung.pretraining.labelled.published_head import published_head
from echolung.probes import Features


@pytest.fixture(scope="module")
def regressor() -> nn.Sequential:
    torch.manual_seed(1)
    layers = [nn.BatchNorm1d(512), nn.Dropout(0.4), nn.Linear(512, 512), nn.BatchNorm1d(512), nn.GELU()]
    net = nn.Sequential(*layers, nn.Dropout(0.4), nn.Linear(512, 1))
    for _ in range(3):
        net(torch.randn(32, 512))
    return net.eval()


@pytest.fixture(scope="module")
def content(regressor: nn.Sequential) -> dict[str, object]:
    """What best.pth holds."""
    model = {f"module.{name}": tensor for name, tensor in make(NETWORKS["uniformer_small"], 0).state_dict().items()}
    model |= {"module.head.weight": torch.zeros(1, 512), "module.head.bias": torch.zeros(1)}
    head = {f"module.{name}": tensor for name, tensor in regressor.state_dict().items()}
    return {"epoch": 20, "model": model, "regressor": head, "best_error": torch.tensor(3.9)}


def test_it_says_what_theirs_says(content: dict, regressor: nn.Sequential, echolung_home: Path) -> None:
    checkpoints = echolung_home / "checkpoints"
    checkpoints.mkdir(parents=True)
    torch.save(content, checkpoints / "coreecho.pth")
    start = published_head("coreecho.pth")
    random = np.random.default_rng(0)
    features = Features(tuple("abcde"), random.standard_normal((5, 1, 7, 512)).astype(np.float32))
    with torch.no_grad():
        expected = regressor(torch.from_numpy(features.held[:, 0]).mean(1))
    np.testing.assert_allclose(start.probe.predict(features), expected.numpy(), rtol=1e-5, atol=1e-5)
    start.check_shapes(512, 1)
    assert start.seen == ("echonet-dynamic",) and start.name == "coreecho.pth" and len(start.digest) == 64
    named = "uniformer_small@coreecho.pth"
    for place in (str(checkpoints / "coreecho.pth"), named, f"{named}#imagenet"):
        assert published_head(place).digest == start.digest
    digest = load_encoder("uniformer_small@coreecho.pth").tensors_digest()
    assert start.probe.about["weights_tensors"] == digest


def test_files_without_it_are_refused(content: dict, tmp_path: Path) -> None:
    torch.save(content["model"], tmp_path / "kinetics.pth")
    with pytest.raises(InputError, match="holds no regressor"):
        published_head(str(tmp_path / "kinetics.pth"))
    torch.save({**content, "regressor": {"9.weight": torch.ones(2)}}, tmp_path / "best.pth")
    with pytest.raises(InputError, match=r"not CoReEcho's two linear layers"):
        published_head(str(tmp_path / "best.pth"))
    with pytest.raises(InputError, match=r"no checkpoint at .*absent\.pth"):
        published_head(str(tmp_path / "absent.pth"))
