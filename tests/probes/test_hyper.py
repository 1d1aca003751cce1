"""What may be set, what is refused and how, and the order in which settings are tried."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echolung.errors import InputError
from echolung.probes import PROBES, Features, Job, Training, find_kind, settings_with
from echolung.probes.hyper import Choice, Number, read_setting

EVERY = [(probe, name) for probe, kind in PROBES.items() for name in kind.hyper]


@pytest.mark.parametrize(("probe", "name"), EVERY)
def test_defaults_and_what_studies_search_are_allowed(probe: str, name: str):
    value = PROBES[probe].hyper[name]
    assert value.read(name, value.default) == value.default == value.read(name, str(value.default))
    assert value.about
    for tried in value.search or ():
        assert value.read(name, tried) == tried
    if isinstance(value, Number):
        assert value.low <= value.default <= value.high
        assert not value.log or value.search is None or value.search[0] > 0


@pytest.mark.parametrize("probe", list(PROBES))
def test_settings_hold_what_a_kind_has(probe: str):
    kind = PROBES[probe]
    for setting in (*kind.settings, *kind.seed_settings):
        assert read_setting(probe, kind.hyper, setting) == setting


def test_texts_become_values():
    hyper = PROBES["mlp"].hyper
    given = {"lr": "1e-3", "epochs": "20", "hidden": "512X128", "batch_norm": "YES", "l1": 0}
    read = read_setting("mlp", hyper, given)
    assert read == {"lr": 1e-3, "epochs": 20, "hidden": "512x128", "batch_norm": "yes", "l1": 0.0}
    assert isinstance(read["epochs"], int) and isinstance(read["l1"], float)


@pytest.mark.parametrize(
    ("probe", "given", "message"),
    [
        (
            "linear",
            {"weigth_decay": 0.1},
            r"linear has no hyper-parameter 'weigth_decay'; it has lr, .*'weight_decay'\?",
        ),
        ("linear", {"depth": 4}, "no hyper-parameter 'depth'"),
        ("knn", {"lr": 1e-3}, "no hyper-parameter 'lr'; it has k"),
        ("linear", {"lr": "fast"}, "lr must be a number, and 'fast' is none"),
        ("linear", {"lr": None}, "lr must be a number"),
        ("linear", {"lr": 2}, "lr 2 must be a number from 1e-07 to 1"),
        ("linear", {"lr": "nan"}, "lr nan must be a number"),
        ("linear", {"dropout": 1.0}, "dropout 1.0 must be a number from 0 to 0.95"),
        ("linear", {"epochs": 2.5}, "epochs 2.5 must be a whole number from 1 to 100000"),
        ("linear", {"epochs": "inf"}, "epochs inf must be a whole number"),
        ("attentive", {"depth": 0}, "depth 0 must be a whole number from 1 to 12"),
        ("linear", {"loss": "corall"}, r"loss 'corall' must be one of auto, cross-entropy, .*'coral'\?"),
        ("linear", {"class_weights": "even"}, "class_weights 'even' must be one of none, balanced"),
    ],
)
def test_what_is_not_allowed_is_said(probe: str, given: dict, message: str):
    with pytest.raises(InputError, match=message):
        settings_with(probe, PROBES[probe].settings, given)


@given(st.floats(allow_nan=True, allow_infinity=True) | st.integers() | st.text(max_size=5))
def test_a_number_is_read_within_its_bounds_or_refused(value):
    number = Number(2, 1, 9, whole=True)
    try:
        read = number.read("k", value)
    except InputError as error:
        assert str(error).startswith("k ")
    else:
        assert isinstance(read, int) and 1 <= read <= 9 and read == float(value)


def test_a_choice_without_values_takes_any_text():
    assert Choice("a", None).read("name", "Anything At All") == "anything at all"


def test_unknown_probes_are_told_the_nearest():
    with pytest.raises(InputError, match=r"no probe 'atentive'; there are linear, .*'attentive'\?"):
        find_kind("atentive")
    with pytest.raises(InputError, match="no probe 'oracle'"):
        settings_with("oracle", (), {})


def test_one_value_is_for_every_setting_and_several_are_chosen_from():
    grid = ({"lr": 1e-3, "weight_decay": 0.04}, {"lr": 3e-3, "weight_decay": 0.04})
    assert settings_with("linear", grid, {}) == grid
    assert settings_with("linear", grid, {"dropout": 0.1}) == tuple({**s, "dropout": 0.1} for s in grid)
    assert settings_with("linear", grid, {"lr": 1e-4}) == ({"lr": 1e-4, "weight_decay": 0.04},)
    several = settings_with("linear", grid, {"lr": ["1e-2", 1e-4], "weight_decay": (0, 0.5), "dropout": [0.1, 0.2]})
    # At a tie the earlier is taken: the smaller learning rate first, then the larger weight decay.
    assert [(s["lr"], s["weight_decay"], s["dropout"]) for s in several] == [
        (lr, decay, dropout) for lr in (1e-4, 1e-2) for decay in (0.5, 0.0) for dropout in (0.1, 0.2)
    ]
    knn = settings_with("knn", PROBES["knn"].settings, {})
    assert [s["k"] for s in knn] == [25, 15, 9, 5, 3, 1]


@given(
    lr=st.lists(st.sampled_from([1e-4, 1e-3, 1e-2]), min_size=1, max_size=4),
    decay=st.lists(st.sampled_from([0.0, 0.04, 1.0]), min_size=1, max_size=4),
)
def test_settings_are_unique_and_go_from_cautious_to_bold(lr: list[float], decay: list[float]):
    found = settings_with("linear", PROBES["linear"].settings, {"lr": lr, "weight_decay": decay})
    pairs = [(s["lr"], -s["weight_decay"]) for s in found]
    assert pairs == sorted({(a, -b) for a in lr for b in decay})


@pytest.mark.parametrize("hidden", ["", "0", "x", "12x", "12x0", "12,8", "-3", "1e2"])
def test_hidden_layers_that_are_none_are_refused(hidden: str):
    features = Features(("a", "b"), np.zeros((2, 1, 1, 4), np.float32))
    job = Job({"lr": 1e-3, "hidden": hidden}, np.ones(2, bool))
    with pytest.raises(InputError, match=r"hidden .* must be widths of layers, such as 256 or 512x128"):
        PROBES["mlp"].fit(features, np.arange(2), 2, [job], Training(1), lambda *_: None)
