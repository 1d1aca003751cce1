"""The adapter of CAMUS on phantoms in its layout: whole, then as people really have it."""

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echolung.clips.decode import decode_chosen
from echolung.datasets import DATASETS, Manifest, camus_layout, load_manifest
from echolung.datasets.camus import read_cfg
from echolung.errors import InputError

INSIDE = "database_nifti"


def note(manifest: Manifest, word: str) -> str:
    """Return the one note that holds `word`."""
    (found,) = [text for text in manifest.notes if word in text]
    return found


def change(root: Path, patient: int, old: str, new: str, view: str = "4CH") -> Path:
    """Replace a text in an Info_*.cfg."""
    file = root / INSIDE / f"patient{patient:04d}" / f"Info_{view}.cfg"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    return file


# ---- as distributed


def test_as_distributed(camus_written: Path) -> None:
    manifest = load_manifest("camus", camus_written)
    videos = manifest.videos
    assert manifest.root == camus_written / INSIDE and list(manifest.tasks) == list(DATASETS["camus"].tasks)
    assert videos["video_id"].tolist() == [f"patient{i:04d}_4CH" for i in range(1, 11)]
    assert set(videos["view"]) == {"A4C"} and videos["patient"].is_unique
    assert ((videos["ef"] < 50) == (videos["ef_reduced"] == "EF < 50")).all()
    groups = {"Good": "Good+Medium", "Medium": "Good+Medium", "Poor": "Poor"}
    assert videos["quality_group"].tolist() == [groups[word] for word in videos["quality"]]
    assert set(videos["sex"]) == {"male", "female"} and videos["age"].between(20, 90).all()
    assert videos["fold"].tolist() == list(range(10)), "ten runs of the sorted patients"
    assert set(videos["split"]) == {"train", "val", "test"}
    assert manifest.task()[1].level == "patient"


def test_old_and_new_keys_of_the_ejection_fraction(camus_written: Path) -> None:
    root = camus_written
    keys = {
        name: set(read_cfg((root / INSIDE / name / "Info_4CH.cfg").read_text()))
        for name in ("patient0001", "patient0007")
    }
    assert "EF" in keys["patient0001"] and "LVef" not in keys["patient0001"]
    assert "LVef" in keys["patient0007"] and "EF" not in keys["patient0007"]
    videos = load_manifest("camus", root).videos.set_index("patient")
    assert videos["ef"].between(0, 100).all() and np.isnan(videos.loc["patient0007", "frame_rate"])


def test_both_views_share_the_patients_ejection_fraction(camus_written: Path) -> None:
    manifest = load_manifest("camus", camus_written, view="both")
    assert len(manifest.videos) == 20 and set(manifest.videos["view"]) == {"A4C", "A2C"}
    assert (manifest.videos.groupby("patient")[["ef", "fold"]].nunique() == 1).all(axis=None)
    assert "folds are by patient" in note(manifest, "share its EF")
    for same in (("A2C", "2CH"), ("a4c", "4ch")):
        one, other = (load_manifest("camus", camus_written, view=view).videos for view in same)
        assert one.equals(other)
    with pytest.raises(InputError, match="has the views A4C"):
        load_manifest("camus", camus_written, view="PSAX")


def test_backward_sequences_are_read_from_ed_to_es(camus_written: Path) -> None:
    manifest = load_manifest("camus", camus_written)
    backwards = manifest.videos["video_id"][manifest.videos["first_frame"].notna()].tolist()
    assert backwards == ["patient0005_4CH", "patient0010_4CH"]
    assert "2 half sequences" in note(manifest, "read backwards")
    for row in (3, 4):
        name = manifest.videos["video_id"][row]
        folder = manifest.file(row).parent
        frames, _ = decode_chosen(manifest.file(row), lambda t: np.arange(len(t)), span=manifest.span(row))
        for frame, phase in ((0, "ED"), (-1, "ES")):
            still = np.asarray(nibabel.load(folder / f"{name}_{phase}.nii.gz").dataobj)
            np.testing.assert_array_equal(frames[frame, ..., 0], still.T)
        ends = [int(manifest.videos[f"{phase}_frame"][row]) for phase in ("ed", "es")]
        assert sorted(ends) == [0, len(frames) - 1]


def test_cavities_shrink_from_ed_to_es_as_the_table_says(camus_written: Path) -> None:
    manifest = load_manifest("camus", camus_written)
    for row in range(10):
        stem = str(manifest.file(row)).removesuffix("_half_sequence.nii.gz")
        areas = [
            int((np.asarray(nibabel.load(f"{stem}_{phase}_gt.nii.gz").dataobj) == 1).sum()) for phase in ("ED", "ES")
        ]
        shrinks = 1 - areas[1] / areas[0]  # length goes with the volume to 0.25, width to 0.375
        assert abs(shrinks - (1 - (1 - manifest.videos["ef"][row] / 100) ** 0.625)) < 0.12


def test_folds_as_parts(camus_written: Path) -> None:
    videos = load_manifest("camus", camus_written, fold=9).videos
    assert videos["patient"][videos["split"] == "test"].tolist() == ["patient0010"]
    assert videos["patient"][videos["split"] == "val"].tolist() == ["patient0001"]
    for wrong in (10, -1, "x"):
        with pytest.raises(InputError, match="folds 0 to 9"):
            load_manifest("camus", camus_written, fold=wrong)


