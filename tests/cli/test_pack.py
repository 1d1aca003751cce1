"""`echolung data pack` and the pool that `--dataset` names, as called."""

import json
from pathlib import Path

import pytest

from echolung.cli.data.pack import pack
from echolung.cli.pretraining.pools import Sources, open_pool
from echolung.clips.packed import Pack
from echolung.datasets import echonet_layout, phantom_heart, phantom_lung
from echolung.errors import InputError


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    phantom_lung.write(folder / "phantom-lung", videos=4, frames=6, size=48)
    videos = sorted((folder / "phantom-lung").rglob("*.avi")) + sorted((folder / "phantom-lung").rglob("*.mp4"))
    split = ["train", "test", "train", "val"]
    lines = [f"phantom-lung/{v.relative_to(folder / 'phantom-lung')},{s}" for v, s in zip(videos, split, strict=True)]
    (folder / "mine.csv").write_text("\n".join(["path,split", *lines]) + "\n")
    return folder


def test_pools(data, echolung_home, capsys):
    assert len(open_pool(Sources("phantom-lung", data / "phantom-lung")).videos) == 4
    pool = open_pool(Sources(f"phantom-lung:2,{data / 'mine.csv'}", data))
    assert pool.weights == {"mine": 1.0, "phantom-lung": 2.0}
    assert pool.describe() == [
        "mine: 2 videos, 2 left out, 33% of the clips",
        "phantom-lung: 4 videos, 67% of the clips",
    ]
    capsys.readouterr()
    assert len(open_pool(Sources(str(data / "mine.csv")), all_splits=True).videos) == 4
    assert "the 2 videos for validation and test" in " ".join(capsys.readouterr().err.split())
    (echolung_home / "data").mkdir()
    (echolung_home / "data" / "phantom-lung").symlink_to(data / "phantom-lung")
    assert len(open_pool(Sources("phantom-lung")).videos) == 4
    with pytest.raises(InputError, match="no dataset 'phantom-lun'"):
        open_pool(Sources("phantom-lun:2"))


@pytest.fixture(scope="module")
def children(tmp_path_factory) -> Path:
    """Return a folder that holds heart phantoms, and children's in the layout of EchoNet-Pediatric, by their names."""
    folder = tmp_path_factory.mktemp("hearts")
    echonet_layout.write_pediatric(folder / "echonet-pediatric", videos=25, frames=4, size=32)
    phantom_heart.write(folder / "phantom-heart", videos=4, frames=4, size=32)
    return folder


def test_views_and_folds_of_those_that_have_them(children):
    names = {}
    for fold in (0, 3):
        for view in ("A4C", None):
            sources = Sources("echonet-pediatric,phantom-heart", children, view, fold)
            videos = open_pool(sources).videos
            names[fold, view] = set(videos["video_id"][videos["dataset"] == "echonet-pediatric"])
            assert (videos["dataset"] == "phantom-heart").any(), "which has neither"
    assert names[0, None] != names[3, None] and names[0, "A4C"] < names[0, None]
    Sources("echonet-pediatric", None, "PSAX", 0).check()
    Sources("phantom-heart", None, None, 0).check(["echonet-pediatric"])
    with pytest.raises(InputError, match=r"--fold 0 was given, and none of phantom-heart, mine\.csv has a fold"):
        Sources("phantom-heart,mine.csv", None, None, 0).check()


def test_a_dataset_beside_the_mix_is_looked_for_where_it_may_be(children, echolung_home):
    several = Sources("phantom-heart,phantom-lung", children)
    assert several.open("echonet-pediatric").root.is_relative_to(children)
    assert Sources("phantom-heart", children / "phantom-heart").open("phantom-heart").root == children / "phantom-heart"
    with pytest.raises(InputError, match=str(echolung_home)):
        Sources("phantom-heart", children / "phantom-heart").open("echonet-pediatric")


def test_pack_of_a_view(children, tmp_path, capsys):
    out = tmp_path / "a.h5"
    pack(out, "echonet-pediatric", children / "echonet-pediatric", view="PSAX", fold=5, workers=1)
    kept = open_pool(Sources("echonet-pediatric", children / "echonet-pediatric", "PSAX", 5))
    assert Pack.open(out).videos["video_id"].tolist() == kept.videos["video_id"].tolist()
    with pytest.raises(InputError, match="--view PSAX"):
        pack(tmp_path / "b.h5", "phantom-heart", children / "phantom-heart", view="PSAX")


def test_pack(data, tmp_path, capsys):
    out = tmp_path / "new" / "pack.h5"
    pack(out, "phantom-lung", data / "phantom-lung", size=32, workers=1)
    said = capsys.readouterr()
    assert "Packed 4 videos, 24 frames" in said.out and "videos/s" in said.out and " kB," in said.out
    assert Pack.open(out).videos["height"].tolist() == [32] * 4
    pack(tmp_path / "cut.h5", "phantom-lung", data / "phantom-lung", crop="0,4,20,16", workers=1)
    assert Pack.open(tmp_path / "cut.h5").videos["width"].tolist() == [20] * 4
    with pytest.raises(InputError, match="must be X,Y,W,H"):
        pack(tmp_path / "no.h5", "phantom-lung", data / "phantom-lung", crop="0,4,20")
    with pytest.raises(InputError, match=r"There is something at .*pack\.h5 already"):
        pack(out, "phantom-lung", data / "phantom-lung")


def test_unreadable_ones_are_listed(data, tmp_path, capsys):
    (tmp_path / "empty.avi").touch()
    good = sorted((data / "phantom-lung").rglob("*.[am][vp][i4]"))[0]
    (tmp_path / "mine.csv").write_text(f"path\nempty.avi\n{good}\n")
    pack(tmp_path / "pack.h5", str(tmp_path / "mine.csv"), workers=1)
    out = " ".join(capsys.readouterr().out.split())
    assert (
        "Packed 1 video," in out and "unreadable mine/empty: empty.avi cannot be decoded. It is empty (0 bytes)" in out
    )
    pack(tmp_path / "again.h5", str(tmp_path / "mine.csv"), workers=1, as_json=True)
    facts = json.loads(capsys.readouterr().out)
    assert facts["videos"] == 1 and list(facts["unreadable"]) == ["mine/empty"]
    assert facts["bytes"] == (tmp_path / "again.h5").stat().st_size
