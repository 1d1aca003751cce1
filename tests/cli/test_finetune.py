"""`echolung finetune`: on the folds of a probe's run, compared with it; what it cannot do is said."""

import json
from pathlib import Path

import pytest

from echolung.cli import finetune as module
from echolung.clips import ClipPlan
from echolung.datasets import load_manifest, phantom_lung
from echolung.encoders import identify
from echolung.errors import InputError
from echolung.extraction import make_plan
from echolung.extraction.run import extract
from echolung.finetuning import run
from echolung.finetuning.kept import Folder
from echolung.settings import home


@pytest.fixture(scope="module")
def lungs(tmp_path_factory) -> tuple[Path, Path]:
    """Return the folder of some videos, and their store."""
    folder = tmp_path_factory.mktemp("lungs")
    phantom_lung.write(folder / "videos", videos=12, patients=12, frames=6, size=48)
    manifest, clips = load_manifest("phantom-lung", folder / "videos"), ClipPlan(segments=1, frames=4, size=32)
    plan = make_plan(
        manifest, identify("random:vit_tiny"), clips, path=folder / "lungs.zarr", precision="float32", tokens="none"
    )
    extract(plan, device="cpu", workers=1)
    return folder / "videos", plan.path


@pytest.fixture
def tune(typed, lungs):
    """Return `echolung finetune` in this process: words -> (exit code, stdout, stderr in one line)."""

    def run(*words: object) -> tuple[int, str, str]:
        how = ("--data", lungs[0], "--device", "cpu", "--workers", 1, "--epochs", 1, "--no-report")
        code, out, err = typed("finetune", *how, *words)
        return code, out, " ".join(err.split())

    return run


@pytest.fixture
def probed(typed, lungs, tmp_path) -> Path:
    """Return the folder of a probe's run."""
    words = ("--probe", "logistic", "--cv", 2, "--seed", 1, "--no-diagnose", "--no-report")
    code, _, err = typed("probe", lungs[1], *words, "--out", tmp_path / "probed")
    assert code == 0, err
    return tmp_path / "probed"


def test_it_is_compared_with_the_probe(tune, typed, lungs, probed, tmp_path):
    to = tmp_path / "tuned"
    words = ("--store-of", probed, "--store", lungs[1], "--unfreeze", "last:1", "--keep", "mine")
    code, out, err = tune(*words, "--out", to)
    assert code == 0, err
    assert "finetune probe (unfreeze last:1) on random:vit_tiny@0" in out
    assert "block 12 learn" in err
    assert "trainings of up to 1 epochs: at most about" in err
    assert f"echolung compare {to} {probed}" in err
    record = json.loads((to / "record.json").read_text())
    assert (record["settings"]["folds"], record["settings"]["seed"], record["folds_of"]) == (2, 1, "probed")
    assert sorted(path.name for path in (home() / "checkpoints").glob("mine*")) == ["mine.head", "mine.safetensors"]
    assert [path.suffix for path in (home() / "finetuning").iterdir()] == [".lock"]
    code, out, err = typed("compare", to, probed, "--resamples", 100)
    assert code == 0, err
    assert "A random:vit_tiny@0 · finetune against B random:vit_tiny@0 · logistic" in out
    assert "hyper unfreeze" in out
    code, _, err = tune("--store-of", lungs[1], "--keep", "mine")
    assert (code, "There is a checkpoint" in err) == (2, True)


@pytest.mark.parametrize("unfreeze", ["last:0", "last:99"])
def test_stages_that_there_are_not(tune, lungs, unfreeze):
    code, _, err = tune("--store-of", lungs[1], "--unfreeze", unfreeze, "--cv", 2)
    assert code == 2
    assert f"--unfreeze {unfreeze}: this encoder has 13 stages" in err


@pytest.mark.parametrize("option", ["--cv", "--seed"])
def test_the_question_is_the_runs_own(tune, probed, lungs, option):
    code, _, err = tune("--store-of", probed, "--store", lungs[1], option, 3)
    assert code == 2
    assert f"{option} is taken from the run probed" in err


def test_the_store_of_a_run_is_not_there(tune, probed):
    code, _, err = tune("--store-of", probed)
    assert code == 2
    assert "The store lungs.zarr of probed is not under" in err


def test_videos_that_are_not_there(typed, lungs, tmp_path):
    code, _, err = typed("finetune", "--store-of", lungs[1], "--data", tmp_path)
    assert code == 2
    assert "There are no lung phantoms at" in " ".join(err.split())


def test_an_optimistic_run_is_refused(tune, write_run, tmp_path):
    code, _, err = tune("--store-of", write_run(tmp_path / "seed", protocol="seed"))
    assert code == 2
    assert "seed has the protocol seed, whose folds fine-tuning cannot be compared on" in err


def test_labels_of_the_run_are_wanted(tune, write_run, tmp_path):
    run = write_run(tmp_path / "labelled", labels="own.csv", labels_digest="0" * 64)
    code, _, err = tune("--store-of", run)
    assert code == 2
    assert "labelled was made with the labels of own.csv" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--lr", "fast"), "--lr fast must be a number"),
        (("--keep", "a/b"), "--keep a/b must be a name"),
        (("--store", "elsewhere"), "--store says where the store of a run is now"),
        (("--dropout", "0.1"), "has no dropout layers"),
    ],
)
def test_options_that_make_no_sense(tune, lungs, words, message):
    code, _, err = tune("--store-of", lungs[1], "--cv", 2, *words)
    assert code == 2
    assert message in err


def test_the_same_question_is_asked_by_one_at_a_time(tune, lungs, monkeypatch):
    """The second is refused while the first learns; an interrupt lets others in."""
    words, sessions, asked = ("--store-of", lungs[1], "--unfreeze", "none", "--cv", 2), [], []

    def interrupted(session):
        sessions.append(session)  # alive to the end: it is not let go by being dropped
        with pytest.raises(InputError, match="Another echolung fine-tunes the same question now"):
            Folder(asked[0])
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "Folder", lambda question: asked.append(question) or Folder(question))
    with monkeypatch.context() as patch:
        patch.setattr(module, "_evaluate", interrupted)
        assert tune(*words)[0] == 130
    code, _, err = tune(*words)
    assert code == 0, err
    assert asked[0] == asked[1]
    assert len(sessions) == 1
