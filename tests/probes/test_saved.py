"""A probe saved and loaded predicts the same."""

import json

import numpy as np
import pytest

from echolung.errors import InputError
from echolung.probes import PROBES, Features, Job, Probe, Training, load_probe
from echolung.probes.saved import softmax

REGRESSIONS = [name for name, kind in PROBES.items() if kind.regression]


VARIANTS = [
    ("mlp", {"batch_norm": "yes", "hidden": "12x8"}),
    ("mlp", {"batch_norm": "yes", "hidden": "12", "norm": "batch", "dropout": 0.4, "input_dropout": 0.4}),
    ("mlp", {"hidden": "none", "norm": "none"}),
    ("attentive", {"depth": 3}),
    ("attentive-lite", {"queries": 2}),
    ("linear", {"loss": "coral"}),
    ("mlp", {"loss": "coral", "batch_norm": "yes"}),
]


def fit(name: str, regression: bool, given: dict | None = None, segments: int = 1) -> tuple[Probe, Features]:
    random = np.random.default_rng(0)
    tokens = segments if PROBES[name].pooled else 5 * segments
    values = random.normal(size=(20, 1, tokens, 16)).astype(np.float32)
    features = Features(tuple(map(str, range(20))), values, segments)
    targets = (50 + 9 * random.normal(size=20)).astype(np.float32) if regression else np.arange(20) % 3
    job = Job(
        {**PROBES[name].settings[-1], **(given or {})}, np.arange(20) < 15, keep=2 if PROBES[name].epochs > 1 else 1
    )
    outputs = 1 if regression else 3
    looks = {}
    arrays = PROBES[name].fit(
        features, targets, outputs, [job], Training(2), lambda epoch, i, values: looks.update({epoch: values[0]})
    )[0]
    probe = Probe(name, () if regression else ("no", 'maybe, "so"', "yes"), arrays, {"setting": dict(job.setting)})
    expected = looks[job.keep] if regression else softmax(looks[job.keep])
    np.testing.assert_allclose(probe.predict(features), expected, rtol=1e-4, atol=1e-6)
    return probe, features


@pytest.mark.parametrize(
    ("name", "regression"), [(n, False) for n in PROBES] + [(n, True) for n in REGRESSIONS], ids=str
)
def test_a_loaded_probe_predicts_the_same(name, regression, tmp_path):
    probe, features = fit(name, regression)
    probe.save(tmp_path)
    for place in (tmp_path, tmp_path / "probe.safetensors", str(tmp_path)):
        loaded = load_probe(place)
        assert (loaded.kind, loaded.classes, loaded.about) == (probe.kind, probe.classes, probe.about)
        np.testing.assert_array_equal(loaded.predict(features), probe.predict(features))
    if not regression:
        np.testing.assert_allclose(loaded.predict(features).sum(1), 1, atol=1e-6)
    assert json.loads((tmp_path / "probe.json").read_text())["kind"] == name


@pytest.mark.parametrize(
    ("name", "given"), VARIANTS, ids=lambda value: value if isinstance(value, str) else "-".join(value)
)
@pytest.mark.parametrize("segments", [1, 3])
def test_so_does_one_of_another_shape(name: str, given: dict, segments: int, tmp_path):
    """What shapes a head is in the setting that is saved with it; `fit` compares with what the bank itself gave."""
    probe, features = fit(name, regression=False, given=given, segments=segments)
    probe.save(tmp_path)
    loaded = load_probe(tmp_path)
    assert loaded.about["setting"].items() >= given.items()
    np.testing.assert_array_equal(loaded.predict(features), probe.predict(features))


def test_what_is_no_probe_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no saved probe at .*probe\.safetensors"):
        load_probe(tmp_path)
    with pytest.raises(InputError, match="no saved probe"):
        load_probe(tmp_path / "nowhere.safetensors")
    broken = tmp_path / "probe.safetensors"
    broken.write_bytes(b"no safetensors at all")
    with pytest.raises(InputError, match="no saved probe"):
        load_probe(broken)
    from safetensors.numpy import save_file

    for metadata in (None, {"echolung.probe": "{}"}, {"echolung.probe": "half"}):
        save_file({"w": np.zeros(2)}, broken, metadata=metadata)
        with pytest.raises(InputError, match="no saved probe"):
            load_probe(broken)
    save_file({"w": np.zeros(2)}, broken, metadata={"echolung.probe": '{"kind": "oracle", "classes": []}'})
    with pytest.raises(InputError, match="'oracle'"):
        load_probe(tmp_path)


def test_a_truncated_file_is_refused(tmp_path):
    probe, _ = fit("linear", regression=False)
    probe.save(tmp_path)
    file = tmp_path / "probe.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(InputError, match="no saved probe"):
        load_probe(tmp_path)


def test_softmax():
    logits = np.array([[0.0, 1.0, 2.0], [1e4, 0.0, -1e4], [-1e4, -1e4, -1e4]])
    e = np.exp([0, 1, 2])
    np.testing.assert_allclose(softmax(logits), [e / e.sum(), [1, 0, 0], [1 / 3] * 3], atol=1e-7)
    assert softmax(logits).dtype == np.float32


def test_settings_go_from_cautious_to_bold():
    for kind in PROBES.values():
        rates = [(s["lr"], -s["weight_decay"]) for s in (*kind.settings,) if "lr" in s]
        assert rates == sorted(rates)
    assert [s["C"] for s in PROBES["logistic"].settings] == sorted(s["C"] for s in PROBES["logistic"].settings)
    assert [s["k"] for s in PROBES["knn"].settings] == sorted((s["k"] for s in PROBES["knn"].settings), reverse=True)
    seed = {(s["lr"], s["weight_decay"]) for s in PROBES["attentive"].seed_settings}
    assert seed == {(lr, wd) for lr in (1e-4, 5e-5, 1e-5) for wd in (0.04, 0.004, 0.0004)}
