"""Jobs packed into banks: passes, groups, memory, what is kept and what is shown."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echolung.errors import InputError
from echolung.probes import PROBES, Features, Job, Training
from echolung.probes.banked import EPOCHS, _packed

V, N, D, CLASSES = 20, 6, 32, 3
KINDS = ("linear", "mlp", "attentive-lite", "attentive")
every_kind = pytest.mark.parametrize("name", KINDS)


def features(name: str) -> Features:
    values = np.random.default_rng(0).normal(size=(V, 1, N, D)).astype(np.float16)
    if PROBES[name].pooled:
        values = values.astype(np.float32).mean(2, keepdims=True)
    return Features(tuple(f"v{i}" for i in range(V)), values)


def targets() -> np.ndarray:
    return np.random.default_rng(3).integers(CLASSES, size=V)


def members(count: int = 6) -> np.ndarray:
    return np.random.default_rng(2).random((count, V)) < 0.6


def fit(name: str, jobs: list[Job], training: Training, leave=lambda epoch, indices: ()):
    """Return arrays, outputs by job and epoch, and the calls: the epoch and the jobs of each."""
    looks: dict[tuple[int, int], np.ndarray] = {}
    calls: list[tuple[int, tuple[int, ...]]] = []

    def look(epoch: int, indices, outputs: np.ndarray):
        assert outputs.shape[:2] == (len(indices), V)
        calls.append((epoch, tuple(indices)))
        looks.update({(i, epoch): output for i, output in zip(indices, outputs, strict=True)})
        return leave(epoch, indices)

    kept = PROBES[name].fit(features(name), targets(), CLASSES, jobs, training, look)
    return kept, looks, calls


@every_kind
def test_several_passes_are_one_pass(name: str, monkeypatch):
    settings = PROBES[name].settings
    keep = [None, 2, 3, 1, 3, 3]
    jobs = [Job(settings[i % len(settings)], member, keep=keep[i]) for i, member in enumerate(members())]
    kept, looks, calls = fit(name, jobs, Training(3, 4))
    assert (calls[0][0], sorted(calls[0][1])) == (1, list(range(6)))
    for room in (1, 2, 4):
        monkeypatch.setattr("echolung.probes.banked._room", lambda *_, room=room: room)
        kept_again, looks_again, calls_again = fit(name, jobs, Training(3, 4))
        assert looks_again.keys() == looks.keys() == {(i, e) for i in range(6) for e in range(1, (keep[i] or 3) + 1)}
        assert max(len(indices) for _, indices in calls_again) <= room
        for key, outputs in looks_again.items():
            np.testing.assert_allclose(outputs, looks[key], rtol=1e-3, atol=1e-5)
        for job, arrays, again in zip(jobs, kept, kept_again, strict=True):
            assert (arrays is None) == (again is None) == (job.keep is None)
            for key in arrays or {}:
                if key != "k.bias":
                    np.testing.assert_allclose(again[key], arrays[key], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("given", [{}, {"batch_norm": "yes"}, {"loss": "coral"}, {"hidden": "8x4"}])
def test_an_mlps_ways_are_one_pass_too(given: dict, monkeypatch):
    jobs = [Job({**PROBES["mlp"].settings[0], **given}, member) for member in members(4)]
    _, looks, _ = fit("mlp", jobs, Training(2, 6))
    monkeypatch.setattr("echolung.probes.banked._room", lambda *_: 1)
    _, again, _ = fit("mlp", jobs, Training(2, 6))
    for key, outputs in again.items():
        np.testing.assert_allclose(outputs, looks[key], rtol=1e-3, atol=1e-5)


def test_probes_of_other_shapes_learn_the_same_beside_each_other():
    """Different structure makes different banks; results do not depend on who else is asked for."""
    ways = [{"depth": 1}, {"depth": 2}, {"depth": 1, "loss": "coral"}, {"depth": 2, "dropout": 0.3}]
    jobs = [Job({"lr": 1e-3, **way}, member, keep=2) for way, member in zip(ways, members(4), strict=True)]
    everyone = Training(2, 4)
    kept, looks, calls = fit("attentive", jobs, everyone)
    assert sorted({indices for _, indices in calls}) == [(0,), (1, 3), (2,)]
    assert all(arrays is not None for arrays in kept)
    for i, arrays in enumerate(kept):
        predicted = PROBES["attentive"].predict(arrays, features("attentive"), jobs[i].setting)
        np.testing.assert_allclose(predicted, looks[i, 2], rtol=1e-3, atol=1e-4)


def test_losses_other_than_coral_share_a_bank():
    jobs = [Job({"lr": 1e-3, "loss": loss}, np.ones(V, bool)) for loss in ("auto", "cross-entropy", "coral", "coral")]
    _, looks, calls = fit("linear", jobs, Training(2, 4))
    assert sorted({indices for _, indices in calls}) == [(0, 1), (2, 3)]
    np.testing.assert_allclose(looks[0, 2], looks[1, 2], atol=1e-6)


@every_kind
def test_jobs_of_a_group_come_in_one_call(name: str, monkeypatch):
    setting = PROBES[name].settings[0]
    groups = [0, 1, 0, None, 1, 0]
    jobs = [Job(setting, member, group=group) for group, member in zip(groups, members(), strict=True)]
    monkeypatch.setattr("echolung.probes.banked._room", lambda *_: 3)
    _, _, calls = fit(name, jobs, Training(2, 4))
    for epoch in (1, 2):
        passes = [set(indices) for e, indices in calls if e == epoch]
        assert sorted(i for indices in passes for i in indices) == list(range(6))
        assert any({0, 2, 5} <= indices for indices in passes)
        assert any({1, 4} <= indices for indices in passes)


@given(
    groups=st.lists(st.none() | st.integers(0, 4), min_size=1, max_size=30),
    room=st.integers(1, 12),
)
def test_passes_hold_everyone_once_within_room_and_groups_together(groups: list[int | None], room: int):
    members = [3 * i for i in range(len(groups))]
    passes = list(_packed(members, groups, room))
    assert sorted(i for indices in passes for i in indices) == members
    assert all(0 < len(indices) <= room for indices in passes)
    for group in {g for g in groups if g is not None}:
        own = {i for i, g in zip(members, groups, strict=True) if g == group}
        assert len(own) > room or any(own <= set(indices) for indices in passes)
    if all(group is None for group in groups):
        assert len(passes) == -(-len(groups) // room)
        assert max(map(len, passes)) - min(map(len, passes)) <= len(passes)


@every_kind
def test_jobs_sent_away_are_heard_of_no_more(name: str):
    jobs = [Job(PROBES[name].settings[0], member, keep=4) for member in members()]
    _, whole, _ = fit(name, jobs, Training(4, 4))
    kept, looks, calls = fit(name, jobs, Training(4, 4), lambda epoch, _: {1: [0, 4], 3: [1, 2]}.get(epoch, []))
    assert calls == [(1, (0, 1, 2, 3, 4, 5)), (2, (1, 2, 3, 5)), (3, (1, 2, 3, 5)), (4, (3, 5))]
    assert [arrays is not None for arrays in kept] == [False, False, False, True, False, True]
    for key, outputs in looks.items():
        np.testing.assert_allclose(outputs, whole[key], rtol=1e-3, atol=1e-5)


def test_jobs_with_epochs_of_their_own_end_when_they_end():
    jobs = [
        Job({"lr": 1e-3, "epochs": epochs}, np.ones(V, bool), keep=keep) for epochs, keep in ((2, 2), (4, None), (4, 3))
    ]
    kept, looks, calls = fit("linear", jobs, Training(3, 4))
    assert calls == [(1, (0, 1, 2)), (2, (0, 1, 2)), (3, (1, 2)), (4, (1,))]
    assert [arrays is not None for arrays in kept] == [True, False, True]
    np.testing.assert_allclose(looks[1, 3], looks[2, 3], atol=1e-6)  # the schedule is the same, wherever it is left
    assert np.abs(looks[0, 2] - looks[1, 2]).max() > 1e-4


@every_kind
def test_watching_a_few_shows_the_same_of_them(name: str):
    masks = [np.arange(V) % 4 == 0, np.arange(V) % 4 < 2]
    settings = PROBES[name].settings[:2]
    blind = [Job(s, m) for s, m in zip(settings, members(2), strict=True)]
    jobs = [Job(s, m, watch=w) for s, m, w in zip(settings, members(2), masks, strict=True)]
    _, whole, _ = fit(name, blind, Training(3, 4))
    _, looks, _ = fit(name, jobs, Training(3, 4))
    for (i, epoch), outputs in looks.items():
        assert np.isnan(outputs[~masks[i]]).all()
        np.testing.assert_allclose(outputs[masks[i]], whole[i, epoch][masks[i]], rtol=1e-3, atol=1e-5)
    _, mixed, _ = fit(name, [jobs[0], blind[1]], Training(3, 4))
    assert all(np.isfinite(outputs).all() == (i == 1) for (i, _), outputs in mixed.items())


@every_kind
def test_too_little_memory_is_said_with_what_is_needed(name: str):
    job = Job(PROBES[name].settings[0], members()[0])
    with pytest.raises(InputError, match=r"--memory leaves 0.001 kB .* a batch of 4 takes [\d.]+ kB\. Allow more"):
        fit(name, [job], Training(1, 4, memory=1.0))


def test_what_a_setting_does_not_say_is_at_its_default():
    """Job.setting: "the rest are at their defaults"."""
    hyper = PROBES["linear"].hyper
    jobs = [Job({}, np.ones(V, bool)), Job({"lr": hyper["lr"].default, "weight_decay": 0.04}, np.ones(V, bool))]
    _, looks, _ = fit("linear", jobs, Training(2, 4))
    np.testing.assert_allclose(looks[0, 2], looks[1, 2], atol=1e-6)


def test_the_estimate_grows_with_the_work():
    kind, jobs = PROBES["linear"], [Job(PROBES["linear"].settings[0], member) for member in members()]
    arguments = features("linear"), targets(), CLASSES, jobs
    short, long = (kind.estimate(*arguments, Training(epochs)) for epochs in (10, 100_000))
    assert 0 < short < long
    assert kind.epochs == EPOCHS


@pytest.mark.parametrize("name", ["attentive-lite", "attentive"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_features_made_ready_once_teach_the_same(name: str, precision: str):
    kind, raw, training = PROBES[name], features(name), Training(3, 4, precision=precision)
    jobs = [Job(kind.settings[0], member, keep=3) for member in members(2)]
    ready, left = kind.prepare(raw, [job.setting for job in jobs], training)
    assert ready.standardised and not raw.standardised
    assert left.memory < training.memory
    kept, again = (
        kind.fit(data, targets(), CLASSES, jobs, how, lambda *_: None) for data, how in ((raw, training), (ready, left))
    )
    for i in range(2):
        expected = kind.predict(kept[i], raw, jobs[i].setting)
        for data, arrays in ((raw, again[i]), (ready, kept[i])):
            tolerance = 1e-5 if precision == "float32" else 1e-2
            np.testing.assert_allclose(
                kind.predict(arrays, data, jobs[i].setting), expected, rtol=tolerance, atol=tolerance
            )


def test_only_what_is_normalised_token_by_token_is_made_ready():
    training = Training(3, 4)
    for name, settings in (("linear", [{}]), ("mlp", [{}]), ("attentive", [{"depth": 1}, {"depth": 2}])):
        raw = features(name)
        assert PROBES[name].prepare(raw, settings, training) == (raw, training)
    raw = features("attentive")
    assert PROBES["attentive"].prepare(raw, [{}], Training(3, 4, memory=1000.0))[0] is raw
