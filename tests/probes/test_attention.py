"""Attention maps of saved probes against a textbook that forms keys and values."""

import math

import numpy as np
import pytest
import torch

from echolung.errors import InputError
from echolung.probes import Features, Probe
from echolung.probes.attention import attends, attention_maps
from echolung.probes.heads import ATTENTIVE, attention_heads, attentive_deep, attentive_lite

D, N, V, CLASSES = 48, 12, 4, 3
KINDS = {"attentive": "attentive", "deep": "attentive", "lite": "attentive-lite"}
every_kind = pytest.mark.parametrize("kind", KINDS)


def trained(textbook, kind: str, dim: int = D):
    """Return a textbook probe whose attention is far from uniform, and the same as a saved probe."""
    generator = torch.Generator().manual_seed(1)
    module = textbook(kind, dim, CLASSES, attention_heads(dim)).eval()
    for name, value in module.named_parameters():
        spread = 0.5 if value.dim() == 1 else 2 / math.sqrt(value.shape[-1])
        value.data = (
            spread * (4 if name == "query" and kind == "lite" else 1) * torch.randn(value.shape, generator=generator)
        )
    arrays = {name: value.numpy() for name, value in module.state_dict().items()}
    return module, Probe(KINDS[kind], ("a", "b", "c"), arrays, {"setting": {"depth": 4} if kind == "deep" else {}})


def features(dim: int = D, segments: int = 1, dtype: type = np.float16) -> Features:
    values = 3 * np.random.default_rng(0).normal(size=(V, 2, N, dim)) + 1  # view 1 is never looked at
    return Features(tuple(f"v{i}" for i in range(V)), values.astype(dtype), segments)


def textbook_attention(module, kind: str, tokens: torch.Tensor) -> torch.Tensor:
    """Return softmax(q · k / √width) of every head [b, heads, n], keys formed."""
    b, n, d = tokens.shape
    if kind == "lite":
        return (torch.einsum("bnd,md->bmn", module.norm(tokens), module.query) / math.sqrt(d)).softmax(-1)
    for block in getattr(module, "blocks", ()):
        tokens = block(tokens)
    heads = attention_heads(d)
    keys = module.k(module.norm1(tokens)).reshape(b, n, heads, -1)
    queries = module.q(module.query).reshape(heads, -1)
    return (torch.einsum("bnhe,he->bhn", keys, queries) / math.sqrt(d // heads)).softmax(-1)


@every_kind
@pytest.mark.parametrize("dim", [D, 40], ids=["16 heads", "10 heads"])
def test_maps_are_the_textbooks(textbook, kind: str, dim: int):
    module, probe = trained(textbook, kind, dim)
    found = attention_maps(probe, features(dim))
    with torch.no_grad():
        expected = textbook_attention(module, kind, torch.from_numpy(features(dim).held[:, 0]).float()).numpy()
    assert found.shape == (V, 4 if kind == "lite" else attention_heads(dim), N)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
    assert np.median(found.max(-1)) > 1.5 / N  # or a wrong score would go unseen


@every_kind
def test_what_a_map_pools_is_what_the_probe_predicts_from(textbook, kind: str):
    """Values weighed by the map, then the rest of the textbook module: the saved probe's own probabilities."""
    module, probe = trained(textbook, kind)
    maps = torch.from_numpy(attention_maps(probe, features()))
    tokens = torch.from_numpy(features().held[:, 0]).float()
    with torch.no_grad():
        for block in getattr(module, "blocks", ()):
            tokens = block(tokens)
        if kind == "lite":
            parts = module.norm(tokens).reshape(V, N, 4, -1)
            outputs = module.linear(torch.einsum("bmn,bnmw->bmw", maps, parts).reshape(V, D))
        else:
            values = module.v(module.norm1(tokens)).reshape(V, N, maps.shape[1], -1)
            x = module.query + torch.einsum("bhn,bnhe->bhe", maps, values).reshape(V, D)
            outputs = module.linear(x + module.fc2(torch.nn.functional.gelu(module.fc1(module.norm2(x)))))
    np.testing.assert_allclose(probe.predict(features()), outputs.softmax(-1).numpy(), atol=1e-4)


@every_kind
def test_late_fusion_attends_within_each_segment(textbook, kind: str):
    _, probe = trained(textbook, kind)
    both = features(segments=2)
    found = attention_maps(probe, both)
    halves = [
        attention_maps(probe, Features(both.video_ids, both.held[:, :, half])) for half in np.split(np.arange(N), 2)
    ]
    np.testing.assert_allclose(found, np.concatenate(halves, -1), atol=1e-6)
    np.testing.assert_allclose(found.sum(-1), 2, atol=1e-5)


def test_of_some_videos(textbook):
    _, probe = trained(textbook, "attentive")
    chosen = np.array([2, 0])
    np.testing.assert_array_equal(
        attention_maps(probe, features().select(chosen)), attention_maps(probe, features())[chosen]
    )


def test_a_fitted_probe_of_numbers_has_maps_too(write_classes):
    from echolung.evaluation import cross_validate
    from echolung.probes import load_features

    store = write_classes(tokens=6)
    probe = cross_validate(store, task="number", probe="attentive-lite", cv=3, epochs=2).probe
    maps = attention_maps(probe, load_features(store, pooled=False))
    assert maps.shape == (48, 4, 12) and np.allclose(maps.sum(-1), 1, atol=1e-5)


@pytest.mark.parametrize("head", [ATTENTIVE, attentive_deep(2), attentive_lite(3)], ids=["attentive", "deep", "lite"])
def test_stacked_probes_have_the_maps_they_have_alone(head):
    drawn = [head.init(D, CLASSES, torch.Generator().manual_seed(seed)) for seed in range(3)]
    stacked = {name: torch.stack([one[name] for one in drawn]) for name in drawn[0]}
    tokens = head.normalise(torch.randn(V, N, D, generator=torch.Generator().manual_seed(0)))
    maps = head.attention(stacked, tokens)
    for i, one in enumerate(drawn):
        alone = head.attention({name: value[None] for name, value in one.items()}, tokens)
        torch.testing.assert_close(maps[:, i], alone[:, 0])


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        ("linear", features(), "A linear probe has no attention"),
        ("attentive", features(40), "width 48, and there are tokens of width 40"),
        ("attentive", Features(("v",), np.zeros((1, 1, 1, D), np.float32)), "there are their mean only"),
    ],
)
def test_no_attention_to_be_had(textbook, kind, given, message):
    arrays = trained(textbook, "attentive")[1].arrays
    assert attends(Probe(kind, (), arrays, {})) == (kind != "linear")
    with pytest.raises(InputError, match=message):
        attention_maps(Probe(kind, (), arrays, {}), given)
