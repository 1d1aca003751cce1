"""Runs made by hand: what figures draw must be these numbers."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from echolung.datasets.manifest import Task
from echolung.evaluation import Result
from echolung.evaluation.summary import summarise
from echolung.report.run import Run, Twin

GRID = [{"lr": 1e-3}, {"lr": 1e-4}]
EPOCHS = 6


def _make_run(
    classes: Sequence[str] = ("no", "yes"),
    patients: int = 20,
    each: int = 3,
    cv: int = 4,
    repeats: int = 1,
    sources: int = 3,
    twins: int = 0,
    seed: int = 0,
    **changes: Any,
) -> Run:
    """Return a run with everything there can be; no classes: numbers. `changes`: fields of the result, or settings."""
    random = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), each)
    labels = np.arange(patients) % max(len(classes), 1)
    videos = pd.DataFrame(
        {
            "video_id": [f"v{i:03}" for i in range(len(patient))],
            "patient": [f"p{p}" for p in patient],
            "source": [f"source {p % sources}" for p in patient],
        }
    )
    truth = np.array(classes)[labels[patient]] if classes else random.normal(50, 10, patients)[patient]
    tables = []
    for repeat in range(repeats):
        fold = random.permutation(patients) % cv + repeat * cv
        tables.append(
            videos.assign(fold=fold[patient], truth=truth, **_scores(random, classes, labels[patient], truth))
        )
    predictions = pd.concat(tables, ignore_index=True)
    order = range(cv * repeats)
    guess = [1 / len(classes)] * len(classes) if classes else [50.0]
    parts = [*order, -1]
    inner = [
        videos.assign(part=part, truth=truth, **_scores(random, classes, labels[patient], truth))[
            (predictions["fold"][: len(videos)] != part).to_numpy()
        ]
        for part in parts
    ]
    looked = {"fold": list(order), "metric": "accuracy" if classes else "mae", "honest": 0.5, "best": 0.9, "setting": 1}
    settings = {
        "dataset": "made up", "task": "label", "probe": "linear", "protocol": "nested", "group": "patient", "folds": cv,
        "epochs": EPOCHS, "grid": GRID, **({"repeats": repeats} if repeats > 1 else {}),
    }  # fmt: skip
    fields = {
        "inner": pd.concat(inner, ignore_index=True).drop(columns=["patient", "source"]),
        "curves": _curves(random, parts, bool(classes)),
        "looks": pd.DataFrame({**looked, "epoch": 3, "looks": 12}),
        "temperatures": tuple(random.uniform(0.5, 2, len(order))) if classes else (),
    }
    of_settings = {name: changes.pop(name) for name in list(changes) if name not in (*fields, "predictions", "task")}
    result = Result(
        predictions,
        pd.DataFrame({"fold": order, "guess": [guess] * len(order)}),
        [{**GRID[fold % 2], "epoch": 2 + fold % 4} for fold in order],
        None,
        Task("classification" if classes else "regression", "label", tuple(classes)),
        {**settings, **of_settings},
        **{**fields, **{name: value for name, value in changes.items() if name in fields}},
    )
    result = replace(result, **{name: value for name, value in changes.items() if name not in fields})
    return Run(Path(), {"encoder": "an:encoder"}, result, summarise(result), (), _twins(result, twins))


def _scores(
    random: np.random.Generator, classes: Sequence[str], labels: np.ndarray, truth: np.ndarray
) -> dict[str, Any]:
    if not classes:
        return {"prediction": truth + random.normal(0, 5, len(truth))}
    logits = random.normal(size=(len(labels), len(classes)))
    logits[np.arange(len(labels)), labels] += 1
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return {f"p_{name}": p[:, i] for i, name in enumerate(classes)}


def _curves(random: np.random.Generator, parts: Sequence[int], classes: bool) -> pd.DataFrame:
    index = pd.MultiIndex.from_product(
        [parts, range(len(GRID)), range(1, EPOCHS + 1)], names=["part", "setting", "epoch"]
    )
    table = index.to_frame(index=False).assign(loss=random.uniform(size=len(index)))
    return table.assign(accuracy=random.uniform(size=len(index)) if classes else np.nan)


def _twins(result: Result, count: int) -> tuple[Twin, ...]:
    columns = [name for name in result.predictions if name.startswith("p_") or name == "prediction"]
    twins = []
    for seed in range(count):
        table = result.predictions.copy()
        table[columns] = table[columns].sample(frac=1, random_state=seed).to_numpy()
        other = replace(result, predictions=table)
        twins.append(Twin(f"random:an:encoder@{seed}", "store", other, summarise(other)))
    return tuple(twins)


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Run]:
    """Return a maker of runs, each made once."""
    made: dict[str, Run] = {}

    def make(**asked: Any) -> Run:
        if repr(asked) not in made:
            made[repr(asked)] = _make_run(**asked)
        return made[repr(asked)]

    return make


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list that figures come into instead of being written, so that what they show can be read."""
    from matplotlib.figure import Figure

    figures: list[Any] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: figures.append(self))
    return figures


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list that figures come into when they are written."""
    from matplotlib.figure import Figure

    figures: list[Any] = []
    save = Figure.savefig

    def remember(self: Any, *arguments: Any, **options: Any) -> None:
        save(self, *arguments, **options)
        figures.append(self)

    monkeypatch.setattr(Figure, "savefig", remember)
    return figures
