"""What all networks share: stages, saving and loading, digests, eval mode, dropout, names."""

import json
import math
import struct
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from echolung.encoders import identify, load_encoder, load_model, save_encoder
from echolung.encoders.dropout import set_dropout
from echolung.encoders.make import make
from echolung.encoders.networks import NETWORKS, ResNet3dConfig, TimmConfig, UniFormerConfig
from echolung.encoders.stages import stages_of
from echolung.encoders.vit import ViTConfig
from echolung.errors import InputError

NARROW = {"widths": (4, 8, 16, 24), "bottleneck": False}
CONFIGS = {
    "vit": ViTConfig(dim=48, depth=3, heads=2, mlp=32, patch=8),
    "uniformer": UniFormerConfig((1, 1, 2, 1), (8, 16, 32, 32), 16, strides=(4, 2, 2, 1)),
    "two streams": ResNet3dConfig(("grey", "flow"), (2, 1, 1, 1), **NARROW),
    "grey": ResNet3dConfig(("grey",), (1, 1, 1, 1), **NARROW),
    "mc3_18": NETWORKS["mc3_18"],
    "timm": TimmConfig("resnet10t"),
}


@pytest.fixture(scope="module", params=CONFIGS)
def model(request) -> nn.Module:
    """Return a network of every architecture, one after another, small where it can be."""
    return make(CONFIGS[request.param], seed=1).eval()


@pytest.fixture(scope="module")
def frames() -> torch.Tensor:
    """Return two clips."""
    return torch.randn(2, 3, 4, 32, 32, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_stages_one_after_another_are_the_model(model, frames):
    x = frames
    for stage in stages_of(model):
        x = stage.run(x)
    assert torch.equal(x, model(frames))
    assert x.shape == (2, math.prod(model.grid(4, 32, 32)), model.dim)


def test_every_parameter_is_in_exactly_one_stage(model):
    stages = stages_of(model)
    found = [id(p) for stage in stages for module in stage.modules for p in module.parameters()]
    assert sorted(found) == sorted(id(p) for p in model.parameters())
    assert len({stage.name for stage in stages}) == len(stages)


def test_names_of_stages():
    names = {kind: [stage.name for stage in stages_of(make(config, None))] for kind, config in CONFIGS.items()}
    assert names["vit"] == ["embed", "block 1", "block 2", "block 3"]
    assert names["uniformer"] == ["stage 1", "stage 2", "stage 3", "stage 4"]
    assert names["two streams"] == names["mc3_18"] == ["stem", "layer 1", "layer 2", "layer 3", "layer 4"]
    assert names["timm"] == ["image model"]
    own = nn.Linear(2, 2)
    assert [(stage.name, stage.modules) for stage in stages_of(own)] == [("model", (own,))]


@torch.no_grad()
def test_saved_and_loaded_it_gives_the_same_tokens(model, frames, tmp_path):
    save_encoder(tmp_path / "mine.safetensors", model)
    encoder = load_encoder(str(tmp_path / "mine.safetensors"))
    assert torch.equal(encoder(frames), model(frames))
    assert encoder.model.config == model.config
    assert encoder.spec.name == "mine"
    save_encoder(tmp_path / "again.safetensors", encoder)
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "mine.safetensors").read_bytes()
    before = identify(tmp_path / "mine.safetensors")
    other = make(model.config, seed=2)
    save_encoder(tmp_path / "mine.safetensors", other)
    after = identify(tmp_path / "mine.safetensors")
    assert (after.weights != before.weights, after.config) == (True, before.config)
    assert load_encoder(after).tensors_digest() != encoder.tensors_digest()


def test_statistics_are_saved_too(tmp_path):
    model = make(UniFormerConfig((1, 1, 1, 1), (8, 8, 8, 8), 8, statistics="kinetics"))
    save_encoder(tmp_path / "k.safetensors", model)
    assert load_model(tmp_path / "k.safetensors")[0].config.statistics == "kinetics"
    assert identify(tmp_path / "k.safetensors").config["shape"]["statistics"] == "kinetics"


@torch.no_grad()
def test_in_eval_mode_a_clip_does_not_see_its_batch(model, frames):
    torch.testing.assert_close(model(frames)[:1], model(frames[:1]), rtol=1e-3, atol=1e-4)


def test_training_reaches_every_parameter(model, frames):
    model.train()
    model(frames).square().mean().backward()
    # The bias of a key moves all scores of a query alike; nothing else is without a gradient.
    without = [name for name, p in model.named_parameters() if p.grad is None]
    model.eval().zero_grad()
    assert not without


@pytest.mark.parametrize(("kind", "layers"), [("uniformer", 6 + 3), ("grey", 7), ("two streams", 18)])
def test_dropout(kind, layers, frames):
    model = make(CONFIGS[kind]).train()
    dropouts = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    assert len(dropouts) == layers
    assert {layer.p for layer in dropouts} == {0.0}
    torch.manual_seed(0)
    still = [model(frames) for _ in range(2)]
    torch.testing.assert_close(still[0], still[1])
    set_dropout(model, 0.4)
    assert {layer.p for layer in dropouts} == {0.4}
    assert not torch.allclose(model(frames), model(frames))
    model.eval()
    assert torch.equal(model(frames), model(frames))


