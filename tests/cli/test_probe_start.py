"""`echolung probe --start-from` and `--as-is`, as typed."""

import json

import numpy as np
import pandas as pd
import pytest

from echolung.datasets.manifest import Task
from echolung.probes import Probe


@pytest.fixture(scope="module")
def hearts(write_store):
    """Forty hearts of two clips each; the first coordinate tells EF."""
    random = np.random.default_rng(0)
    ef = random.uniform(20, 75, 40)
    values = random.normal(size=(40, 1, 2, 1, 6))
    values[..., 0] += ((ef - 55) / 8)[:, None, None, None]
    names = [f"v{i:02d}" for i in range(40)]
    split = np.array(["train", "train", "val", "test"])[np.arange(40) % 4]
    videos = pd.DataFrame({"video_id": names, "patient": names, "source": "s", "ef": ef, "split": split})
    return write_store(values, videos, {"ef": Task("regression", "ef")}, dataset="hearts")


@pytest.fixture
def core(echolung_home):
    """A checkpoint's head, in the label's unit."""
    weight = np.array([[8, 0, 0, 0, 0, 0]], np.float32)
    arrays = {"linear.weight": weight, "linear.bias": np.array([55.6], np.float32)}
    folder = echolung_home / "checkpoints" / "core.head"
    folder.mkdir(parents=True)
    about = {"setting": {"hidden": "none", "norm": "none"}, "dataset": "hearts", "task": "ef"}
    Probe("mlp", (), arrays, about).save(folder)


def test_a_head_goes_on_learning_and_is_scored_as_it_is(typed, hearts, core, tmp_path):
    split = ["--split", "official", "--fusion", "late", "--start-from", "core"]
    recipe = ("loss=l1", "lr=1e-4", "weight_decay=1e-4", "schedule=constant")
    second = ["--epochs", 5, *(word for item in recipe for word in ("--set", item))]
    found = {}
    for name, more in (("stage2", [*second, "--no-report"]), ("as-is", ["--as-is"])):
        code, out, err = typed("probe", hearts.path, *split, *more, "--out", tmp_path / name)
        assert code == 0, err
        record = json.loads((tmp_path / name / "record.json").read_text())
        found[name] = pd.read_csv(tmp_path / name / "predictions.csv")
        assert record["settings"]["start"]["name"] == "core.head" and record["settings"]["start"]["seen"] == ["hearts"]
        assert "Optimistic" not in out and record["settings"]["probe"] == "mlp"
    assert "as it is: nothing was trained" in out and (tmp_path / "as-is" / "report.html").stat().st_size > 10_000
    assert record["settings"]["as_is"] and not (tmp_path / "as-is" / "curves.csv").exists()
    # Fifteen steps of at most 1e-4 move such a head by little.
    np.testing.assert_allclose(found["stage2"]["prediction"], found["as-is"]["prediction"], atol=0.1)
    assert (found["stage2"]["prediction"] != found["as-is"]["prediction"]).all()
    code, out, err = typed("compare", tmp_path / "as-is", tmp_path / "stage2", "--out", tmp_path / "compared")
    assert code == 0, err
    code, out, _ = typed("probe", hearts.path, "--start-from", tmp_path / "stage2", "--as-is", "--cv", 3, "--no-report")
    assert code == 0 and "Optimistic: the head stage2 has seen hearts" in " ".join(out.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--as-is", "--start-from"),
        ("--start-from nothing", "There is no head nothing"),
        ("--start-from core --probe linear", "Leave out --probe"),
        ("--start-from core --set hidden=64", "has hidden none"),
        ("--start-from core --as-is --repeats 2", "trains nothing"),
        ("--start-from core --as-is --label-fractions 0.5", "trains nothing"),
        ("--start-from core --as-is --set lr=1", "trains nothing"),
    ],
)
def test_what_makes_no_sense_is_refused(typed, hearts, core, words, said):
    code, _, err = typed("probe", hearts.path, *words.split())
    assert code == 2 and said in " ".join(err.split())
