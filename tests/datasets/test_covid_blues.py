import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from echolung.datasets import load_manifest
from echolung.errors import InputError


@pytest.fixture
def full(real_data, tmp_path):
    """Return the whole dataset: the real tables beside an empty file for each video that they name."""
    root = tmp_path / "COVID-BLUES"
    (root / "lus_videos").mkdir(parents=True)
    for name in ("severity.csv", "clinical_variables.csv"):
        shutil.copyfile(real_data / "COVID-BLUES" / name, root / name)
    for stem in pd.read_csv(root / "severity.csv")["video_file"].str.strip():
        (root / "lus_videos" / f"{stem}.mp4").touch()
    return root


@pytest.fixture
def small(tmp_path):
    """Return a dataset of four patients whose tables are untidy."""
    root = tmp_path / "blues"
    (root / "lus_videos").mkdir(parents=True)
    (root / "severity.csv").write_text(
        "video_file,Severity Score,A-lines,B-lines,comments\n"
        'patient_2_L1,2.0,Yes ,no,"one, two"\n'
        "patient_2_L1_2,3,yes, yes,\n"
        "patient_1_R3,,no,maybe,\n"
        "patient_1_R3,1.0,no,no,\n"
        "patient_10_L2,0.0,no,no,\n"
        "summary,,,,\n"
    )
    (root / "clinical_variables.csv").write_text(
        "patient_id,cov_test,pat_age,pat_sex\n2,1,60,1.0\n1,0,-99.0,0.0\n10,,40,\n3,1,5,0\n"
    )
    for name in ("patient_2_L1.mp4", "patient_2_L1_2.mp4", "patient_1_R3.mp4", "patient_10_L2.MP4", "patient_3_R1.mp4"):
        (root / "lus_videos" / name).touch()
    return root


def note(manifest, word):
    """Return the one note that holds `word`."""
    (found,) = [text for text in manifest.notes if word in text]
    return found


def test_real_counts(real_data):
    manifest = load_manifest("covid-blues", real_data / "COVID-BLUES")
    videos = manifest.videos
    if len(videos) == 362:
        pytest.skip("the whole dataset is here: test_full_set covers it")
    assert (len(videos), videos["patient"].nunique()) == (101, 18)
    assert list(manifest.tasks) == ["covid", "severity", "a-lines", "b-lines"]
    assert manifest.tasks["covid"].level == "patient" and manifest.tasks["severity"].ordinal
    assert all(manifest.file(i).is_file() for i in range(len(videos)))
    text = note(manifest, "not on disk")
    assert text.startswith(
        "261 of the 362 videos in severity.csv, of 45 patients, are not on disk: patient 1 (7), patient 4 (6), "
    )
    assert text.endswith(" and 40 more.")
    assert "\n" not in text and text.count("patient ") == 5
    assert len(manifest.notes) == 1


def test_full_set(full):
    manifest = load_manifest("covid-blues", full)
    videos = manifest.videos
    assert (len(videos), videos["patient"].nunique(), manifest.notes) == (362, 63, ())
    assert dict(videos["covid"].value_counts()) == {"positive": 197, "negative": 165}
    assert [(videos["severity"] == level).sum() for level in "0123"] == [120, 111, 83, 48]
    assert set(videos["a_lines"]) == set(videos["b_lines"]) == {"no", "yes"}
    assert list(videos["published_fold"].value_counts().sort_index()) == [74, 73, 77, 66, 72]
    assert list(videos.groupby("published_fold")["patient"].nunique()) == [13, 13, 13, 12, 12]
    patients = videos.drop_duplicates("patient")
    assert dict(patients["covid"].value_counts()) == {"positive": 33, "negative": 30}
    assert set(videos["point"]) == {"L1", "L2", "L3", "R1", "R2", "R3"} and set(videos["source"]) == {"covid-blues"}
    assert patients["age"].between(18, 100).all() and set(patients["sex"]) == {"male", "female"}
    for column in ("covid", "published_fold"):
        assert videos.groupby("patient")[column].nunique().max() == 1


def test_folds_do_not_depend_on_what_is_on_disk(full, real_data):
    whole = load_manifest("covid-blues", full).videos.set_index("video_id")
    part = load_manifest("covid-blues", real_data / "COVID-BLUES").videos.set_index("video_id")
    pd.testing.assert_frame_equal(part, whole.loc[part.index])


def test_no_folds_unless_all_patients_are_known(full):
    table = (full / "severity.csv").read_text().splitlines(keepends=True)
    (full / "severity.csv").write_text("".join(line for line in table if not line.startswith("patient_7_")))
    manifest = load_manifest("covid-blues", full)
    assert "published_fold" not in manifest.videos and note(manifest, "no published folds")
    assert "patient_7_" in note(manifest, "Not in severity.csv")