# ---- as people have it


def test_any_depth_of_folders(camus: Path, tmp_path: Path) -> None:
    deep = tmp_path / "a" / "CAMUS_public"
    deep.parent.mkdir()
    camus.rename(deep)
    for at in (tmp_path / "a", deep, deep / INSIDE):
        assert load_manifest("camus", at).root == deep / INSIDE
    with pytest.raises(InputError, match=r"is one patient of CAMUS: give .*database_nifti"):
        load_manifest("camus", deep / INSIDE / "patient0001")
    with pytest.raises(InputError, match=r"is not CAMUS.*database_nifti would work: give it with --data"):
        load_manifest("camus", deep / "database_split")
    with pytest.raises(InputError, match="There is no folder"):
        load_manifest("camus", tmp_path / "nowhere")


def test_the_old_release_beside_the_new(camus: Path, tmp_path: Path) -> None:
    for part in ("training", "testing"):
        folder = tmp_path / part / "patient0001"
        folder.mkdir(parents=True)
        (folder / "patient0001_4CH_sequence.mhd").touch()
    with pytest.raises(InputError, match=r"as the challenge had it, \.mhd"):
        load_manifest("camus", tmp_path)
    camus.joinpath(INSIDE).rename(tmp_path / INSIDE)
    assert load_manifest("camus", tmp_path).root == tmp_path / INSIDE
    shutil.copytree(tmp_path / INSIDE, tmp_path / "copy")
    with pytest.raises(InputError, match="holds CAMUS more than once"):
        load_manifest("camus", tmp_path)


def test_the_old_release_alone_is_named(camus: Path) -> None:
    for file in camus.rglob("*.nii.gz"):
        file.rename(file.with_name(file.name.replace("half_sequence.nii.gz", "sequence.mhd")))
    with pytest.raises(InputError, match=r"as the challenge had it, \.mhd.*database_nifti"):
        load_manifest("camus", camus)
    for file in camus.rglob("*.mhd"):
        file.unlink()
    with pytest.raises(InputError, match=r"no \*_half_sequence\.nii\.gz in any"):
        load_manifest("camus", camus)


@pytest.mark.parametrize("value", ["101", "-3", "normal", "", "nan"])
def test_an_ejection_fraction_that_is_none(camus: Path, value: str) -> None:
    old = next(
        line for line in (camus / INSIDE / "patient0003" / "Info_4CH.cfg").read_text().splitlines() if "EF" in line
    )
    change(camus, 3, old, f"EF: {value}")
    with pytest.raises(InputError, match=rf"EF of patient0003_4CH in .*Info_4CH\.cfg is '{value}'"):
        load_manifest("camus", camus)
    change(camus, 3, f"EF: {value}", "Fraction: 55")
    with pytest.raises(InputError, match=r"Info_4CH\.cfg has no EF \(nor LVef.*Fraction"):
        load_manifest("camus", camus)


def test_missing_files_and_odd_cells(camus: Path) -> None:
    folder = camus / INSIDE
    (folder / "patient0002" / "patient0002_4CH_half_sequence.nii.gz").unlink()
    (folder / "patient0004" / "Info_4CH.cfg").unlink()
    change(camus, 6, "NbFrame: ", "NbFrame: 1")
    file = change(camus, 8, "ImageQuality: ", "ImageQuality: very ")
    file.write_text("a line without its colon\n" + file.read_text().replace("Age: ", "Age: about "))
    shutil.rmtree(camus / "database_split")
    manifest = load_manifest("camus", camus)
    assert note(manifest, "Left out").endswith("(2): patient0002_4CH, patient0004_4CH.")
    assert note(manifest, "not the two ends").endswith("patient0006_4CH.")
    assert "patient0008_4CH" in note(manifest, "without an ImageQuality")
    assert "split" not in manifest.videos and "--fold 0 to 9" in note(manifest, "no official split")
    row = manifest.videos.set_index("patient").loc["patient0008"]
    assert row["quality"] == row["quality_group"] == "" and np.isnan(row["age"])
    assert len(load_manifest("camus", camus, view="2CH").videos) == 10


def test_fewer_phantoms_leave_no_patient_of_the_others(tmp_path: Path) -> None:
    camus_layout.write(tmp_path, videos=6, frames=4, size=32)
    camus_layout.write(tmp_path, videos=3, frames=4, size=32)
    assert len(load_manifest("camus", tmp_path, view="both").videos) == 3
    change(tmp_path, 1, "NbFrame", "Frames")
    with pytest.raises(InputError, match=r"Info_4CH\.cfg there is not the table that came with them"):
        camus_layout.write(tmp_path, videos=3, frames=4, size=32)


KEYS = st.text(st.characters(exclude_characters=":", exclude_categories=("C", "Z")), min_size=1)
VALUES = st.text(st.characters(exclude_categories=("C", "Z")))


@given(st.dictionaries(KEYS, VALUES), st.sampled_from(["\n", "\r\n"]), st.sampled_from(["", " ", "\t"]))
def test_a_cfg_is_read_whatever_its_blanks_and_colons(pairs: dict[str, str], end: str, blank: str) -> None:
    text = end.join(f"{blank}{key}{blank}:{blank}{value}{blank}" for key, value in pairs.items())
    assert read_cfg(f"no pair{end}{text}") == pairs
