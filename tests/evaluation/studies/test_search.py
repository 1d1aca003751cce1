"""The space that is searched, and samplers and pruners by name."""

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from echolung.errors import InputError
from echolung.evaluation.studies.search import (
    at_edges,
    defaults,
    describe,
    make_pruner,
    make_sampler,
    search_space,
    suggest_all,
)
from echolung.probes.hyper import Choice, Number

HYPER = {
    "lr": Number(1e-3, 1e-7, 1.0, search=(1e-4, 1e-2), log=True),
    "depth": Number(2.0, 1.0, 12.0, search=(1.0, 8.0), whole=True),
    "drop": Number(0.9, 0.0, 0.95, search=(0.0, 0.5)),
    "loss": Choice("a", ("a", "b", "c"), search=("a", "b")),
    "warm": Number(0.1, 0.0, 0.5),
}


def test_a_space_from_hyper_parameters():
    space = search_space("p", HYPER, {}, {}, {})
    assert space == {
        "lr": FloatDistribution(1e-4, 1e-2, log=True),
        "depth": IntDistribution(1, 8),
        "drop": FloatDistribution(0, 0.5),
        "loss": CategoricalDistribution(("a", "b")),
    }
    assert describe(space)["lr"] == {"low": 1e-4, "high": 1e-2, "log": True}
    assert describe(space)["loss"] == {"choices": ["a", "b"]}
    assert defaults(space, HYPER) == {"lr": 1e-3, "depth": 2, "loss": "a"}, (
        "what is not searched is left to the sampler"
    )
    trial = optuna.create_study().ask()
    assert suggest_all(trial, space) == trial.params and set(trial.params) == set(space)


def test_a_space_as_the_user_wants_it():
    space = search_space("p", HYPER, {"drop": 0.1}, {"lr": (1e-5, 1e-1), "warm": (0.0, 0.2)}, {"depth": [1, 4]})
    assert space == {
        "lr": FloatDistribution(1e-5, 1e-1, log=True),
        "depth": CategoricalDistribution((1, 4)),
        "loss": CategoricalDistribution(("a", "b")),
        "warm": FloatDistribution(0, 0.2),
    }
    for arguments, text in (
        (({"lr": 1.0}, {"lr": (1e-3, 1e-2)}, {}), "both --set and --search"),
        (({}, {"lr": (1e-9, 1e-2)}, {}), "from 1e-07 to 1"),
        (({}, {"lt": (1e-3, 1e-2)}, {}), "Did you mean 'lr'"),
        (({"lr": 1.0, "depth": 1, "drop": 0.0, "loss": "a"}, {}, {}), "nothing left to search"),
    ):
        with pytest.raises(InputError, match=text):
            search_space("p", HYPER, *arguments)


def test_edges():
    space = search_space("p", HYPER, {}, {}, {})
    inside = {"lr": 1e-3, "depth": 4, "drop": 0.2, "loss": "a"}
    assert at_edges(space, HYPER, inside) == {}
    assert at_edges(space, HYPER, {**inside, "lr": 1.05e-4}) == {"lr": "lower"}, "2 % of the logarithm: a tenth"
    assert at_edges(space, HYPER, {**inside, "lr": 1.2e-4}) == {}
    assert at_edges(space, HYPER, {**inside, "lr": 9.5e-3, "drop": 0.491}) == {"lr": "upper", "drop": "upper"}
    assert at_edges(space, HYPER, {**inside, "depth": 8}) == {"depth": "upper"}
    assert at_edges(space, HYPER, {**inside, "depth": 1, "drop": 0.0}) == {}, "nothing beyond is allowed"


@pytest.mark.parametrize("name", ["tpe", "TPE", "TPESampler", "random", "nsgaii", "NSGA-II", "qmc", "gp"])
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_samplers_by_name(name):
    expected = name.lower().replace("-", "").removesuffix("sampler") + "sampler"
    assert type(make_sampler(name, 0)).__name__.lower() == expected


@pytest.mark.parametrize("name", ["median", "MedianPruner", "successive-halving", "successive_halving", "Hyperband"])
def test_pruners_by_name(name):
    expected = name.lower().replace("-", "").replace("_", "").removesuffix("pruner") + "pruner"
    assert type(make_pruner(name, 50)).__name__.lower() == expected


def test_no_pruner():
    assert isinstance(make_pruner("none", 50), optuna.pruners.NopPruner)


def test_seeds_of_workers_and_parts_differ():
    def draw(*seeds):
        return optuna.create_study(sampler=make_sampler("random", *seeds)).ask().suggest_float("x", 0, 1)

    drawn = [draw(0, 0, 0), draw(0, 1, 0), draw(1, 0, 0), draw(0, 0, 2**127)]
    assert len(set(drawn)) == 4 and draw(0, 0, 0) == drawn[0]


def test_a_sampler_that_is_not_installed(monkeypatch):
    monkeypatch.setattr("echolung.evaluation.studies.search.find_spec", lambda package: None)
    with pytest.raises(InputError, match="needs the package cmaes"):
        make_sampler("CmaEs", 0)
