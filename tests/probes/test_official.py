"""Published probes: Meta's names and Hugging Face's, against modules that compute as theirs do."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from echolung.errors import InputError
from echolung.probes import Features, load_probe
from echolung.probes.official import load_official_probe
from echolung.probes.saved import softmax

D, N, V, CLASSES = 32, 7, 5, 4


def features() -> Features:
    values = 2 * np.random.default_rng(0).normal(size=(V, 1, N, D)) + 1
    return Features(tuple(f"v{i}" for i in range(V)), values.astype(np.float16))


def shaken(module: nn.Module, seed: int = 0) -> nn.Module:
    """Move every parameter far from where it starts: attention must not be uniform, no bias 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in module.parameters():
            spread = 0.3 if value.dim() == 1 else 2 / value.shape[-1] ** 0.5
            value.add_(spread * torch.randn(value.shape, generator=generator))
    return module.eval()


def metas_names(state: dict[str, torch.Tensor], prefix: str = "") -> dict[str, torch.Tensor]:
    """Return a textbook module's state as Meta's evaluation saves it."""
    cross = "pooler.cross_attention_block"
    named = {"pooler.query_tokens": state["query"][None, None]}
    for what in ("weight", "bias"):
        named |= {f"{cross}.{n}.{what}": state[f"{n}.{what}"] for n in ("norm1", "norm2")}
        named |= {f"{cross}.mlp.{n}.{what}": state[f"{n}.{what}"] for n in ("fc1", "fc2")}
        named[f"{cross}.xattn.q.{what}"] = state[f"q.{what}"]
        named[f"{cross}.xattn.kv.{what}"] = torch.cat([state[f"k.{what}"], state[f"v.{what}"]])
        named[f"linear.{what}"] = state[f"linear.{what}"]
    named |= {f"pooler.{name}": value for name, value in state.items() if name.startswith("blocks.")}
    return {prefix + name: value for name, value in named.items()}


def checkpoint(textbook, path: Path, kinds: tuple[str, ...] = ("deep",), prefix: str = "module.") -> list[nn.Module]:
    modules = [shaken(textbook(kind, D, CLASSES), seed) for seed, kind in enumerate(kinds)]
    states = [metas_names(module.state_dict(), prefix) for module in modules]
    torch.save({"classifiers": states, "epoch": 20, "opt": [{"state": {}}], "scaler": None, "batch_size": 4}, path)
    return modules


@pytest.mark.parametrize("prefix", ["", "module."])
def test_metas_probes_compute_what_they_did(textbook, tmp_path, prefix: str):
    modules = checkpoint(textbook, tmp_path / "ssv2.pt", ("deep", "attentive", "deep"), prefix)
    tokens = torch.from_numpy(features().values[:, 0]).float()
    for head, (module, depth) in enumerate(zip(modules, (4, 1, 4), strict=True)):
        probe = load_official_probe(tmp_path / "ssv2.pt", head=head, classes=["a", "b", "c", "d"])
        assert (probe.kind, probe.classes, probe.about["setting"]) == (
            "attentive",
            ("a", "b", "c", "d"),
            {"depth": depth},
        )
        assert {n: v.shape for n, v in probe.arrays.items()} == {n: v.shape for n, v in module.state_dict().items()}
        np.testing.assert_allclose(
            probe.predict(features()), softmax(module(tokens).detach().numpy()), rtol=1e-4, atol=1e-6
        )
    assert load_official_probe(tmp_path / "ssv2.pt").classes == ("0", "1", "2", "3")


def test_a_state_dict_alone_will_do_and_what_was_loaded_can_be_saved(textbook, tmp_path):
    module = shaken(textbook("deep", D, CLASSES))
    torch.save({k: v.half() for k, v in metas_names(module.state_dict()).items()}, tmp_path / "one.pth")
    probe = load_official_probe(tmp_path / "one.pth")
    assert all(value.dtype == np.float32 for value in probe.arrays.values())
    probe.save(tmp_path)
    np.testing.assert_array_equal(load_probe(tmp_path).predict(features()), probe.predict(features()))


def hugging_face(pooler_layers: int, heads: int = 16, eps: float = 1e-5):
    from transformers import VJEPA2Config, VJEPA2ForVideoClassification

    config = VJEPA2Config(
        hidden_size=D,
        num_attention_heads=heads,
        num_hidden_layers=1,
        num_pooler_layers=pooler_layers,
        pred_hidden_size=24,
        pred_num_attention_heads=2,
        pred_num_hidden_layers=1,
        crop_size=32,
        frames_per_clip=4,
        layer_norm_eps=eps,
        id2label={i: f"class {i}" for i in range(CLASSES)},
    )
    return shaken(VJEPA2ForVideoClassification(config))


@pytest.mark.parametrize("depth", [4, 1])
def test_hugging_faces_classifiers_logits_are_reproduced(tmp_path, depth: int):
    """Their num_pooler_layers counts blocks of self-attention: 3 is depth 4."""
    model = hugging_face(depth - 1)
    model.save_pretrained(tmp_path)
    tokens = torch.from_numpy(features().values[:, 0]).float()
    with torch.no_grad():
        logits = model.classifier(model.pooler(tokens)).numpy()
    assert logits.std(0).min() > 0.1
    for place in (tmp_path, tmp_path / "model.safetensors"):
        probe = load_official_probe(place)
        assert probe.classes == tuple(f"class {i}" for i in range(CLASSES))
        assert probe.about["setting"] == {"depth": depth}
        np.testing.assert_allclose(probe.predict(features()), softmax(logits), rtol=1e-4, atol=1e-6)
    assert not any(name.startswith("vjepa2") for name in probe.arrays)


