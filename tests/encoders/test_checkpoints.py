"""Reading weights strictly: what is dropped, inferred, refused, and how the refusal reads."""

import os
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from echolung.encoders import load_encoder
from echolung.encoders.checkpoints import load_vit, save_encoder
from echolung.encoders.vit import VisionTransformer, ViTConfig
from echolung.errors import InputError, RunError

CONFIG = ViTConfig(dim=192, depth=2, heads=3, mlp=64, patch=8, tubelet=2)


@pytest.fixture
def model() -> VisionTransformer:
    """Return a tiny transformer of a released width."""
    return VisionTransformer(CONFIG, seed=1)


def one_paragraph(caught: pytest.ExceptionInfo) -> str:
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 700
    return text


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.backbone."])
def test_state_dict_with_any_prefix(model, tmp_path, prefix):
    torch.save({prefix + name: tensor for name, tensor in model.state_dict().items()}, tmp_path / "e.pt")
    loaded, report = load_vit(tmp_path / "e.pt")
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert report.config == CONFIG
    assert report.tensors == len(model.state_dict())


def test_old_file_format(model, tmp_path):
    torch.save(model.state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert load_vit(tmp_path / "old.pth")[1].config == CONFIG


def test_branches(model, tmp_path):
    pupil = VisionTransformer(CONFIG, seed=2).state_dict()
    torch.save({"encoder": pupil, "target_encoder": model.state_dict(), "epoch": 1}, tmp_path / "both.pt")
    torch.save({"encoder": pupil, "epoch": 1}, tmp_path / "pupil.pt")
    norm = {"both.pt": model.state_dict(), "both.pt#encoder": pupil, "pupil.pt": pupil}
    for name, state in norm.items():
        encoder = load_encoder(f"{tmp_path}/{name}")
        assert torch.equal(encoder.model.state_dict()["patch_embed.proj.weight"], state["patch_embed.proj.weight"])
    assert "branch encoder" in load_encoder(f"{tmp_path}/both.pt#encoder").loaded
    assert "it has no target_encoder, so encoder stands in" in encoder.loaded
    torch.save({"target_encoder": pupil}, tmp_path / "target.pt")
    with pytest.raises(InputError, match="has no encoder, only a target_encoder"):
        load_encoder(f"{tmp_path}/target.pt#encoder")


def test_loaded_weights_do_not_follow_the_file(model, tmp_path):
    path = tmp_path / "e.pt"
    torch.save(model.state_dict(), path)
    loaded = load_vit(path)[0]
    before = {name: tensor.clone() for name, tensor in loaded.state_dict().items()}
    with path.open("r+b") as file:
        file.write(os.urandom(path.stat().st_size))
    assert all(torch.equal(tensor, before[name]) for name, tensor in loaded.state_dict().items())


def test_half_precision_weights_become_float32(model, tmp_path):
    torch.save({name: tensor.half() for name, tensor in model.state_dict().items()}, tmp_path / "half.pt")
    assert load_vit(tmp_path / "half.pt")[0].norm.weight.dtype == torch.float32


def test_own_format_round_trip(tmp_path):
    # A width that no released model has: the heads must come from the file's own metadata.
    model = VisionTransformer(ViTConfig(dim=48, depth=1, heads=2, mlp=32, patch=4, tubelet=1, channels=1), seed=1)
    save_encoder(tmp_path / "own.safetensors", model)
    encoder = load_encoder(tmp_path / "own.safetensors")
    assert encoder.model.config == model.config
    frames = torch.randn(1, 1, 2, 8, 8)
    assert torch.equal(encoder(frames), model(frames))
    save_encoder(tmp_path / "again.safetensors", encoder)
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "own.safetensors").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.safetensors", "own.safetensors"]


def test_saving_what_or_where_it_cannot(model, tmp_path):
    with pytest.raises(InputError, match=r"Only echolung's own networks.*Linear is none of them"):
        save_encoder(tmp_path / "x.safetensors", torch.nn.Linear(2, 2))
    with pytest.raises(InputError, match=r"'x\.pt' end in \.safetensors"):
        save_encoder(tmp_path / "x.pt", model)
    with pytest.raises(RunError, match="No such file or directory"):
        save_encoder(tmp_path / "absent" / "x.safetensors", model)


def test_metadata_of_a_newer_version(model, tmp_path):
    metadata = {"echolung": '{"config": {"dim": 192, "registers": 4}}'}
    save_file(model.state_dict(), tmp_path / "new.safetensors", metadata)
    with pytest.raises(InputError, match=r"registers.*newer version"):
        load_vit(tmp_path / "new.safetensors")


def test_missing_extra_and_misshapen_are_named(model, tmp_path):
    state = model.state_dict()
    del state["blocks.1.mlp.fc2.bias"]
    state["blocks.0.ls1.gamma"] = torch.ones(192)
    state["norm.weight"] = torch.ones(191)
    torch.save(state, tmp_path / "e.pt")
    with pytest.raises(InputError) as caught:
        load_vit(tmp_path / "e.pt")
    text = one_paragraph(caught)
    assert "blocks.1.mlp.fc2.bias is missing" in text
    assert "blocks.0.ls1.gamma is not part of it" in text
    assert "norm.weight has shape [191] for [192]" in text


