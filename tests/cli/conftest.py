"""What tests of commands share: typing a command, and run folders made by hand."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

CLASSES = ("covid", "pneumonia", "regular")


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return what runs echolung in this process, as typed: words -> (exit code, stdout, stderr)."""
    from echolung.cli import app

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["echolung", *map(str, words)])
        monkeypatch.setattr(app, "_debug", False)
        with pytest.raises(SystemExit) as left:
            app.main()
        return int(left.value.code or 0), *capsys.readouterr()

    return run


@pytest.fixture(scope="session")
def write_run() -> Callable[..., Path]:
    """Return a writer of run folders with made predictions: (folder, encoder, signal, seed, settings) -> folder."""

    def write(
        folder: Path, encoder: str = "good", signal: float = 1.0, seed: int = 1, folds: int = 3, **settings: Any
    ) -> Path:
        from echolung.evaluation.summary import summarise
        from echolung.report.run import read_run

        person = np.repeat(np.arange(24), 2)
        truth = person % 3
        logits = np.random.default_rng(seed).normal(size=(48, 3)) + signal * np.eye(3)[truth]
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        table = pd.DataFrame({"video_id": [f"v{i:02d}" for i in range(48)], "patient": [f"p{i}" for i in person]})
        table = table.assign(source="s", fold=(person // 3) % folds, truth=np.array(CLASSES)[truth])
        table = table.assign(**{f"p_{name}": p[:, i] for i, name in enumerate(CLASSES)})
        tested = [int((table["fold"] == fold).sum()) for fold in range(folds)]
        rows = [
            {
                "fold": fold, "patients_train": 24 - n // 2, "videos_train": 48 - n, "patients_test": n // 2, "videos_test": n,
                "patients_shared": 0, "groups_shared": 0, "guess": [1 / 3] * 3, "chosen": {"lr": 1e-3, "epoch": 1},
            }
            for fold, n in enumerate(tested)
        ]  # fmt: skip
        record = {
            "record_schema": 2,
            "at": f"2026-01-0{1 + seed % 9}T00:00:00+00:00",
            "optimistic": settings.get("protocol") == "seed",
            "settings": {
                "dataset": "made", "task": "label", "probe": "linear", "group": "patient", "protocol": "nested",
                "folds": folds, "seed": 0, "hyper": {}, "grid": [{"lr": 1e-3}, {"lr": 1e-4}], "device": "cpu", **settings,
            },
            "task": {"kind": "classification", "column": "label", "classes": list(CLASSES), "level": "video", "ordinal": False},
            "encoder": encoder,
            "store": {"name": "x.zarr", "key": {"dataset": {"name": "made"}, "encoder": {}, "clips": {"frames": 16}}},
            "videos": 48,
            "shared_by_train_and_test": {"patients": 0, "groups": 0},
            "folds": rows,
            "notes": [],
        }  # fmt: skip
        folder.mkdir(parents=True)
        table.to_csv(folder / "predictions.csv", index=False)
        file = folder / "record.json"
        file.write_text(json.dumps(record))
        record["metrics"] = summarise(read_run(folder).result).to_json()
        file.write_text(json.dumps(record))
        return folder

    return write