def test_hugging_faces_own_epsilon_changes_logits_only_a_little(tmp_path):
    model = hugging_face(3, eps=1e-6)
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        expected = softmax(model.classifier(model.pooler(torch.from_numpy(features().values[:, 0]).float())).numpy())
    np.testing.assert_allclose(load_official_probe(tmp_path).predict(features()), expected, atol=1e-3)


def test_other_attention_heads_are_refused(tmp_path):
    hugging_face(0, heads=8).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"has 8 attention heads.*echolung's has 16 at a width of 32"):
        load_official_probe(tmp_path)


def changed(textbook, change) -> dict[str, torch.Tensor]:
    state = metas_names(textbook("deep", D, CLASSES).state_dict())
    change(state)
    return state


CROSS = "pooler.cross_attention_block."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop(f"{CROSS}xattn.kv.bias"), rf"lacks {CROSS}xattn\.kv\.bias\."),
        (lambda s: s.pop("linear.weight"), r"lacks linear\.weight"),
        (lambda s: s.pop("pooler.query_tokens"), r"lacks pooler\.query_tokens"),
        (lambda s: s.pop("pooler.blocks.1.attn.qkv.bias"), r"lacks pooler\.blocks\.1\.attn\.qkv\.bias"),
        (lambda s: [s.pop(n) for n in list(s) if "blocks.1." in n], r"lacks pooler\.blocks\.1\..* and 7 more"),
        (lambda s: s.update({"view_embed.weight": torch.zeros(2, D)}), r"does not know, view_embed\.weight"),
        (lambda s: s.update({"pooler.norm.weight": torch.zeros(D)}), r"does not know, pooler\.norm\.weight"),
        (
            lambda s: s.update({f"{CROSS}mlp.fc1.weight": torch.zeros(2 * D, D)}),
            r"fc1\.weight has the shape \(64, 32\), and \(128, 32\)",
        ),
        (lambda s: s.update({"pooler.query_tokens": torch.zeros(1, 2, D)}), r"query_tokens has the shape \(1, 2, 32\)"),
        (
            lambda s: s.update({"linear.weight": torch.zeros(3, D)}),
            r"linear\.weight has the shape \(3, 32\), and \(4, 32\)",
        ),
        (
            lambda s: s.update({f"{CROSS}xattn.kv.weight": torch.zeros(D, D)}),
            r"kv\.weight has the shape \(32, 32\), and \(64, 32\)",
        ),
        (lambda s: s.update({f"{CROSS}norm1.bias": torch.tensor(1.0)}), r"norm1\.bias has the shape \(\), and \(32,\)"),
    ],
)
def test_what_is_missing_unknown_or_of_another_shape_is_named(textbook, tmp_path, change, message: str):
    torch.save({"classifiers": [changed(textbook, change)]}, tmp_path / "probe.pt")
    with pytest.raises(InputError, match=message):
        load_official_probe(tmp_path / "probe.pt")


def test_files_that_are_none_are_refused(textbook, tmp_path):
    checkpoint(textbook, tmp_path / "probe.pt", ("attentive", "attentive"))
    for head in (2, -1):
        with pytest.raises(InputError, match=rf"no probe {head} in .* which has 2"):
            load_official_probe(tmp_path / "probe.pt", head=head)
    with pytest.raises(InputError, match="has 4 classes, and 2 names"):
        load_official_probe(tmp_path / "probe.pt", classes=["a", "b"])
    (tmp_path / "text.pt").write_text("nothing of the kind")
    (tmp_path / "text.safetensors").write_text("nothing of the kind")
    (tmp_path / "empty").mkdir()
    half = (tmp_path / "probe.pt").read_bytes()
    (tmp_path / "half.pt").write_bytes(half[: len(half) // 2])
    for name in ("text.pt", "half.pt", "none.pt", "text.safetensors", "none.safetensors", "empty"):
        with pytest.raises(InputError, match=r"cannot be read|no safetensors file"):
            load_official_probe(tmp_path / name)
    for content in ([1, 2], {"classifiers": [3]}, {"encoder": {}, "epoch": 3}, {"classifiers": []}):
        torch.save(content, tmp_path / "other.pt")
        with pytest.raises(InputError, match=r"no probe 0|no state dict"):
            load_official_probe(tmp_path / "other.pt")
    save_file({"vjepa2.encoder.weight": torch.zeros(2)}, tmp_path / "encoder.safetensors")
    with pytest.raises(InputError, match=r"lacks pooler\.query_tokens"):
        load_official_probe(tmp_path / "encoder.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({}))
    with pytest.raises(InputError, match="lacks"):
        load_official_probe(tmp_path / "encoder.safetensors")


def test_a_checkpoint_runs_no_code(tmp_path):
    class Harmful:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "harm",))

    torch.save({"classifiers": [Harmful()]}, tmp_path / "probe.pt")
    with pytest.raises(InputError, match="cannot be read"):
        load_official_probe(tmp_path / "probe.pt")
    assert not (tmp_path / "harm").exists()
