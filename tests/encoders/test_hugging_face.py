"""The video transformer and both public checkpoint formats against Hugging Face's `VJEPA2Model`, tiny, random weights."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from echolung.encoders.checkpoints import load_vit
from echolung.errors import InputError


@pytest.fixture(scope="module")
def hugging_face() -> Any:
    """Return a tiny random VJEPA2Model for clips of 8 frames of 64 × 64, its weights large enough to tell."""
    transformers = pytest.importorskip("transformers")
    config = transformers.VJEPA2Config(
        hidden_size=192, num_attention_heads=3, num_hidden_layers=3, crop_size=64, frames_per_clip=8, mlp_ratio=2.0,
        pred_hidden_size=24, pred_num_attention_heads=2, pred_num_hidden_layers=1,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.VJEPA2Model(config).eval().requires_grad_(False)
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return model


@pytest.fixture(scope="module")
def frames() -> torch.Tensor:
    """Return two random clips [b, c, t, h, w]."""
    return torch.randn(2, 3, 8, 64, 64, generator=torch.Generator().manual_seed(1))


def tokens_of(hugging_face: Any, frames: torch.Tensor) -> torch.Tensor:
    return hugging_face(frames.movedim(1, 2), skip_predictor=True).last_hidden_state


def to_meta(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename a VJEPA2Model's encoder to the names of the published code, independently of the loader."""
    meta = {"patch_embed.proj." + leaf: state[f"encoder.embeddings.patch_embeddings.proj.{leaf}"] for leaf in LEAVES}
    meta |= {"norm." + leaf: state[f"encoder.layernorm.{leaf}"] for leaf in LEAVES}
    for i in range(sum(name.endswith("norm1.weight") and name.startswith("encoder.") for name in state)):
        theirs, ours = f"encoder.layer.{i}", f"blocks.{i}"
        for leaf in LEAVES:
            parts = [state[f"{theirs}.attention.{part}.{leaf}"] for part in ("query", "key", "value")]
            meta[f"{ours}.attn.qkv.{leaf}"] = torch.cat(parts)
            meta[f"{ours}.attn.proj.{leaf}"] = state[f"{theirs}.attention.proj.{leaf}"]
            for part in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
                meta[f"{ours}.{part}.{leaf}"] = state[f"{theirs}.{part}.{leaf}"]
    return meta


LEAVES = ("weight", "bias")


def as_training_checkpoint(hugging_face: Any, path: Path) -> None:
    target = {f"module.backbone.{name}": tensor for name, tensor in to_meta(hugging_face.state_dict()).items()}
    target["module.backbone.pos_embed"] = torch.zeros(1, 64, 192)
    pupil = {name: tensor + 1 for name, tensor in target.items()}
    state = {"encoder": pupil, "target_encoder": target, "predictor": {"module.backbone.norm.weight": torch.ones(3)}}
    torch.save({**state, "opt": {"state": {}}, "scaler": None, "epoch": 3, "loss": 0.5, "lr": 1e-4}, path)


def test_folder(hugging_face, frames, tmp_path):
    hugging_face.save_pretrained(tmp_path)
    model, report = load_vit(tmp_path)
    torch.testing.assert_close(model(frames), tokens_of(hugging_face, frames), atol=1e-5, rtol=0)
    assert (report.format, report.branch, report.dropped) == ("Hugging Face", "", ("predictor",))
    assert (model.config.depth, model.config.heads, model.config.mlp) == (3, 3, 384)


def test_float64_leaves_no_difference(hugging_face, frames, tmp_path):
    hugging_face.save_pretrained(tmp_path)
    expected = tokens_of(copy.deepcopy(hugging_face).double(), frames.double())
    torch.testing.assert_close(load_vit(tmp_path)[0].double()(frames.double()), expected, atol=1e-12, rtol=0)


def test_sharded_folder(hugging_face, frames, tmp_path):
    hugging_face.save_pretrained(tmp_path, max_shard_size="1MB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    torch.testing.assert_close(load_vit(tmp_path)[0](frames), tokens_of(hugging_face, frames), atol=1e-5, rtol=0)


def test_training_checkpoint(hugging_face, frames, tmp_path):
    as_training_checkpoint(hugging_face, tmp_path / "latest.pt")
    model, report = load_vit(tmp_path / "latest.pt")
    torch.testing.assert_close(model(frames), tokens_of(hugging_face, frames), atol=1e-5, rtol=0)
    assert str(report) == (
        "Loaded latest.pt (V-JEPA 2 training checkpoint, branch target_encoder): 40 tensors, width 192, depth 3, 3 heads; "
        "left out pos_embed."
    )


def test_both_formats_load_the_same_tensors(hugging_face, tmp_path):
    as_training_checkpoint(hugging_face, tmp_path / "latest.pt")
    hugging_face.save_pretrained(tmp_path / "folder")
    one, other = (load_vit(tmp_path / name)[0].state_dict() for name in ("latest.pt", "folder"))
    assert list(one) == list(other)
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_video_classifier_file(hugging_face, frames, tmp_path, suffix):
    from safetensors.torch import save_file

    state = {f"vjepa2.{name}": tensor.contiguous() for name, tensor in hugging_face.state_dict().items()}
    state |= {"pooler.query_tokens": torch.zeros(1, 1, 192), "classifier.weight": torch.zeros(4, 192)}
    path = tmp_path / f"classifier{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(state, path)
    model, report = load_vit(path)
    torch.testing.assert_close(model(frames), tokens_of(hugging_face, frames), atol=1e-5, rtol=0)
    assert report.dropped == ("classifier", "pooler", "predictor")


def test_bfloat16_within_rounding(hugging_face, frames, tmp_path):
    hugging_face.save_pretrained(tmp_path)
    model = load_vit(tmp_path)[0]
    exact = tokens_of(hugging_face, frames)
    with torch.autocast("cpu", torch.bfloat16):
        ours = model(frames).float()
    theirs = tokens_of(copy.deepcopy(hugging_face).bfloat16(), frames.bfloat16()).float()
    rms = exact.square().mean().sqrt()
    assert (ours - exact).square().mean().sqrt() < 0.02 * rms
    # Half-precision runs differ from each other, but ours is no farther from the exact tokens than the reference's is.
    assert (ours - exact).square().mean() <= 1.2 * (theirs - exact).square().mean()


def test_folder_of_another_model(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "videomae"}')
    with pytest.raises(InputError, match=r"a model of type 'videomae'.*expected 'vjepa2'"):
        load_vit(tmp_path)


def test_folder_that_lacks_a_key(hugging_face, tmp_path):
    state = hugging_face.state_dict()
    del state["encoder.layer.1.attention.key.bias"]
    torch.save(state, tmp_path / "lacking.bin")
    with pytest.raises(InputError, match=r"blocks\.1\.attn\.qkv\.bias is missing"):
        load_vit(tmp_path / "lacking.bin")
