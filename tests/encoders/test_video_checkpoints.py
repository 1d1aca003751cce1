"""Published checkpoints of video networks, in their exact layouts: loaded strictly, and refused in words."""

import argparse
import zipfile

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import video

from echolung.encoders import identify, load_encoder, load_model, save_encoder
from echolung.encoders.checkpoints import load_vit
from echolung.encoders.make import make
from echolung.encoders.networks import NETWORKS
from echolung.encoders.video_checkpoints import REGRESSOR_SETTING, read_regressor
from echolung.errors import InputError

UNIFORMER = "uniformer_tiny"  # the same code and names as uniformer_small, a tenth of the size


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    """Return the tensors of a trained UniFormer."""
    model = make(NETWORKS[UNIFORMER], 4)
    for name, buffer in model.named_buffers():
        if "running" in name:
            buffer += 0.3
    return model.state_dict()


def regressor() -> nn.Sequential:
    """Return CoReEcho's F_R with statistics that are not those of the beginning."""
    layers = [nn.BatchNorm1d(512), nn.Dropout(0.4), nn.Linear(512, 512), nn.BatchNorm1d(512), nn.GELU()]
    head = nn.Sequential(*layers, nn.Dropout(0.4), nn.Linear(512, 1))
    head[-1].bias.data[0] = 55.6
    head(torch.randn(16, 512))
    return head


def head(classes: int) -> dict[str, torch.Tensor]:
    return {"head.weight": torch.zeros(classes, 192), "head.bias": torch.zeros(classes)}


def same(model: nn.Module, weights: dict[str, torch.Tensor]) -> bool:
    held = model.state_dict()
    return held.keys() == weights.keys() and all(torch.equal(held[name], weights[name]) for name in weights)


def test_kinetics(weights, tmp_path):
    torch.save(weights | head(400), tmp_path / "k400.pth")
    model, said = load_model(f"{UNIFORMER}@{tmp_path / 'k400.pth'}")
    assert same(model, weights)
    assert model.config.statistics == "kinetics"
    assert model.training
    assert said == (
        "Loaded k400.pth (uniformer_tiny, state dict): 171 tensors; left out head.bias, head.weight; frames normalised "
        "with the statistics kinetics."
    )


@pytest.mark.parametrize("prefix", ["", "module."])
def test_coreecho(weights, tmp_path, prefix):
    state = {prefix + name: tensor for name, tensor in (weights | head(1)).items()}
    f_r = regressor()
    content = {"epoch": 20, "model": state, "best_error": torch.tensor(3.9)}
    content["regressor"] = {prefix + name: tensor for name, tensor in f_r.state_dict().items()}
    torch.save(content, tmp_path / "best.pth")
    encoder = load_encoder(f"{UNIFORMER}@{tmp_path / 'best.pth'}")
    assert same(encoder.model, weights)
    assert encoder.model.config.statistics == "echonet"
    assert "CoReEcho checkpoint" in encoder.loaded
    assert encoder.spec.config == {"architecture": UNIFORMER, "reader": 1}
    assert encoder.spec.name == f"{UNIFORMER}@best"
    arrays = read_regressor(tmp_path / "best.pth")
    z = np.random.default_rng(0).normal(size=(5, 512)).astype(np.float32)
    x = batch_norm(arrays, "norm", z)
    x = batch_norm(arrays, "hidden0.bn", x @ arrays["hidden0.weight"].T + arrays["hidden0.bias"])
    x = torch.nn.functional.gelu(torch.from_numpy(x)).numpy()
    predicted = x @ arrays["linear.weight"].T + arrays["linear.bias"]
    np.testing.assert_allclose(predicted, f_r.eval()(torch.from_numpy(z)).detach().numpy(), rtol=1e-5)
    assert REGRESSOR_SETTING["hidden"] == "512"


