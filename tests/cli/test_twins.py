"""Random twins: stores of the same clips by the same network with random weights are asked the same question, unasked."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from echolung.clips import ClipPlan
from echolung.datasets import load_manifest, phantom_lung
from echolung.encoders import identify, load_model, save_encoder
from echolung.evaluation import Result
from echolung.extraction import make_plan
from echolung.extraction.run import extract
from echolung.report.run import read_run

Typed = Callable[..., tuple[int, str, str]]

CLIPS = ClipPlan(segments=1, frames=4, stride=1, size=32)
ASKED = ("--task", "pattern", "--cv", 3, "--epochs", 2, "--no-report")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Path]]:
    """A home with two datasets by a checkpoint, each with random twins of seed 0 and 1; a third draw is of other clips."""
    home, folder = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("data")
    checkpoint = folder / "trained.safetensors"
    save_encoder(checkpoint, load_model("random:vit_tiny@9")[0])
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECHOLUNG_HOME", str(home))
        for seed, name in enumerate(("here", "there")):
            phantom_lung.write(folder / name, videos=18, frames=8, size=48, seed=seed)
            table = (folder / name / "phantoms.csv").rename(folder / name / f"{name}.csv")
            manifest = load_manifest("table", table, kinds={"pattern": "classification"})
            for encoder in (str(checkpoint), "random:vit_tiny@0", "random:vit_tiny@1"):
                plan = make_plan(manifest, identify(encoder), CLIPS, precision="float32")
                found.setdefault(name, extract(plan, device="cpu", workers=1).path)
        others = make_plan(manifest, identify("random:vit_tiny@2"), replace(CLIPS, stride=2), precision="float32")
        extract(others, device="cpu", workers=1)
    return home, found


@pytest.fixture
def stores(made: tuple[Path, dict[str, Path]], monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    monkeypatch.setenv("ECHOLUNG_HOME", str(made[0]))
    return made[1]


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
