"""What is searched and how: the space of a probe's hyper-parameters, samplers and pruners by name."""

import inspect
import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from echolung.errors import InputError
from echolung.probes.hyper import Choice, Hyper, Number
from echolung.text import suggest

EDGE = 0.02
"""Share of a range (of its logarithm where searched so) that counts as its edge."""

PACKAGES = {"cmaes": ("cmaes",), "gp": ("torch", "scipy")}
"""What a sampler imports only when it is first asked."""

Distribution = FloatDistribution | IntDistribution | CategoricalDistribution
Space = Mapping[str, Distribution]


def search_space(
    probe: str,
    hyper: Hyper,
    fixed: Mapping[str, Any],
    ranges: Mapping[str, tuple[float, float]],
    several: Mapping[str, Sequence[Any]],
) -> Space:
    """Return what a study of this kind of probe searches.

    Args:
        probe: its name.
        hyper: its hyper-parameters.
        fixed: those held fixed.
        ranges: (low, high) to search in the place of the kind's own.
        several: values to choose from in the place of the kind's own.

    Raises:
        InputError: nothing is left to search, or a range is none or not allowed.
    """
    for name, (low, high) in ranges.items():
        if name in fixed or name in several:
            raise InputError(f"{name} cannot have both --set and --search.")
        _check_range(probe, hyper, name, low, high)
    space: dict[str, Distribution] = {}
    for name, what in hyper.items():
        wanted = ranges.get(name) or what.search
        if name in several:
            space[name] = CategoricalDistribution(tuple(several[name]))
        elif name not in fixed and wanted:
            space[name] = _distribution(what, wanted)
    if not space:
        raise InputError(f"The probe {probe} has nothing left to search: every hyper-parameter is fixed.")
    return space


def _check_range(probe: str, hyper: Hyper, name: str, low: float, high: float) -> None:
    numbers = {key: what for key, what in hyper.items() if isinstance(what, Number)}
    if name not in numbers:
        raise InputError(
            f"The probe {probe} has no number {name!r} to search; it has {', '.join(numbers)}.{suggest(name, numbers)}"
        )
    what = numbers[name]
    if not what.read(name, low) < what.read(name, high):
        raise InputError(f"The range of {name}, {low:g} to {high:g}, must rise.")
    if what.log and low <= 0:
        raise InputError(f"{name} is searched on a logarithmic scale: its range must start above 0.")


def _distribution(what: Number | Choice, wanted: Sequence[Any]) -> Distribution:
    if not isinstance(what, Number):
        return CategoricalDistribution(tuple(wanted))
    low, high = wanted
    if what.whole:
        return IntDistribution(int(low), int(high), log=what.log)
    return FloatDistribution(float(low), float(high), log=what.log)


def defaults(space: Space, hyper: Hyper) -> dict[str, Any]:
    """Return the kind's defaults, as far as they lie within what is searched."""
    inside: dict[str, Any] = {}
    for name, distribution in space.items():
        value: Any = hyper[name].default
        if isinstance(distribution, CategoricalDistribution):
            if value in distribution.choices:
                inside[name] = value
        elif distribution.low <= value <= distribution.high:
            inside[name] = int(value) if isinstance(distribution, IntDistribution) else value
    return inside


def suggest_all(trial: optuna.Trial, space: Space) -> dict[str, Any]:
    """Return a value that the trial suggests for each name of a space."""
    values: dict[str, Any] = {}
    for name, distribution in space.items():
        if isinstance(distribution, FloatDistribution):
            values[name] = trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)
        elif isinstance(distribution, IntDistribution):
            values[name] = trial.suggest_int(name, distribution.low, distribution.high, log=distribution.log)
        else:
            values[name] = trial.suggest_categorical(name, distribution.choices)
    return values


def at_edges(space: Space, hyper: Hyper, setting: Mapping[str, Any]) -> dict[str, str]:
    """Return the names whose value lies at the edge of what was searched -> which ("lower", "upper").

    An edge beyond which the probe allows nothing is none.
    """
    found = {}
    for name, distribution in space.items():
        what = hyper[name]
        if not isinstance(distribution, FloatDistribution | IntDistribution) or not isinstance(what, Number):
            continue
        scale = math.log if distribution.log else float
        low, high, value = (scale(v) for v in (distribution.low, distribution.high, setting[name]))
        place = (value - low) / (high - low)
        if place <= EDGE and distribution.low > what.low:
            found[name] = "lower"
        elif place >= 1 - EDGE and distribution.high < what.high:
            found[name] = "upper"
    return found


def describe(space: Space) -> dict[str, Any]:
    """Return a space as JSON: name -> {low, high, log} or {choices}."""
    told = {}
    for name, distribution in space.items():
        fields = ("choices",) if isinstance(distribution, CategoricalDistribution) else ("low", "high", "log")
        values = {field: getattr(distribution, field) for field in fields}
        told[name] = {field: list(value) if isinstance(value, tuple) else value for field, value in values.items()}
    return told


def make_sampler(name: str, *seeds: int) -> optuna.samplers.BaseSampler:
    """Return the sampler of that name in optuna.samplers, seeded by several numbers together.

    Raises:
        InputError: there is none, it needs more than a name, or a package that is not installed.
    """
    seed = int(np.random.SeedSequence(seeds).generate_state(1)[0])
    return _make(optuna.samplers, "Sampler", name, {"seed": seed, "constant_liar": True})


def make_pruner(name: str, epochs: int) -> optuna.pruners.BasePruner:
    """Return the pruner of that name in optuna.pruners; "none": one that prunes nothing.

    Median leaves the first fifth of the epochs alone, successive halving and hyperband the first tenth.

    Raises:
        InputError: there is none, or it needs more than a name.
    """
    name = "nop" if name.lower() == "none" else name
    steps = {"n_warmup_steps": epochs // 5, "min_resource": max(1, epochs // 10), "max_resource": epochs}
    return _make(optuna.pruners, "Pruner", name, steps)


def _make(module: ModuleType, ending: str, name: str, wanted: Mapping[str, Any]) -> Any:
    plain = {
        key.removesuffix(ending).lower(): key
        for key in module.__all__
        if key.endswith(ending) and not key.startswith("Base")
    }
    what = ending.lower()
    key = name.lower().replace("-", "").replace("_", "").removesuffix(what)
    if key not in plain:
        raise InputError(f"There is no {what} {name!r}; there are {', '.join(sorted(plain))}.{suggest(key, plain)}")
    kind = getattr(module, plain[key])
    parameters = inspect.signature(kind).parameters
    needed = [
        p.name for p in parameters.values() if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if needed or key == "threshold":
        raise InputError(
            f"The {what} {name!r} needs more than a name ({', '.join(needed) or 'a bound'}). Use it with "
            "echolung.evaluation.studies.objective in a study of your own."
        )
    if missing := [package for package in PACKAGES.get(key, ()) if not find_spec(package)]:
        raise InputError(f"The {what} {name!r} needs the package {missing[0]}, which is not installed.")
    return kind(**{k: v for k, v in wanted.items() if k in parameters})