def test_dropout_that_cannot_be_set():
    vit = make(CONFIGS["vit"], None)
    set_dropout(vit, 0)
    with pytest.raises(InputError, match=r"VisionTransformer has no dropout layers, so a dropout of 0\.1"):
        set_dropout(vit, 0.1)
    for rate in (-0.1, 1):
        with pytest.raises(InputError, match="is no rate"):
            set_dropout(vit, rate)


@pytest.mark.parametrize("name", ["uniformer_tiny", "mc3_18"])
def test_random_by_name_follows_from_the_seed_alone(name):
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    one, said = load_model(f"random:{name}@3")
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    again = load_model(f"random:{name}@3")[0]
    assert said == f"Drew random weights for {name} (seed 3)."
    assert one.training
    assert all(p.requires_grad for p in one.parameters())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), again.parameters(), strict=True))
    config = identify(f"random:{name}@3").config
    assert json.loads(json.dumps(config)) == config
    assert ("torchvision" in config) == (name == "mc3_18")
    assert identify(f"random:{name}@3").weights != identify(f"random:{name}@4").weights


def test_flow_names_what_computes_it():
    assert "opencv" in identify("random:two_stream_resnet18").config
    assert "opencv" not in identify("random:resnet3d_18").config


def test_old_files_of_the_video_transformer_keep_their_identity(tmp_path):
    save_encoder(tmp_path / "vit.safetensors", make(CONFIGS["vit"]))
    assert identify(tmp_path / "vit.safetensors").config == {"architecture": "vjepa2", "reader": 1}
    length = struct.unpack("<Q", (tmp_path / "vit.safetensors").read_bytes()[:8])[0]
    header = json.loads((tmp_path / "vit.safetensors").read_bytes()[8 : 8 + length])
    assert list(json.loads(header["__metadata__"]["echolung"])) == ["config"]


def test_naming_a_saved_network_imports_no_torch(tmp_path):
    save_encoder(tmp_path / "u.safetensors", make(CONFIGS["uniformer"]))
    code = f"""if True:
        import sys
        from echolung.encoders import identify
        config = identify({str(tmp_path / "u.safetensors")!r}).config
        assert config["architecture"] == "uniformer" and config["shape"]["dims"] == [8, 16, 32, 32], config
        identify("random:two_stream_resnet18")
        heavy = {{"torch", "timm", "cv2", "torchvision"}} & set(sys.modules)
        assert not heavy, heavy
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_found_at_home_by_its_name(echolung_home, frames):
    (echolung_home / "checkpoints").mkdir()
    model = make(CONFIGS["grey"], 5).eval()
    save_encoder(echolung_home / "checkpoints" / "ef.safetensors", model)
    with torch.no_grad():
        assert torch.equal(load_encoder("ef")(frames), model(frames))


def test_a_file_of_a_newer_version(tmp_path):
    described = {"architecture": "uniformer", "config": {"depths": [1], "registers": 4}}
    save_file({"x": torch.zeros(1)}, tmp_path / "new.safetensors", {"echolung": json.dumps(described)})
    with pytest.raises(InputError, match=r"registers.*newer version"):
        load_encoder(tmp_path / "new.safetensors")
    described = {"architecture": "mamba", "config": {}}
    save_file({"x": torch.zeros(1)}, tmp_path / "new.safetensors", {"echolung": json.dumps(described)})
    with pytest.raises(InputError, match="does not know the architecture mamba"):
        load_encoder(tmp_path / "new.safetensors")


@pytest.mark.parametrize(
    "content", [b"", b"one", b"\xff" * 64, struct.pack("<Q", 5) + b"[1,2]", struct.pack("<Q", 9) + b"{}"]
)
def test_a_broken_file_is_named_but_not_read(tmp_path, content):
    (tmp_path / "broken.safetensors").write_bytes(content)
    assert identify(tmp_path / "broken.safetensors").config["architecture"] == "vjepa2"
    with pytest.raises(InputError, match="no readable safetensors file"):
        load_encoder(tmp_path / "broken.safetensors")


def test_names_that_are_none():
    with pytest.raises(InputError, match=r"uniformer_smal.*Did you mean 'uniformer_small'"):
        identify("random:uniformer_smal")
    with pytest.raises(InputError, match="write uniformer_small@CHECKPOINT, or random:uniformer_small"):
        identify("uniformer_small")
    with pytest.raises(InputError, match="uniformer_small@ names no weights"):
        identify("uniformer_small@")
    with pytest.raises(InputError, match=r"published at https://huggingface\.co/Sense-X/uniformer_video"):
        identify("uniformer_small@uniformer_small_k400_16x8.pth")
