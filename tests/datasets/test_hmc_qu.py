"""The adapter of HMC-QU on phantoms in its layout: whole, then as people really have it."""

import shutil
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echolung.clips import decode
from echolung.datasets import Manifest, hmc_qu_layout, load_manifest
from echolung.datasets.hmc_qu import MASKS, patient_of, read_mask, read_table
from echolung.errors import DecodeError, InputError


def note(manifest: Manifest, word: str) -> str:
    """Return the one note that holds `word`."""
    (found,) = [text for text in manifest.notes if word in text]
    return found


def edit(file: Path, *cells: tuple[str, object]) -> None:
    """Set cells of a workbook."""
    book = openpyxl.load_workbook(file)
    for place, value in cells:
        book.active[place] = value
    book.save(file)


# ---- as distributed


def test_as_distributed(hmc_qu_written: Path) -> None:
    manifest = load_manifest("hmc-qu", hmc_qu_written)
    videos = manifest.videos
    assert list(manifest.tasks) == ["mi", "mi-masked"] and manifest.tasks["mi"].classes == ("non-MI", "MI")
    assert videos["mi"].tolist() == ["MI" if word == "1" else "non-MI" for word in hmc_qu_layout.SICK[:6]]
    assert ((videos["infarcted_segments"] > 0) == (videos["mi"] == "MI")).all()
    assert videos["mi_masked"].tolist() == [w if i % 3 < 2 else "" for i, w in enumerate(videos["mi"])]
    assert ((videos["mask_path"] != "") == (videos["mi_masked"] != "")).all()
    assert videos["patient"].tolist() == [f"ES000{i}" for i in range(1, 7)]
    assert not videos["video_id"].str.contains(" ").any() and videos["path"].str.contains(" ").any()
    assert videos["first_frame"].isna().all() and manifest.span(0) is None
    assert "ticked" in note(manifest, "109") and "162" in note(manifest, "lists 6 videos")
    assert "right for 100%" in note(manifest, "never give a name to a model")
    assert all(len(decode(manifest.file(row))) == 64 for row in range(2))


def test_views_and_the_footnote(hmc_qu_written: Path) -> None:
    with pytest.raises(InputError, match="has the views A4C"):
        load_manifest("hmc-qu", hmc_qu_written, view="A3C")
    other = load_manifest("hmc-qu", hmc_qu_written, view="2ch")
    assert set(other.videos["view"]) == {"A2C"} and list(other.tasks) == ["mi"], "no masks of this view"
    assert "1 row of A2C.xlsx" in note(other, "footnote") and "row 9" in note(other, "footnote")
    assert any("_CH2_" in name for name in other.videos["video_id"]) and (other.videos["mi_masked"] == "").all()
    both = load_manifest("hmc-qu", hmc_qu_written, view="both")
    assert len(both.videos) == 12 and both.videos["patient"].nunique() == 6
    assert "folds are by patient" in note(both, "may differ")


def test_one_heartbeat(hmc_qu_written: Path) -> None:
    manifest = load_manifest("hmc-qu", hmc_qu_written, cycle="one")
    book = openpyxl.load_workbook(hmc_qu_written / "A4C.xlsx").active
    for row in range(6):
        first, last = manifest.span(row)
        assert (first + 1, last + 1) == (book.cell(row + 3, 8).value, book.cell(row + 3, 9).value), "1-based there"
        if mask := manifest.videos["mask_path"][row]:
            assert len(read_mask(manifest.root / mask)) == last - first + 1
    with pytest.raises(InputError, match="cycle of HMC-QU is whole"):
        load_manifest("hmc-qu", hmc_qu_written, cycle="two")


