"""Probes that begin from a saved head: CoReEcho's second stage against torch, what fits and what is refused."""

import numpy as np
import pytest
import torch
from torch import nn

from echolung.errors import InputError
from echolung.probes import PROBES, Features, Job, Probe, Training
from echolung.probes.bank import draw_batches
from echolung.probes.start import Start, load_start

V, D, H = 40, 16, 12
REGRESSOR = {"hidden": str(H), "norm": "batch", "batch_norm": "yes"}
SECOND_STAGE = {**REGRESSOR, "loss": "l1", "lr": 1e-4, "weight_decay": 1e-4, "schedule": "constant", "epochs": 5}


def sequential(outputs: int = 1) -> nn.Sequential:
    """Return CoReEcho's regressor, trained a little so that nothing is at its initial value."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.BatchNorm1d(D), nn.Dropout(0.0), nn.Linear(D, H), nn.BatchNorm1d(H), nn.GELU(), nn.Dropout(0.0), nn.Linear(H, outputs)
    )  # fmt: skip
    net[-1].bias.data.fill_(55.6)
    adam = torch.optim.AdamW(net.parameters(), lr=1e-2)
    for _ in range(20):
        x = torch.randn(32, D)
        adam.zero_grad()
        (net(x) - 55.6 - 5 * x[:, :outputs]).abs().mean().backward()
        adam.step()
    return net


def arrays_of(net: nn.Sequential) -> dict[str, np.ndarray]:
    """Return the head's arrays under the names that a saved probe has."""
    names = {"norm": net[0], "hidden0": net[2], "hidden0.bn": net[3], "linear": net[6]}
    found = {f"{name}.{part}": getattr(layer, part) for name, layer in names.items() for part in ("weight", "bias")}
    for name in ("norm", "hidden0.bn"):
        found |= {f"{name}.mean": names[name].running_mean, f"{name}.var": names[name].running_var}
    return {name: value.detach().numpy().copy() for name, value in found.items()}


def features(views: int = 1, segments: int = 1) -> Features:
    values = np.random.default_rng(1).normal(size=(V, views, segments, D)).astype(np.float32)
    return Features(tuple(map(str, range(V))), values, segments)


def ef(data: Features) -> np.ndarray:
    random = np.random.default_rng(2)
    return (55 + 8 * data.values[:, 0].mean(1)[:, 0] + random.normal(size=V)).astype(np.float32)


def head(**about) -> Probe:
    return Probe("mlp", (), arrays_of(sequential()), {"setting": REGRESSOR, **about})


@pytest.mark.parametrize("views", [1, 3])
def test_the_second_stage_is_torchs_training_of_the_same_regressor(views: int):
    """L1 in the label's unit, AdamW, a constant rate, one view of a video an epoch, BatchNorm of training clips alone."""
    data, net = features(views), sequential()
    truth, train = ef(data), np.arange(V) < 30
    looks = {}
    jobs = [Job({**SECOND_STAGE, "lr": lr}, train, keep=5) for lr in (1e-4, 1e-3)]
    training = Training(5, 8, seed=3, start=arrays_of(net))
    arrays = PROBES["mlp"].fit(
        data, truth, 1, jobs, training, lambda epoch, places, values: looks.update({epoch: values.copy()})
    )[0]
    adam = torch.optim.AdamW(net.parameters(), lr=1e-4, weight_decay=1e-4)
    for epoch in range(1, 6):
        net.train()
        for videos, views_shown in draw_batches(np.flatnonzero(train), views, 8, 3, epoch):
            shown = np.zeros(len(videos), int) if views_shown is None else views_shown
            adam.zero_grad()
            outputs = net(torch.from_numpy(data.values[videos, shown, 0]))[:, 0]
            (outputs - torch.from_numpy(truth[videos])).abs().mean().backward()
            adam.step()
        net.eval()
        with torch.no_grad():
            expected = net(torch.from_numpy(data.values[:, 0, 0])).numpy()
        np.testing.assert_allclose(looks[epoch][0], expected, atol=2e-3)
    for name, expected in arrays_of(net).items():
        if name not in ("norm.bias", "hidden0.bias", "hidden0.bn.mean"):  # BatchNorm takes these away again
            np.testing.assert_allclose(arrays[name], expected, rtol=1e-4, atol=1e-4, err_msg=name)
    assert arrays["target.shift"] == 0 and arrays["target.scale"] == 1


def test_a_head_in_the_labels_unit_predicts_what_the_net_does():
    data, net = features(), sequential().eval()
    for extra in ({}, {"target.shift": np.zeros(1, np.float32), "target.scale": np.ones(1, np.float32)}):
        probe = Probe("mlp", (), arrays_of(net) | extra, {"setting": REGRESSOR})
        with torch.no_grad():
            np.testing.assert_allclose(probe.predict(data), net(torch.from_numpy(data.values[:, 0, 0])), rtol=1e-5)