def test_many_wrong_tensors_are_counted(model, tmp_path):
    state = {name: tensor for name, tensor in model.state_dict().items() if "norm" not in name}  # 10 of them
    torch.save(state, tmp_path / "e.pt")
    with pytest.raises(InputError) as caught:
        load_vit(tmp_path / "e.pt")
    text = one_paragraph(caught)
    assert text.count("is missing") == 5
    assert text.endswith("; and 5 more.")


def test_unknown_width(tmp_path):
    model = VisionTransformer(ViTConfig(dim=96, depth=1, heads=3, mlp=32))
    torch.save(model.state_dict(), tmp_path / "e.pt")
    with pytest.raises(InputError, match="width 96 and does not say how many attention heads"):
        load_vit(tmp_path / "e.pt")


@pytest.mark.parametrize("kept", [0, 10, 1000, 50_000, -100])
@pytest.mark.parametrize("name", ["e.pt", "old.pt", "e.safetensors"])
def test_truncated(model, tmp_path, name, kept):
    path = tmp_path / name
    if name == "e.safetensors":
        save_file(model.state_dict(), path)
    else:
        torch.save(model.state_dict(), path, _use_new_zipfile_serialization=name == "e.pt")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"truncated|cut short|damaged") as caught:
        load_vit(path)
    assert name in one_paragraph(caught)


class Payload:
    """A pickle that would run code."""

    def __reduce__(self):
        return os.system, ("touch /tmp/echolung-was-here",)


@pytest.mark.parametrize("archive", [True, False])
def test_pickle_of_code_is_refused_unrun(tmp_path, monkeypatch, archive):
    ran = []
    monkeypatch.setattr(os, "system", ran.append)
    path = tmp_path / "evil.pt"
    if archive:
        torch.save({"encoder": Payload()}, path)
    else:
        path.write_bytes(pickle.dumps({"encoder": Payload()}, protocol=2))
    with pytest.raises(InputError, match="could run code when read and is therefore refused") as caught:
        load_vit(path)
    one_paragraph(caught)
    assert not ran


HOLDS = {
    "Unsupported global: GLOBAL torch.nn.modules.linear.Linear": torch.nn.Linear(1, 1),
    "Unsupported global: GLOBAL slice": slice(1),
    "Trying to load unsupported GLOBAL posix.system whose module posix is blocked": Payload(),
}
"""What the refusal says -> what the file holds."""


@pytest.mark.parametrize("said", HOLDS)
def test_what_else_a_pickle_holds_is_named(tmp_path, said):
    torch.save({"target_encoder": HOLDS[said]}, tmp_path / "e.pt")
    with pytest.raises(InputError, match=rf"refused \({said}\)\. Save the state dict") as caught:
        load_vit(tmp_path / "e.pt")
    one_paragraph(caught)


@pytest.mark.parametrize("content", [b"\xff\xd8\xff\xe0 a picture", b"name,value\n1,2\n", pickle.dumps(1), b"."])
def test_other_kinds_of_file(tmp_path, content):
    path = tmp_path / "other.pt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"other\.pt") as caught:
        load_vit(path)
    one_paragraph(caught)


def test_another_architecture(tmp_path):
    resnet = {"conv1.weight": torch.zeros(64, 3, 7, 7), "bn1.weight": torch.zeros(64), "fc.bias": torch.zeros(10)}
    torch.save(resnet, tmp_path / "resnet.pth")
    with pytest.raises(
        InputError, match=r"another architecture.*3 tensors beginning with conv1\.weight.*timm"
    ) as caught:
        load_vit(tmp_path / "resnet.pth")
    one_paragraph(caught)


def test_image_transformer(tmp_path):
    torch.save({"patch_embed.proj.weight": torch.zeros(192, 3, 16, 16)}, tmp_path / "vit.pth")
    with pytest.raises(InputError, match=r"another architecture.*5 dimensions"):
        load_vit(tmp_path / "vit.pth")


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, {"encoder": None}, {"state_dict": {"a": torch.ones(1)}}])
def test_no_named_tensors(tmp_path, content):
    torch.save(content, tmp_path / "e.pt")
    with pytest.raises(InputError, match="no checkpoint of a V-JEPA 2 encoder"):
        load_vit(tmp_path / "e.pt")


def test_a_list(tmp_path):
    torch.save([torch.ones(1)], tmp_path / "e.pt")
    with pytest.raises(InputError, match="holds a list"):
        load_vit(tmp_path / "e.pt")


def test_saved_file_is_plain_safetensors(model, tmp_path):
    save_encoder(tmp_path / "own.safetensors", model)
    assert load_file(tmp_path / "own.safetensors").keys() == model.state_dict().keys()
