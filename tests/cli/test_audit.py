"""`echolung data audit`: what the data give away, before any model."""

import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

from echolung.cli.app import app
from echolung.evaluation.checks import forest


def run(*arguments, code=0):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def table(tmp_path_factory, write_video, grey_frames):
    """Return a CSV of 12 patients: one class is all GIF, one file is there twice, one is no video."""
    folder = tmp_path_factory.mktemp("audited")
    lines = ["path,patient,source,kind"]
    for i in range(12):
        ill = i % 2
        name = f"v{i}.{'gif' if ill else 'mp4'}"
        frames = grey_frames(8 + i // 2, seed=i)
        write_video(folder / name, frames, **({"codec": "gif", "pixels": "gray"} if ill else {}))
        lines.append(f"{name},p{i},s{i % 4 // 2},{'ill' if ill else 'well'}")
    (folder / "again.mp4").write_bytes((folder / "v0.mp4").read_bytes())
    (folder / "broken.mp4").write_text("no video")
    lines += ["again.mp4,p99,s1,well", "broken.mp4,p98,s1,well"]
    (folder / "clips.csv").write_text("\n".join(lines) + "\n")
    return folder / "clips.csv"


@pytest.fixture(autouse=True)
def small_forest(monkeypatch):
    monkeypatch.setattr(forest, "TREES", 10)
    monkeypatch.setattr(forest, "DRAWS", 1)


def test_audit(table):
    shown = run("data", "audit", table, "--workers", 1, "--mute", "EL110").output
    assert "13 videos, 13 patients, 2 sources" in shown and "unreadable (1): broken" in shown
    assert re.search(r"! EL104 +equal files", shown) and "v0 = again" in shown
    assert re.search(r"! EL107 +label predictable from the file alone", shown) and "→ Quote the forest's score" in shown
    assert "✓ EL101" in shown and "– EL109" in shown and "EL110" not in shown
    assert "1 muted" in shown

    found = json.loads(run("data", "audit", table, "--workers", 1, "--json").stdout)
    assert found["videos"] == 13 and list(found["unreadable"]) == ["broken"]
    by_code = {finding["code"]: finding for finding in found["findings"]}
    assert by_code["EL104"]["status"] == by_code["EL105"]["status"] == by_code["EL107"]["status"] == "warning"
    assert "v0 and again" in by_code["EL105"]["found"]  # one file under two patients
    assert by_code["EL106"]["status"] == "not applicable"


def test_bad_input(table, tmp_path):
    beyond = json.loads(run("data", "audit", table, "--workers", 1, "--crop", "0,0,9,9", "--json").stdout)
    assert list(beyond["unreadable"]) == ["broken"], "the crop lies in all the others"
    beyond = run("data", "audit", table, "--workers", 1, "--crop", "0,0,999,9", code=1)
    assert "Not one of the 14 videos" in str(beyond.exception)
    assert "must be X,Y,W,H" in str(run("data", "audit", table, "--crop", "1,2", code=1).exception)
    assert "There is no check 'EL1'" in str(run("data", "audit", table, "--mute", "EL1", code=1).exception)
    assert "has no task 'kid'" in str(run("data", "audit", table, "--task", "kid", code=1).exception)
    (tmp_path / "v.csv").write_text("path,patient,source,kind\na.mp4,1,s,ill\nb.mp4,2,s,well\n")
    for name in "ab":
        (tmp_path / f"{name}.mp4").write_text("no video")
    nothing = run("data", "audit", tmp_path / "v.csv", "--workers", 1, code=1)
    assert "Not one of the 2 videos" in str(nothing.exception)


@pytest.mark.slow
def test_pocus(real_data):
    """What the real videos give away; docs/datasets/pocus.md shows it."""
    arguments = ["data", "audit", "pocus", "--data", real_data / "covid19_ultrasound", "--json"]
    found = {f["code"]: f for f in json.loads(run(*arguments).stdout)["findings"]}
    assert {code for code, f in found.items() if f["status"] == "warning"} >= {
        "EL101",
        "EL102",
        "EL103",
        "EL107",
        "EL108",
    }
    assert found["EL104"]["status"] == "fine"
    file = found["EL107"]["scores"]
    np.testing.assert_allclose([file[level]["accuracy"] for level in ("video", "patient")], [0.79, 0.748], atol=0.06)
    assert file["source"]["accuracy"] < 0.5
