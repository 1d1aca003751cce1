"""A tiny cohort as folders of frames with a CSV: what is written, and that the dataset `table` reads it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from echolung.clips import decode
from echolung.datasets import load_manifest, lvad_layout
from echolung.errors import InputError


def test_a_cohort_is_a_table(lvad_written: Path) -> None:
    manifest = load_manifest("table", lvad_written / "labels.csv")
    assert manifest.videos["video_id"].tolist() == [f"lvad_{i:02d}" for i in range(1, 7)]
    assert manifest.videos["patient"].is_unique and manifest.tasks["died"].classes == ("0", "1")
    assert manifest.videos["died"].tolist().count("1") == 1
    assert decode(manifest.file(5)).shape == (11, 90, 120, 3)


def test_how_many_died_and_why(tmp_path: Path) -> None:
    lvad_layout.write(tmp_path, videos=34, frames=1, size=22)
    died = pd.read_csv(tmp_path / "labels.csv")["died"]
    assert died.sum() == 7 and not died.is_monotonic_decreasing
    fractions = np.array([np.random.default_rng([0, 9, i]).uniform(12, 38) for i in range(34)])
    ahead = (fractions[died == 1][:, None] < fractions[died == 0]).mean()
    assert 0.5 < ahead < 0.95, "weakly tied to the ejection fraction"


def test_text_and_border_lie_still_and_outside_of_what_moves(lvad_written: Path) -> None:
    manifest = load_manifest("table", lvad_written / "labels.csv")
    for row in range(2):
        video = decode(manifest.file(row))[..., 0].astype(int)
        moves = np.ptp(video, axis=0) > 0
        still = ~moves & (video[0] > 60)
        columns = np.flatnonzero(moves.any(axis=0))
        assert moves[12:78, 27:93].sum() == moves.sum(), "in the middle of the screen"
        text = still[:, : columns[0]]
        assert text[5:60, 5:].sum() > 50 and text[2, 2:].all() and text[:, 2][2:-2].all()


def test_fewer_frames_leave_none_of_the_others(tmp_path: Path) -> None:
    for frames in (5, 3):
        lvad_layout.write(tmp_path, videos=2, frames=frames, size=22)
        assert len(list((tmp_path / "frames" / "lvad_01").iterdir())) == frames


def test_folders_of_frames_in_natural_order(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "clip"
    folder.mkdir(parents=True)
    for i in range(12):
        Image.fromarray(np.full((8, 8), 20 * i, np.uint8)).save(folder / f"frame_{i}.png")
    (tmp_path / "cohort.csv").write_text("path,patient,ef\na/clip,P1,30\na,P2,31\n")
    with pytest.raises(InputError, match=r"a folder without a frame image .*a \(line 3\)"):
        load_manifest("table", tmp_path / "cohort.csv")
    (tmp_path / "a" / "1.png").write_bytes((folder / "frame_1.png").read_bytes())
    manifest = load_manifest("table", tmp_path / "cohort.csv")
    assert decode(manifest.file(0))[:, 0, 0, 0].tolist() == [20 * i for i in range(12)]


@pytest.mark.parametrize("name", ["ef", "EF", "LVEF"])
@pytest.mark.parametrize("cell", ["101", "-1", "reduced", "inf"])
def test_an_ejection_fraction_that_is_none(tmp_path: Path, name: str, cell: str) -> None:
    for file in ("a.avi", "b.avi", "c.avi"):
        (tmp_path / file).touch()
    table = tmp_path / "cohort.csv"
    table.write_text(f"path,patient,{name}\na.avi,1,30\nb.avi,2,{cell}\nc.avi,3,55.5\n")
    with pytest.raises(InputError, match=rf"label {name} of .* from 0 to 100 .*'{cell}' \(line 3\)"):
        load_manifest("table", table)
    table.write_text(f"path,patient,{name}\na.avi,1,0\nb.avi,2,low\nc.avi,3,low\n")
    assert load_manifest("table", table, kinds={name: "classification"}).tasks[name].classes == ("0", "low")
    table.write_text(f"path,patient,{name}\na.avi,1,0\nb.avi,2,100\nc.avi,3,\n")
    assert load_manifest("table", table, missing_labels="drop").tasks[name].kind == "regression"