@pytest.mark.parametrize("where", ["lus_videos", ".."])
def test_root_may_be_the_parent_or_the_videos(small, where):
    manifest = load_manifest("covid-blues", small)
    other = load_manifest("covid-blues", small / where)
    assert other.root == manifest.root and other.videos.equals(manifest.videos)


def test_untidy_tables(small):
    manifest = load_manifest("covid-blues", small)
    videos = manifest.videos.set_index("video_id")
    assert list(videos.index) == ["patient_1_R3", "patient_2_L1", "patient_2_L1_2", "patient_3_R1", "patient_10_L2"]
    assert list(videos["severity"]) == ["", "2", "3", "", "0"]
    assert list(videos["a_lines"]) == ["no", "yes", "yes", "", "no"]
    assert list(videos["b_lines"]) == ["", "no", "yes", "", "no"]
    assert list(videos["covid"]) == ["negative", "positive", "positive", "positive", ""]
    assert list(videos["sex"]) == ["female", "male", "male", "female", ""]
    assert np.isnan(videos["age"]["patient_1_R3"]) and videos["age"]["patient_2_L1"] == 60
    assert videos["path"]["patient_10_L2"] == "lus_videos/patient_10_L2.MP4"
    assert "patient_3_R1" in note(manifest, "Not in severity.csv")
    assert "patient_10_L2" in note(manifest, "a label for covid")
    assert "patient_1_R3" in note(manifest, "a label for severity")
    assert "summary" in note(manifest, "no video") and "patient_1_r3" in note(manifest, "twice")


def test_strangers_are_left_out(small):
    (small / "lus_videos" / "patient_99_L1.mp4").touch()
    (small / "lus_videos" / "patient_1_Q1.mp4").touch()
    (small / "lus_videos" / "readme.txt").touch()
    manifest = load_manifest("covid-blues", small)
    assert len(manifest.videos) == 5
    assert "patient_99_L1.mp4" in note(manifest, "in neither table") and "patient_1_Q1.mp4" in note(
        manifest, "not named"
    )


def test_missing_files_are_one_line(small):
    (small / "lus_videos" / "patient_2_L1.mp4").unlink()
    (small / "lus_videos" / "patient_10_L2.MP4").unlink()
    text = note(load_manifest("covid-blues", small), "not on disk")
    assert text == "2 of the 4 videos in severity.csv, of 2 patients, are not on disk: patient 2 (1), patient 10 (1)."


def test_not_the_dataset(small, tmp_path):
    (tmp_path / "a" / "empty").mkdir(parents=True)
    with pytest.raises(InputError, match=r"There is no folder .*nowhere for covid-blues\..*--data"):
        load_manifest("covid-blues", tmp_path / "nowhere")
    with pytest.raises(
        InputError, match=r"empty is empty: looked for lus_videos, severity.csv, clinical_variables.csv"
    ):
        load_manifest("covid-blues", tmp_path / "a" / "empty")
    with pytest.raises(InputError, match=rf"a is not the COVID-BLUES dataset.*{small} would work"):
        load_manifest("covid-blues", tmp_path / "a")
    shutil.copytree(small, tmp_path / "second")
    with pytest.raises(InputError, match=r"more than once.*blues.*second"):
        load_manifest("covid-blues", tmp_path)
    (small / "severity.csv").unlink()
    with pytest.raises(InputError, match=r"blues is not all of COVID-BLUES: it has lus_videos .*lacks severity.csv"):
        load_manifest("covid-blues", small)


def test_no_videos_and_broken_tables(small):
    (small / "severity.csv").write_text("video,score\npatient_1_L1,2\n")
    with pytest.raises(InputError, match=r"severity.csv has no column video_file"):
        load_manifest("covid-blues", small)
    (small / "severity.csv").write_text("")
    with pytest.raises(InputError, match=r"severity.csv is not a readable CSV"):
        load_manifest("covid-blues", small)
    shutil.copyfile(Path(__file__), small / "severity.csv")
    with pytest.raises(InputError, match=r"severity.csv"):
        load_manifest("covid-blues", small)
    (small / "severity.csv").write_text("video_file,Severity Score,A-lines,B-lines\n")
    for file in (small / "lus_videos").iterdir():
        file.unlink()
    with pytest.raises(InputError, match=r"lus_videos holds no video of COVID-BLUES.*0 other"):
        load_manifest("covid-blues", small)