def test_one_linear_layer_is_a_head_too():
    data, weight = features(), np.random.default_rng(0).normal(size=(1, D)).astype(np.float32)
    arrays = {"linear.weight": weight, "linear.bias": np.full(1, 55.6, np.float32)}
    probe = Probe("mlp", (), arrays, {"setting": {"hidden": "none", "norm": "none"}})
    np.testing.assert_allclose(probe.predict(data), data.values[:, 0, 0] @ weight.T + 55.6, rtol=1e-5)


def test_the_mean_of_three_clips_is_the_mean_of_three_predictions():
    """Late fusion, EchoNet's protocol: each clip is predicted by itself, in the label's unit; views have no part in it."""
    data, probe = features(views=2, segments=3), head()
    clips = [
        probe.predict(Features(data.video_ids, np.ascontiguousarray(data.values[:, :1, i : i + 1]))) for i in range(3)
    ]
    np.testing.assert_allclose(probe.predict(data), np.mean(clips, axis=0), rtol=1e-5)
    assert np.abs(clips[0] - clips[1]).mean() > 0.5
    joined = Features(data.video_ids, data.values.mean(2, keepdims=True))  # early fusion is another thing
    assert np.abs(probe.predict(joined) - np.mean(clips, axis=0)).max() > 0.1


def test_a_bank_predicts_the_mean_of_three_clips_too():
    data = features(segments=3)
    looks = {}
    job = Job({**SECOND_STAGE, "lr": 1e-7, "weight_decay": 0.0}, np.arange(V) < 20, keep=1)
    training = Training(5, 8, start=head().arrays)
    arrays = PROBES["mlp"].fit(data, ef(data), 1, [job], training, lambda e, p, values: looks.update({e: values[0]}))[0]
    after = Probe("mlp", (), arrays, {"setting": job.setting})
    clips = [
        after.predict(Features(data.video_ids, np.ascontiguousarray(data.values[:, :, i : i + 1]))) for i in range(3)
    ]
    np.testing.assert_allclose(looks[1], np.mean(clips, axis=0), rtol=1e-4)


# ---- what is a start ---------------------------------------------------------------------------------------------------


def test_it_is_found_by_folder_file_run_and_checkpoint(echolung_home, tmp_path):
    probe = head(dataset="echonet-dynamic")
    places = [tmp_path / "somewhere", echolung_home / "runs" / "a-run", echolung_home / "checkpoints" / "core.v2.head"]
    for place in places:
        place.mkdir(parents=True)
        probe.save(place)
    (echolung_home / "checkpoints" / "core.v2.safetensors").write_bytes(b"an encoder")
    file = echolung_home / "checkpoints" / "core.v2.safetensors"
    names = {str(places[0]): "somewhere", str(places[0] / "probe.safetensors"): "somewhere", "a-run": "a-run"}
    for asked, name in (names | {"core.v2": "core.v2.head", str(file): "core.v2.head"}).items():
        start = load_start(asked)
        assert start.name == name and start.seen == ("echonet-dynamic",) and len(start.digest) == 64
        np.testing.assert_array_equal(start.probe.arrays["linear.bias"], probe.arrays["linear.bias"])
    with pytest.raises(InputError, match=r"no head nothing.*checkpoints/nothing\.head"):
        load_start("nothing")


def start_of(probe: Probe) -> Start:
    return Start(probe, "core.head", "0" * 64)


def test_its_shape_stays_and_the_rest_may_be_given():
    start = start_of(Probe("mlp", (), head().arrays, {"setting": {**REGRESSOR, "dropout": 0.4, "input_dropout": 0.4}}))
    assert start.hyper({"lr": "1e-4", "dropout": 0.1}) == {
        "hidden": "12", "norm": "batch", "batch_norm": "yes", "dropout": 0.1, "input_dropout": 0.4, "lr": "1e-4",
    }  # fmt: skip
    assert start.hyper(start.hyper({})) == start.hyper({})
    for given in ({"hidden": "256"}, {"norm": ["batch", "layer"]}, {"batch_norm": "no"}, {"loss": "coral"}):
        with pytest.raises(InputError, match=next(iter(given))):
            start.hyper(given)


def test_an_older_file_names_only_what_is_not_at_its_default():
    start = start_of(Probe("mlp", (), {}, {"setting": {"lr": 1e-3, "hidden": "12x8"}}))
    assert (start.setting["norm"], start.setting["input_dropout"], start.setting["batch_norm"]) == ("layer", 0, "no")
    with pytest.raises(InputError, match="at once"):
        start_of(Probe("logistic", ("a", "b"), {}, {})).hyper({})


def test_shapes_that_do_not_fit_are_named():
    start = start_of(head())
    start.check_shapes(D, 1)
    with pytest.raises(InputError, match=r"hidden0\.weight is 12 × 16.*width 20.*12 × 20|norm\.weight is 16.*20"):
        start.check_shapes(20, 1)
    with pytest.raises(InputError, match=r"linear\.weight is 1 × 12, .*3 outputs it would be 3 × 12"):
        start.check_shapes(D, 3)
