"""`data index`: what is found under a folder, and the CSV that comes of it."""

import json
import re
import shutil
from pathlib import Path, PurePath

import numpy as np
import pydicom
import pydicom.examples
import pytest
from PIL import Image
from typer.testing import CliRunner

from echolung.cli.app import app
from echolung.datasets import load_manifest
from echolung.datasets.dicom import pseudonym
from echolung.datasets.formats import format_of
from echolung.datasets.index import index, write
from echolung.errors import InputError

ECHO = Path(pydicom.examples.get_path("ybr_color"))


@pytest.fixture
def folder(tmp_path, grey_frames, write_video):
    """Return a folder as a department has it: patients' folders, DICOM without suffix, frames, and what is no video."""
    root = tmp_path / "Übungs daten"
    for name in ("Frau Ä", "Herr B", "Frau Ä/frames of one", ".hidden"):
        (root / name).mkdir(parents=True)
    shutil.copy(ECHO, root / "Frau Ä" / "IM 0001")
    shutil.copy(ECHO, root / "Herr B" / "1.2.840.10008")
    shutil.copy(ECHO.parent / "reportsi.dcm", root / "Herr B")
    shutil.copy(ECHO.parent / "examples_rgb_color.dcm", root / "Herr B" / "still.dcm")
    shutil.copy(ECHO, root / ".hidden" / "x.dcm")
    write_video(root / "Herr B" / "sweep, left.mp4", grey_frames(6))
    for number in range(3):
        Image.fromarray(np.full((16, 16), 40 * number, np.uint8)).save(root / "Frau Ä/frames of one" / f"{number}.png")
    (root / "notes.txt").write_text("of somebody")
    (root / "empty.mp4").write_bytes(b"")
    return root


def test_what_is_found_can_be_loaded(folder):
    table = folder.parent / "meine Vidéos.csv"
    found = index(folder, table)
    write(found, table)
    assert [row["path"] for row in found.rows] == [
        f"{folder.name}/{name}"
        for name in ("Frau Ä/IM 0001", "Frau Ä/frames of one", "Herr B/1.2.840.10008", "Herr B/sweep, left.mp4")
    ]
    assert set(found.passed) == {
        "no format of videos",
        "empty (0 bytes)",
        "DICOM without a picture (report, index of a disc, …)",
        "a DICOM still, of one frame",
    }
    assert table.read_text("utf-8").splitlines()[0] == "path,patient,source,label"
    manifest = load_manifest("table", table)
    assert len(manifest.videos) == 4 and not manifest.tasks
    assert any("label is empty" in note for note in manifest.notes)


def test_patients(folder):
    dicom = index(folder, folder.parent / "x.csv")
    known = {row["path"].split("/")[-1]: row["patient"] for row in dicom.rows}
    assert known["IM 0001"] == known["1.2.840.10008"] == pseudonym(ECHO) != ""
    assert known["sweep, left.mp4"] == ""
    of_folder = index(folder, folder.parent / "x.csv", "folder")
    assert [row["patient"] for row in of_folder.rows] == ["Frau Ä", "Frau Ä", "Herr B", "Herr B"]


def test_names_are_nowhere(folder, tmp_path):
    echo = pydicom.dcmread(ECHO)
    table = tmp_path / "x.csv"
    write(index(folder, table), table)
    text = table.read_text("utf-8")
    assert echo.PatientName and str(echo.PatientName) not in text
    # As a word: three digits of it may stand in a pseudonym by chance.
    assert echo.PatientID and not re.search(rf"\b{re.escape(echo.PatientID)}\b", text)


def test_refusals(folder, tmp_path):
    table = tmp_path / "x.csv"
    table.write_text("path,label\nmine,1\n")
    with pytest.raises(InputError, match="filled in"):
        write(index(folder, table), table)
    assert table.read_text() == "path,label\nmine,1\n"
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "a.docx").write_bytes(b"x")
    with pytest.raises(InputError, match=r"no video under .* no format of videos \(a.docx\)"):
        index(tmp_path / "none", table)
    with pytest.raises(InputError, match="is not there"):
        index(tmp_path / "nowhere", table)
    with pytest.raises(InputError, match="dicom or folder"):
        index(folder, table, "name")


def test_command(folder):
    table = folder / "videos.csv"
    done = CliRunner().invoke(app, ["data", "index", str(folder), "--out", str(table), "--json"])
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert (facts["videos"], facts["patients"], facts["without_patient"]) == (4, 1, 2)
    # A second run does not find its own table, and does not write over it.
    again = CliRunner().invoke(app, ["data", "index", str(folder), "--out", str(table)])
    assert again.exit_code != 0


def test_patient_of_a_table_without_one(folder):
    table = folder / "mine.csv"
    table.write_text("path,patient,ef\nFrau Ä/IM 0001,,50\nHerr B/1.2.840.10008,P7,60\n", "utf-8")
    manifest = load_manifest("table", table)
    assert manifest.videos["patient"].tolist() == [pseudonym(ECHO), "P7"]
    assert any("patient.key" in note for note in manifest.notes)
    table.write_text("path,ef\nFrau Ä/IM 0001,50\nHerr B/1.2.840.10008,60\n", "utf-8")
    assert load_manifest("table", table).videos["patient"].nunique() == 1


@pytest.mark.parametrize("value", [b"x ", b"3\\"])
def test_a_damaged_number_of_frames_is_passed_over(folder, value):
    # (0028,0008), IS, two bytes: the clip has "30".
    whole = ECHO.read_bytes()
    tag = b"\x28\0\x08\0IS\x02\0"
    assert whole.count(tag + b"30") == 1
    (folder / "Herr B" / "damaged.dcm").write_bytes(whole.replace(tag + b"30", tag + value))
    found = index(folder, folder.parent / "x.csv")
    assert found.passed["a damaged DICOM file, or none"] == ["Herr B/damaged.dcm"]
    assert len(found.rows) == 4


def test_each_file_of_a_large_folder_is_looked_at_once(tmp_path, monkeypatch):
    for number in range(40):
        (tmp_path / f"{number}.png").touch()
        (tmp_path / f"{number}.txt").touch()
    looked_at, hashed, of_path = [], [], PurePath.__hash__
    monkeypatch.setattr("echolung.datasets.index.format_of", lambda path: looked_at.append(path) or format_of(path))
    monkeypatch.setattr(PurePath, "__hash__", lambda path: hashed.append(1) or of_path(path))
    found = index(tmp_path, tmp_path / "x.csv")
    assert [row["path"] for row in found.rows] == ["."] and len(found.passed["no format of videos"]) == 40
    assert len(looked_at) == 80
    assert len(hashed) <= 2 * 80  # not of every image for every file
