"""`echolung compare` as a person meets it."""

import json

import pandas as pd
import pytest
from PIL import Image

from echolung.cli import compare as command

FILES = ["comparison.csv", "comparison.html", "comparison.json", "folds.csv", "gain.png"]


@pytest.fixture
def runs(write_run, echolung_home):
    """Return a folder of runs: a good one and three seeds of random weights."""
    folder = echolung_home / "runs"
    write_run(folder / "good", "timm:net", 3.0, 1)
    for seed in range(3):
        write_run(folder / f"random{seed}", f"random:timm:net@{seed}", 0.2, 2 + seed)
    return folder


def test_a_gain_over_random_weights(typed, runs, tmp_path):
    code, out, err = typed("compare", "good", "random0", "random1", "random2", "--out", tmp_path / "gain")
    assert code == 0, err
    assert "A timm:net against B random:timm:net@0,1,2" in out and "24 patients, 48 videos" in out
    assert "timm:net is better in balanced accuracy: the interval of the gain leaves out 0." in out
    assert "corrected resampled t" in out and "Nadeau" in " ".join(out.split()) and "of its 3 runs" in out
    assert sorted(file.name for file in (tmp_path / "gain").iterdir()) == FILES
    record = json.loads((tmp_path / "gain" / "comparison.json").read_text())
    assert [run["name"] for run in record["runs"]] == ["good", "random0", "random1", "random2"]
    assert record["what_differs"] == {"encoder": ["timm:net", "random:timm:net@0,1,2"]}
    assert record["command"].startswith("echolung compare good random0")
    gains = record["contrasts"][0]["gains"]
    table = pd.read_csv(tmp_path / "gain" / "comparison.csv").set_index("metric")
    assert list(table.index) == list(gains) == ["balanced_accuracy", "accuracy", "auroc", "brier"]
    for name, gain in gains.items():
        for field, value in gain.items():
            assert table.loc[name, field] == pytest.approx(value, rel=1e-12), (name, field)
    folds = pd.read_csv(tmp_path / "gain" / "folds.csv")
    assert folds[folds["metric"] == "accuracy"]["gain"].mean() == pytest.approx(gains["accuracy"]["mean"])
    with Image.open(tmp_path / "gain" / "gain.png") as image:
        image.load()
        assert image.format == "PNG" and image.width > 1000
    page = (tmp_path / "gain" / "comparison.html").read_text()
    assert "http" not in page.replace("http-equiv", "") and "data:image/png;base64," in page and "sign-flip" in page


def test_several_arms_and_json(typed, runs, write_run):
    write_run(runs / "middling", "vit", 1.0, 8)
    code, out, err = typed(
        "compare", "good", "middling", "random0", "--json", "--metric", "auroc", "--resamples", "200"
    )
    assert code == 0, err
    found = json.loads(out)
    assert found["metric"] == "auroc" and [c["b"] for c in found["contrasts"]] == ["vit", "random:timm:net@0"]
    assert all(c["p_holm"] >= c["gains"]["auroc"]["p"] for c in found["contrasts"])
    assert any("One encoder seed" in note for note in found["notes"])
    assert found["comparison"].endswith("-compare-made-label")


@pytest.mark.parametrize("width", [80, 120])
def test_it_fits_the_terminal(typed, runs, width, monkeypatch):
    from rich.console import Console

    monkeypatch.setattr(command, "out", lambda: Console(width=width))
    code, out, err = typed("compare", "good", "random0", "random1")
    assert code == 0, err
    assert max(map(len, out.splitlines())) <= width and "…" not in out


def test_seeds_alone_are_arms_of_their_own(typed, runs):
    code, out, err = typed("compare", "random0", "random1")
    assert code == 0, err
    assert "A random:timm:net@0 against B random:timm:net@1" in out and "differ only in the seed" in out
    assert "No difference in balanced accuracy is shown" in out


def test_another_probe_on_the_same_encoder(typed, runs, write_run):
    write_run(runs / "knn", "timm:net", 0.5, 9, probe="knn", grid=[{"k": 1}, {"k": 5}])
    code, out, err = typed("compare", "good", "knn")
    assert code == 0, err
    assert "A timm:net · linear against B timm:net · knn" in out
    assert "choice of k — 1, 5" in " ".join(out.split())


def test_an_optimistic_run_is_refused_beside_an_honest_one(typed, runs, write_run):
    write_run(runs / "seed", "timm:net", 3.0, 7, protocol="seed")
    code, _, err = typed("compare", "seed", "random0")
    assert code == 2 and "seed is optimistic" in err and "--anyway" in err and "Traceback" not in err
    code, out, err = typed("compare", "seed", "random0", "--anyway")
    assert code == 0, err
    assert "(optimistic)" in out and "Compared anyway" in out and "protocol" in out


def test_one_run_is_compared_with_its_twins(typed, runs, write_run):
    folder = write_run(runs / "alone", "timm:net", 3.0, 8)
    twins = [
        pd.read_csv(runs / f"random{i}" / "predictions.csv").assign(encoder=f"random:timm:net@{i}") for i in range(2)
    ]
    pd.concat(twins).to_csv(folder / "twins.csv", index=False)
    record = json.loads((folder / "record.json").read_text())
    record["twins"] = [{"encoder": f"random:timm:net@{i}", "store": "x.zarr", "metrics": {}} for i in range(2)]
    (folder / "record.json").write_text(json.dumps(record))
    code, out, err = typed("compare", "alone")
    assert code == 0, err
    assert "A timm:net against B random:timm:net@0,1" in out and "random twins that were run with it" in out


def test_bad_input(typed, runs, write_run, tmp_path):
    code, _, err = typed("compare", "good", "good")
    assert code == 2 and "named twice" in err
    (tmp_path / "copy").symlink_to(runs / "good")
    code, _, err = typed("compare", "good", tmp_path / "copy")
    assert code == 2 and "cannot be compared with itself" in err
    code, _, err = typed("compare", "good")
    assert code == 2 and "without random twins" in err
    code, _, err = typed("compare", "good", "nothing")
    assert code == 2 and "nothing is not there" in err
    write_run(runs / "folds", "vit", 1.0, 9, folds=4)
    code, _, err = typed("compare", "good", "folds")
    assert code == 2 and "their folds differ" in err and "seed 0" in err
    code, out, err = typed("compare", "good", "folds", "--anyway")
    assert code == 0 and "pooled over folds" in " ".join(out.split()), err
    assert len(list(runs.glob("*-compare-*"))) == 1