def batch_norm(arrays: dict[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    mean, var, gain, bias = (arrays[f"{name}.{part}"] for part in ("mean", "var", "weight", "bias"))
    return (x - mean) / np.sqrt(var + 1e-5) * gain + bias


@pytest.mark.parametrize("name", ["mc3_18", "r2plus1d_18", pytest.param("r3d_18", marks=pytest.mark.slow)])
@torch.no_grad()
def test_echonet_and_torchvision(name, tmp_path):
    whole = getattr(video, name)(weights=None, num_classes=1).eval()
    features = whole.state_dict()
    # As EchoNet-Dynamic saves it: a wrapper's prefix, and a NumPy number among the scores.
    saved = {"epoch": 44, "state_dict": {f"module.{k}": v for k, v in features.items()}, "r2": np.float64(0.81)}
    torch.save(saved, tmp_path / "echonet.pt")
    torch.save(features, tmp_path / "bare.pth")
    frames = torch.randn(1, 3, 8, 32, 32)
    echonet = load_encoder(f"{name}@{tmp_path / 'echonet.pt'}")
    assert "EchoNet-Dynamic checkpoint" in echonet.loaded
    assert "left out fc.bias, fc.weight" in echonet.loaded
    pooled = whole.avgpool(
        whole.layer4(whole.layer3(whole.layer2(whole.layer1(whole.stem(echonet.model.normal(frames))))))
    )
    torch.testing.assert_close(echonet(frames).mean(1), pooled.flatten(1), rtol=1e-4, atol=1e-5)
    assert echonet(frames).shape[1] == np.prod(echonet.spec.grid(8, 32, 32))
    assert echonet.model.config.statistics == "echonet"
    assert load_model(f"{name}@{tmp_path / 'bare.pth'}")[0].config.statistics == "torchvision"


def test_numbers_as_numpy_1_wrote_them(weights, tmp_path):
    torch.save({"model": weights, "best_error": np.float64(3.9)}, tmp_path / "new.pt")
    with zipfile.ZipFile(tmp_path / "new.pt") as new, zipfile.ZipFile(tmp_path / "old.pt", "w") as old:
        for name in new.namelist():
            old.writestr(name, new.read(name).replace(b"cnumpy._core.multiarray", b"cnumpy.core.multiarray"))
    assert (tmp_path / "old.pt").read_bytes() != (tmp_path / "new.pt").read_bytes()
    assert same(load_model(f"{UNIFORMER}@{tmp_path / 'old.pt'}")[0], weights)


@torch.no_grad()
def test_other_statistics_by_name(weights, tmp_path):
    path = tmp_path / "k400.pth"
    torch.save(weights, path)
    own, asked = identify(f"{UNIFORMER}@{path}"), identify(f"{UNIFORMER}@{path}#echonet")
    assert (asked.name, asked.config) == (f"{UNIFORMER}@k400#echonet", own.config | {"statistics": "echonet"})
    assert load_model(asked)[0].config.statistics == "echonet"
    frames = torch.randn(1, 3, 4, 32, 32)
    assert not torch.allclose(load_encoder(own)(frames), load_encoder(asked)(frames))
    torch.save(weights, tmp_path / "x.pth")
    with pytest.raises(InputError, match="leave out #echonet"):
        identify(f"resnet3d_18@{tmp_path / 'x.pth'}#echonet")


def test_a_checkpoint_at_home(weights, echolung_home):
    (echolung_home / "checkpoints").mkdir()
    torch.save(weights, echolung_home / "checkpoints" / "k400.pth")
    assert same(load_model(f"{UNIFORMER}@k400")[0], weights)
    assert same(load_model(f"{UNIFORMER}@k400.pth")[0], weights)


def test_by_its_bare_path_it_says_how_to_name_it(weights, tmp_path):
    torch.save(weights, tmp_path / "k400.pth")
    torch.save({"model": weights, "regressor": {}, "epoch": 1}, tmp_path / "best.pth")
    torch.save({"state_dict": video.mc3_18(weights=None).state_dict(), "epoch": 1}, tmp_path / "mc3.pt")
    torch.save(video.r3d_18(weights=None).state_dict(), tmp_path / "r3d.pt")
    for file, name in {
        "k400.pth": "uniformer_small",
        "best.pth": "uniformer_small",
        "mc3.pt": "mc3_18",
        "r3d.pt": "r3d_18",
    }.items():
        with pytest.raises(InputError, match=f"holds a {name}, not.*write {name}@{tmp_path / file}"):
            load_encoder(tmp_path / file)


def test_another_architecture(weights, tmp_path):
    torch.save(weights, tmp_path / "u.pth")
    with pytest.raises(InputError, match=r"another architecture than r3d_18.*write uniformer_small@"):
        load_encoder(f"r3d_18@{tmp_path / 'u.pth'}")
    torch.save({"fc1.weight": torch.zeros(2)}, tmp_path / "mlp.pth")
    with pytest.raises(InputError, match=r"another architecture than uniformer_tiny.*fc1\.weight.*has such as"):
        load_encoder(f"{UNIFORMER}@{tmp_path / 'mlp.pth'}")
    with pytest.raises(InputError, match=r"do not fit uniformer_small: .*is missing"):
        load_encoder(f"uniformer_small@{tmp_path / 'u.pth'}")


def test_a_tensor_missing_misshapen_or_too_many(weights, tmp_path):
    state = dict(weights)
    del state["blocks3.0.attn.qkv.bias"]
    state["norm.weight"] = torch.ones(7)
    state["blocks1.0.gamma"] = torch.ones(1)
    torch.save(state, tmp_path / "e.pth")
    with pytest.raises(InputError) as caught:
        load_encoder(f"{UNIFORMER}@{tmp_path / 'e.pth'}")
    for part in (
        "blocks3.0.attn.qkv.bias is missing",
        "norm.weight has shape [7] for [192]",
        "gamma is not part of it",
    ):
        assert part in str(caught.value)


def test_counters_of_batches_may_be_absent(weights, tmp_path):
    torch.save({k: v for k, v in weights.items() if not k.endswith("num_batches_tracked")}, tmp_path / "old.pth")
    model = load_model(f"{UNIFORMER}@{tmp_path / 'old.pth'}")[0]
    assert torch.equal(model.norm.running_mean, weights["norm.running_mean"])


def test_what_is_no_checkpoint(weights, tmp_path):
    torch.save({"model": weights, "opt": argparse.Namespace(epochs=25)}, tmp_path / "last.pth")
    with pytest.raises(InputError, match=r"could run code when read.*argparse\.Namespace"):
        load_encoder(f"{UNIFORMER}@{tmp_path / 'last.pth'}")
    torch.save({"epoch": 3, "loss": 0.5}, tmp_path / "log.pth")
    with pytest.raises(InputError, match=r"no checkpoint of uniformer_tiny: it holds 'epoch', 'loss'"):
        load_encoder(f"{UNIFORMER}@{tmp_path / 'log.pth'}")
    save_encoder(tmp_path / "own.safetensors", make(NETWORKS[UNIFORMER]))
    with pytest.raises(InputError, match=r"saved by echolung.*by its path alone"):
        load_encoder(f"{UNIFORMER}@{tmp_path / 'own.safetensors'}")
    with pytest.raises(InputError, match="holds a uniformer, not the V-JEPA 2 video transformer"):
        load_vit(tmp_path / "own.safetensors")
    with pytest.raises(InputError, match="is a folder"):
        identify(f"{UNIFORMER}@{tmp_path}")


def test_a_regressor_that_is_none(weights, tmp_path):
    torch.save({"model": weights}, tmp_path / "k.pth")
    with pytest.raises(InputError, match="holds no regressor"):
        read_regressor(tmp_path / "k.pth")
    torch.save({"regressor": {"0.weight": torch.zeros(512), "2.weight": torch.zeros(3, 512)}}, tmp_path / "r.pth")
    with pytest.raises(InputError, match=r"two linear layers of width 512: hidden0\.bias"):
        read_regressor(tmp_path / "r.pth")