def test_masks_lie_on_the_wall(hmc_qu_written: Path) -> None:
    manifest = load_manifest("hmc-qu", hmc_qu_written, cycle="one")
    walls, cavities = [], []
    for row in np.flatnonzero(manifest.videos["mask_path"] != "").tolist():
        masks = read_mask(manifest.root / manifest.videos["mask_path"][row])
        first, last = manifest.span(row)
        frames = decode(manifest.file(row))[first : last + 1, ..., 0]
        rows, columns = (np.arange(224) * n // 224 for n in frames.shape[1:])
        whole = frames[:, rows[:, None], columns].astype(float)
        walls.append(whole[masks].mean())
        middle = masks.any(axis=0).nonzero()
        y, x = int(np.mean(middle[0])), int(np.mean(middle[1]))
        cavities.append(whole[:, y - 6 : y + 6, x - 4 : x + 4].mean())
    assert np.mean(cavities) < 0.7 * np.mean(walls)


# ---- as people have it


def test_any_depth_and_what_is_no_hmc_qu(hmc_qu: Path, tmp_path: Path) -> None:
    assert load_manifest("hmc-qu", tmp_path).root == hmc_qu
    shutil.copytree(hmc_qu, tmp_path / "again")
    with pytest.raises(InputError, match="more than once"):
        load_manifest("hmc-qu", tmp_path)
    with pytest.raises(InputError, match=r"is not HMC-QU: looked for A4C\.xlsx"):
        load_manifest("hmc-qu", hmc_qu / MASKS)
    (hmc_qu / "A2C.xlsx").unlink()
    with pytest.raises(InputError, match=r"has no A2C\.xlsx"):
        load_manifest("hmc-qu", hmc_qu, view="both")


def test_the_package_without_videos(hmc_qu: Path) -> None:
    shutil.rmtree(hmc_qu / "HMC-QU")
    with pytest.raises(InputError, match=r"lists 6 videos, but no video.*come without their videos"):
        load_manifest("hmc-qu", hmc_qu)


def test_tables_of_another_form(hmc_qu: Path) -> None:
    file = hmc_qu / "A4C.xlsx"
    kept = file.read_bytes()
    for cells in ([("A1", "Name")], [("H1", None)], [("A1", None)]):
        edit(file, *cells)
        with pytest.raises(InputError, match=r"is not a table of HMC-QU: its first row must be ECHO"):
            load_manifest("hmc-qu", hmc_qu)
        file.write_bytes(kept)
    book = openpyxl.load_workbook(file)
    book.active.delete_cols(3)
    book.save(file)
    with pytest.raises(InputError, match="is not a table of HMC-QU"):
        load_manifest("hmc-qu", hmc_qu)
    for content in (b"", b"ECHO,SEG1\n", kept[:500]):
        file.write_bytes(content)
        with pytest.raises(InputError, match=r"is not a readable \.xlsx"):
            load_manifest("hmc-qu", hmc_qu)


def test_cells_and_files_that_do_not_agree(hmc_qu: Path) -> None:
    whole = load_manifest("hmc-qu", hmc_qu).videos
    edit(
        hmc_qu / "A4C.xlsx",
        ("A3", " es0001_4ch_1.AVI"),  # written otherwise than the file
        ("B4", "non - mi "),
        ("C5", "maybe"),  # no label: no video
        ("H6", "x"),
        ("J7", "x"),  # no tick
        ("A8", "ES000999_4CH_1"),
    )
    (hmc_qu / whole["mask_path"][3]).unlink()
    manifest = load_manifest("hmc-qu", hmc_qu, cycle="one")
    videos = manifest.videos.set_index("patient")
    assert list(videos.index) == ["ES0001", "ES0002", "ES0004", "ES0005"]
    assert videos.loc["ES0001", "path"] == whole["path"][0] and videos.loc["ES0002", "mi"] == "non-MI"
    assert "row 5 (ES0003_4CH_3)" in note(manifest, "no video")
    assert "ES000999_4CH_1" in note(manifest, "not on disk")
    assert "2 videos on disk" in note(manifest, "does not list") and "ES0003_4CH_3" in note(manifest, "does not list")
    assert "1 video ticked as having masks, without" in note(manifest, "ticked as having masks, without")
    assert note(manifest, "Without a marked heartbeat").endswith("ES0004_4CH_1.") and manifest.span(2) is None
    assert videos.loc["ES0005", "mi_masked"] == "", "an x is no tick"
    for file in (hmc_qu / "HMC-QU" / "A4C").iterdir():
        file.rename(file.with_name(f"other{file.name}"))
    with pytest.raises(InputError, match=r"Not one video of .* is in its tables"):
        load_manifest("hmc-qu", hmc_qu)


def test_masks_that_are_none(hmc_qu: Path, tmp_path: Path) -> None:
    from scipy.io import savemat

    for content in (b"", b"no matlab"):
        (tmp_path / "x.mat").write_bytes(content)
        with pytest.raises(DecodeError, match=r"not a readable \.mat"):
            read_mask(tmp_path / "x.mat")
    for variables, found in (
        ({"mask": np.ones((2, 224, 224))}, "no variable"),
        ({"predicted": np.ones((2, 3, 4))}, "shape"),
    ):
        savemat(tmp_path / "x.mat", variables)
        with pytest.raises(DecodeError, match=found):
            read_mask(tmp_path / "x.mat")
    with pytest.raises(DecodeError, match="nowhere"):
        read_mask(tmp_path / "nowhere.mat")


BLANKS = st.text(" \t_", max_size=3)


@given(
    st.integers(0, 10**6),
    BLANKS,
    st.sampled_from(["", "N", "n"]),
    BLANKS,
    st.sampled_from(["4CH", "2CH", "CH2"]),
    st.integers(1, 9),
)
def test_patients_of_dirty_names(number: int, before: str, mark: str, after: str, view: str, take: int) -> None:
    assert patient_of(f"{before}ES{number}{after}{mark}{after}_{view}_{take}") == f"ES{number}"
    assert patient_of(f"{before}es{number}{mark}_{view}") == f"ES{number}"


@given(st.text(st.characters(exclude_characters="sS", exclude_categories=("C",))))
def test_names_without_a_patient_stand_for_themselves(name: str) -> None:
    assert patient_of(name) == name.strip()


@given(
    st.lists(
        st.lists(st.sampled_from(["MI", "non-MI", " mi", "Non MI", "non-mi "]), min_size=6, max_size=6),
        min_size=1,
        max_size=8,
    )
)
@settings(max_examples=25)
def test_any_infarcted_segment_counts(tmp_path_factory: pytest.TempPathFactory, segments: list[list[str]]) -> None:
    file = tmp_path_factory.mktemp("table") / "A4C.xlsx"
    rows = [{"cells": [f"ES{i}_4CH_1", *words, 1, 20], "tick": None} for i, words in enumerate(segments)]
    file.write_bytes(hmc_qu_layout._table("A4C", rows))
    table, notes = read_table(file)
    assert not notes and table["name"].tolist() == [row["cells"][0] for row in rows]
    assert table["infarcted"].tolist() == [
        sum(not w.strip().lower().startswith("non") for w in words) for words in segments
    ]
    assert (table["start"] == 0).all() and (table["end"] == 19).all() and not table["ticked"].any()
