"""Random twins: stores of the same clips by the same network with random weights are asked the same question, unasked."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from echolung.datasets import phantom_lung
from echolung.encoders import load_model, save_encoder
from echolung.evaluation import Result
from echolung.report.run import read_run

Typed = Callable[..., tuple[int, str, str]]

CLIPS = ("--frames", 4, "--size", 32, "--segments", 1, "--workers", 1, "--device", "cpu", "--precision", "float32")
ASKED = ("--task", "pattern", "--cv", 3, "--epochs", 2, "--no-report")


@pytest.fixture
def stores(typed: Typed, echolung_home: Path, tmp_path: Path) -> dict[str, Path]:
    """Two datasets by a checkpoint, each with random twins of seed 0 and 1; a third draw is of other clips."""
    checkpoint = tmp_path / "trained.safetensors"
    save_encoder(checkpoint, load_model("random:vit_tiny@9")[0])
    found = {}
    for seed, name in enumerate(("here", "there")):
        folder = tmp_path / name
        phantom_lung.write(folder, videos=18, frames=8, size=48, seed=seed)
        table = folder / f"{name}.csv"
        (folder / "phantoms.csv").rename(table)
        for encoder in (checkpoint, "random:vit_tiny@0", "random:vit_tiny@1"):
            code, out, err = typed("extract", "--dataset", table, "--encoder", encoder, *CLIPS, "--json")
            assert code == 0, err
            found.setdefault(name, Path(json.loads(out)["store"]))
    code, _, err = typed("extract", "--dataset", table, "--encoder", "random:vit_tiny@2", *CLIPS, "--stride", 2)
    assert code == 0, err
    return found


def said(result: Result) -> dict[str, float]:
    return dict(zip(result.predictions["video_id"], result.predictions["p_covid"], strict=True))


def test_they_are_asked_the_same(typed: Typed, stores: dict[str, Path], tmp_path: Path) -> None:
    code, out, err = typed("probe", stores["here"], *ASKED, "--out", tmp_path / "run")
    assert code == 0, err
    run = read_run(tmp_path / "run")
    assert [twin.encoder for twin in run.twins] == ["random:vit_tiny@0", "random:vit_tiny@1"]
    assert "random twin" in out
    code, _, err = typed(
        "probe", "--encoder", "random:vit_tiny@1", "--dataset", "here", *ASKED, "--out", tmp_path / "own"
    )
    assert code == 0, err
    assert said(run.twins[1].result) == said(read_run(tmp_path / "own").result)


def test_another_dataset_is_predicted_by_the_twins_too(typed: Typed, stores: dict[str, Path], tmp_path: Path) -> None:
    asked = ("--task", "pattern", "--epochs", 2)
    code, out, err = typed("probe", stores["here"], "--test", stores["there"], *asked, "--out", tmp_path / "run")
    assert code == 0, err
    run = read_run(tmp_path / "run")
    assert [twin.encoder for twin in run.twins] == ["random:vit_tiny@0", "random:vit_tiny@1"]
    assert "random twin" in out and "random twin" in (tmp_path / "run" / "report.html").read_text()
    assert set(run.twins[0].result.predictions["video_id"]) == set(run.result.predictions["video_id"])
    one, other = sorted(path.name for path in stores["here"].parent.glob("*random-vit_tiny@0*.zarr"))  # here--, there--
    code, _, err = typed(
        "probe", one, "--test", other.removesuffix(".zarr"), *asked, "--no-report", "--out", tmp_path / "own"
    )
    assert code == 0, err
    assert said(run.twins[0].result) == said(read_run(tmp_path / "own").result)


def test_a_study_searches_for_them_where_asked(typed: Typed, stores: dict[str, Path], tmp_path: Path) -> None:
    asked = ("--task", "pattern", "--cv", 3, "--epochs", 2, "--trials", 3, "--no-report")
    code, out, err = typed(
        "study", "--store", stores["here"], *asked, "--twins", "--name", "s", "--out", tmp_path / "run"
    )
    assert code == 0, err
    assert out.count("random twin") == 2 and "Study: s-twin-1" in err
    random = next(path for path in stores["here"].parent.glob("here*random-vit_tiny@1*.zarr"))
    code, _, err = typed("study", "--store", random, *asked, "--name", "own", "--out", tmp_path / "own")
    assert code == 0, err
    assert said(read_run(tmp_path / "run").twins[1].result) == said(read_run(tmp_path / "own").result)
    code, _, err = typed("study", "--store", random, *asked, "--twins")
    assert code == 2 and "--encoder random:ARCHITECTURE@0" in " ".join(err.split())
