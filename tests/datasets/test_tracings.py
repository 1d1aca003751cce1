"""Outlines of the left ventricle from both of EchoNet's tables, on phantoms whose cavity is known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echolung.datasets import echonet_layout, load_manifest
from echolung.datasets.heart_anatomy import anatomy
from echolung.datasets.heart_image import sector_of
from echolung.datasets.phantom_heart import draw_patient, draw_scene, video_random
from echolung.datasets.tracings import area, mask_of, phases, read_tracings
from echolung.errors import InputError

SIZE = 32


def cavity_of(number: int, frame: int, frames: int = 64) -> np.ndarray:
    """Return where the ventricle of a phantom in EchoNet-Dynamic's layout was drawn, drawn anew."""
    random, patient = video_random(0, number, 0), draw_patient(number, 0)
    echonet_layout._length(random, frames)
    fps = float(random.choice([50, 50, 50, 50, 40, 30]))
    scene = draw_scene(random)
    heart = anatomy(patient, scene, np.array([frame / fps]))
    return heart.ventricle.inside(*sector_of(patient, "A4C", SIZE).places(SIZE))[0] > 0.5


def test_the_outline_covers_the_drawn_cavity(written: Path) -> None:
    manifest = load_manifest("echonet-dynamic", written / "dynamic")
    tracings = read_tracings(manifest)
    assert set(tracings) == set(manifest.videos["video_id"])
    for number, video in enumerate(manifest.videos["video_id"]):
        for frame, outline in tracings[video].items():
            drawn, traced = cavity_of(number, frame), mask_of(outline, SIZE, SIZE)
            assert 2 * (drawn & traced).sum() / (drawn.sum() + traced.sum()) > 0.93


def test_phases_are_told_by_area_whatever_the_order(written: Path) -> None:
    manifest = load_manifest("echonet-dynamic", written / "dynamic")
    for video, frames in read_tracings(manifest).items():
        ed, es = phases(frames)
        assert [es, ed] == list(frames), "the table has the systole first"
        assert phases(dict(reversed(frames.items()))) == (ed, es)
        assert area(frames[es]) < area(frames[ed])
        shrinks = 1 - (area(frames[es]) / area(frames[ed])) ** 1.6  # area goes with the volume to 0.625
        ef = manifest.videos.set_index("video_id").loc[video, "ef"]
        assert 100 * shrinks == pytest.approx(ef, abs=2)


def test_polygons_of_both_views(written: Path) -> None:
    manifest = load_manifest("echonet-pediatric", written / "pediatric")
    tracings = read_tracings(manifest)
    videos = manifest.videos.set_index("video_id")
    assert set(videos.loc[list(tracings), "view"]) == {"A4C", "PSAX"} and len(tracings) == 25
    assert sorted({len(frames) for frames in tracings.values()}) == [1, 2], "one video lacks its systole"
    for video, frames in tracings.items():
        assert len(frames) == videos.loc[video, "traced_frames"]
        assert all(
            mask_of(outline, SIZE, SIZE).sum() == pytest.approx(area(outline), rel=0.25) for outline in frames.values()
        )
    one = load_manifest("echonet-pediatric", written / "pediatric", view="PSAX")
    assert set(read_tracings(one)) == set(one.videos["video_id"])


def test_tables_that_are_none(dynamic: Path) -> None:
    manifest = load_manifest("echonet-dynamic", dynamic)
    file = dynamic / "VolumeTracings.csv"
    lines = pd.read_csv(file, dtype=str)
    file.write_text("FileName,Frame\nx,1\n")
    with pytest.raises(InputError, match=r"has the columns filename, frame; tracings have"):
        read_tracings(manifest)
    file.write_text("FileName,Frame,X,Y\n")
    assert read_tracings(manifest) == {}
    file.write_bytes(b"FileName,Frame\n\xff\xfe,1\n")
    with pytest.raises(InputError, match="not a readable CSV"):
        read_tracings(manifest)
    name = lines["FileName"].iloc[0]
    frame = lines["Frame"].iloc[0]
    few = lines[(lines["FileName"] == name) & (lines["Frame"] == frame)][:2]
    other = lines[lines["FileName"] == lines["FileName"].iloc[-1]].assign(FileName=lambda t: t["FileName"].str[:-4])
    strange = other.assign(FileName="0XSTRANGE.avi")
    pd.concat([few, other, strange]).to_csv(file, index=False)
    tracings = read_tracings(manifest)
    video = other["FileName"].iloc[0]
    assert len(tracings.pop(name[:-4], {})) <= 1 and list(tracings) == [video], "names with and without .avi"
    file.unlink()
    with pytest.raises(InputError, match=r"no VolumeTracings\.csv"):
        read_tracings(manifest)
    with pytest.raises(InputError, match=r"no VolumeTracings\.csv"):
        read_tracings(replace(manifest, name="x", videos=manifest.videos.assign(path="x.avi")))


@given(st.floats(3, 20), st.floats(3, 20), st.floats(0, 10), st.floats(0, 10))
def test_area_and_mask_of_a_rectangle(width: float, height: float, x: float, y: float) -> None:
    corners = np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])
    assert area(corners) == pytest.approx(width * height) == area(corners[::-1].copy())
    columns, rows = np.arange(40), np.arange(36)[:, None]
    deep = np.minimum(np.minimum(columns - x, x + width - columns), np.minimum(rows - y, y + height - rows))
    clear = np.abs(deep) > 1e-6  # on the line itself either is right
    np.testing.assert_array_equal(mask_of(corners, 36, 40)[clear], (deep > 0)[clear])
