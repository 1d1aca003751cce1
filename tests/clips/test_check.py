"""What opening every video shows: duplicates, one video under two names, what cannot be read."""

from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest

from echolung.clips.check import check_videos, inspect_video
from echolung.datasets import Manifest


def remux(source: Path, target: Path) -> Path:
    """Put the same packets into another container."""
    with av.open(str(source)) as read, av.open(str(target), "w") as write:
        stream = write.add_stream_from_template(read.streams.video[0])
        for packet in read.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                write.mux(packet)
    return target


def manifest(folder: Path, names: list[str]) -> Manifest:
    table = pd.DataFrame({"video_id": [Path(n).name.replace(".", "_") for n in names], "path": names})
    return Manifest("table", folder, table.assign(patient="", source=""), {})


@pytest.fixture
def folder(tmp_path, grey_frames, write_video):
    write_video(tmp_path / "a.mp4", grey_frames(30))
    remux(tmp_path / "a.mp4", tmp_path / "b.mov")
    remux(tmp_path / "a.mp4", tmp_path / "c.mkv")
    (tmp_path / "d.mp4").write_bytes((tmp_path / "a.mp4").read_bytes())
    write_video(tmp_path / "e.mp4", grey_frames(30, seed=1), fps=50)
    write_video(tmp_path / "f.mp4", grey_frames(29))
    (tmp_path / "g.mp4").write_text("no video")
    return tmp_path


def test_check(folder):
    names = ["a.mp4", "b.mov", "c.mkv", "d.mp4", "e.mp4", "f.mp4", "g.mp4", "h.mp4"]
    steps = []
    found = check_videos(manifest(folder, names), workers=2, advance=lambda: steps.append(1))
    assert len(steps) == 8
    assert set(found.unreadable) == {"g_mp4", "h_mp4"}
    assert "g.mp4" in found.unreadable["g_mp4"] and "There is no file" in found.unreadable["h_mp4"]
    assert found.duplicates == [["a_mp4", "d_mp4"]]
    assert found.same_frames == [["a_mp4", "b_mov", "c_mkv", "d_mp4"]]
    assert found.videos["frames"].tolist()[:6] == [30, 30, 30, 30, 30, 29]
    assert found.videos["frames"].isna().tolist() == [False] * 6 + [True] * 2
    assert found.videos["height"][0] == 48 and found.videos["width"][0] == 64
    np.testing.assert_allclose(found.videos["fps"][[0, 1, 4]], [25, 25, 50], rtol=1e-3)


def test_a_folder_of_images_has_no_clock(tmp_path):
    from PIL import Image

    for number in range(3):
        Image.fromarray(np.full((8, 9), number, np.uint8)).save(tmp_path / f"{number}.png")
    facts = inspect_video(tmp_path, "auto")
    assert (facts.frames, facts.height, facts.width, facts.fps) == (3, 8, 9, 0.0)
