import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedKFold

from echolung.datasets import load_manifest, pocus
from echolung.errors import InputError

HEADER = [
    *("Current location", "Filename", "License", "LinkToLicense", "InThisRepo", "Type", "Probe", "Source ID"),
    *("Framerate", "Resolution", "Length (frames)", "Gender", "Age", "Patient ID / Name", "Interface"),
]


def row(stem, patient="1", folder="data/pocus_videos/Convex", in_repo="Yes", source="2"):
    facts = [folder, stem, "CC BY 4.0", "https://example.org/by", in_repo, "video", "convex", source]
    return [*facts, "25", "300x300", "60", "w", "31", patient, ""]


@pytest.fixture
def checkout(tmp_path):
    """Return a function that writes a checkout with these files and metadata rows, and returns its root."""

    def write(names, rows=None, folder="convex"):
        videos = tmp_path / "repo" / "data" / "pocus_videos" / folder
        videos.mkdir(parents=True, exist_ok=True)
        for name in names:
            (videos / name).parent.mkdir(exist_ok=True)
            (videos / name).touch()
        if rows is not None:
            sheet = tmp_path / "repo" / "data" / "dataset_metadata.csv"
            pd.DataFrame(rows, columns=HEADER).to_csv(sheet, index=False)
        return tmp_path / "repo"

    return write


def note(manifest, word):
    """Return the one note that holds `word`."""
    (found,) = [text for text in manifest.notes if word in text]
    return found


# ------------------------------------------------------------------------------------------- the real videos


def test_real_convex_counts(real_data):
    manifest = load_manifest("pocus", real_data / "covid19_ultrasound")
    videos = manifest.videos
    full = len(videos) == 122
    assert dict(videos["diagnosis"].value_counts()) == {"regular": 56, "pneumonia": 36, "covid": 30 if full else 27}
    assert (videos["patient"].nunique(), videos["source"].nunique()) == ((74, 10) if full else (72, 9))
    assert all(manifest.file(i).is_file() for i in range(len(videos)))
    assert list(manifest.tasks) == ["diagnosis"]
    assert manifest.tasks["diagnosis"].classes == ("covid", "pneumonia", "regular")
    assert (videos["licence"] != "").all() and (videos["transducer"] == "convex").all()
    assert videos["age"].dropna().between(1, 100).all()
    assert "Vir_whitelung_h1n1" in note(manifest, "viral")
    if not full:
        assert note(manifest, "not on disk").startswith(
            "3 of the 122 videos of dataset_metadata.csv are not on disk: Cov_d"
        )


def test_real_shifted_rows_are_one_man(real_data):
    manifest = load_manifest("pocus", real_data / "covid19_ultrasound")
    videos = manifest.videos.set_index("video_id")
    seven = videos[videos["patient"] == "7"]
    assert set(seven.index) == {
        *("Reg_liftl_case3_clip2", "Reg_liftl_pneucase3_clip1"),
        *(f"Pneu_liftl_pneu_case3_clip{n}" for n in (3, 4, 5)),
    }
    assert (seven["age"] == 40).all() and (seven["sex"] == "male").all() and (seven["frame_rate"] == 15).all()
    assert "2 rows" in note(manifest, "Repaired") and "Reg_liftl_case3_clip2 is of patient 7" in note(
        manifest, "Repaired"
    )
    by_class = videos.groupby("patient")["diagnosis"].agg(lambda classes: "+".join(sorted(set(classes))))
    if len(videos) == 119:
        assert dict(by_class.value_counts()) == {"pneumonia": 31, "regular": 30, "covid": 9, "pneumonia+regular": 2}


@pytest.mark.parametrize("below", ["data", "data/pocus_videos", "data/pocus_videos/convex"])
def test_real_root_may_lie_anywhere(real_data, below):
    whole = load_manifest("pocus", real_data / "covid19_ultrasound")
    part = load_manifest("pocus", real_data / "covid19_ultrasound" / below)
    pd.testing.assert_frame_equal(whole.videos, part.videos)
    assert (whole.root, whole.notes) == (part.root, part.notes)


def test_real_linear(real_data):
    manifest = load_manifest("pocus", real_data / "covid19_ultrasound", transducer="linear")
    assert dict(manifest.videos["diagnosis"].value_counts()) == {"regular": 3, "covid": 2, "pneumonia": 1}
    assert set(manifest.videos["transducer"]) == {"linear"}
    assert "published_fold" not in manifest.videos
    assert "Vir_or_Pneu_prospective_file4.mp4" in note(manifest, "label_uncertain")


def test_real_guesses_never_split_a_patient(real_data):
    """The file-name rule merges people, but never tears one apart: its groups are unions of the metadata's."""
    for transducer in ("convex", "linear"):
        videos = load_manifest("pocus", real_data / "covid19_ultrasound", transducer=transducer).videos
        guesses = pd.DataFrame(
            [pocus.guess_patient(stem) for stem in videos["video_id"]], columns=["patient", "source"]
        )
        assert guesses.groupby(videos["patient"].to_numpy())["patient"].nunique().max() == 1
        named = guesses["source"] != ""
        assert guesses[named].groupby(videos["source"][named].to_numpy())["source"].nunique().max() == 1
        assert guesses["patient"].nunique() >= {"convex": 23, "linear": 3}[transducer]


# ------------------------------------------------------------------------------------------- published folds


def test_published_folds_are_scikit_learns():
    folds = pocus.published_folds()
    names = sorted(line.split(" ", 1)[1] for line in resource_lines())
    assert [Path(name).stem for name in names] == list(folds)  # the file is in the order that was split
    labels = [pocus.diagnosis(name) for name in names]
    assert sorted(map(labels.count, set(labels))) == [30, 36, 56]
    splits = StratifiedKFold(5, shuffle=True, random_state=42).split(names, labels)
    sizes = []
    for fold, (_, held_out) in enumerate(splits):
        assert {folds[Path(names[i]).stem] for i in held_out} == {fold}
        sizes.append(len(held_out))
    assert sizes == [25, 25, 24, 24, 24] == list(np.bincount(list(folds.values())))


def resource_lines():
    text = Path(pocus.__file__).with_name("pocus_convex.txt").read_text("utf-8")
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_full_set_needs_no_metadata(checkout):
    root = checkout([line.split(" ", 1)[1] for line in resource_lines()])
    manifest = load_manifest("pocus", root)
    assert dict(manifest.videos["diagnosis"].value_counts()) == {"regular": 56, "pneumonia": 36, "covid": 30}
    assert list(manifest.videos["published_fold"].value_counts().sort_index()) == [25, 25, 24, 24, 24]
    assert len(manifest.notes) == 1 and "guessed from the file names" in manifest.notes[0]


def test_absent_videos_are_dropped_after_the_split(checkout):
    root = checkout(["Cov-Atlas-Day+1.gif", "Reg_mine.mp4"], [row("Cov-Atlas-Day+1"), row("Reg_mine", "2")])
    manifest = load_manifest("pocus", root)
    folds = dict(zip(manifest.videos["video_id"], manifest.videos["published_fold"], strict=True))
    assert folds["Cov-Atlas-Day+1"] == pocus.published_folds()["Cov-Atlas-Day+1"]
    assert np.isnan(folds["Reg_mine"])
    assert "Reg_mine" in note(manifest, "published 122")


# ------------------------------------------------------------------------------------------- names


@given(
    st.sampled_from([("cov", "covid"), ("pneu", "pneumonia"), ("reg", "regular"), ("vir", "viral")]),
    st.lists(st.booleans(), min_size=4, max_size=4),
    st.sampled_from("-_"),
    st.text(st.characters(exclude_characters="/\0"), max_size=20),
)
def test_prefix_in_any_case(prefix, upper, separator, rest):
    word, label = prefix
    mixed = "".join(letter.upper() if up else letter for letter, up in zip(word, upper, strict=False))
    assert pocus.diagnosis(mixed + separator + rest) == label


@pytest.mark.parametrize("name", ["covid_1.mp4", "Regular-2.mp4", "x_cov_1.mp4", "cov.mp4", "Pneumonia 3.mp4", ""])
def test_other_prefixes_are_no_class(name):
    assert pocus.diagnosis(name) is None


@pytest.mark.parametrize(
    ("stem", "patient", "source"),
    [
        ("Reg_pat3Image_135026", "neuruppin pat3", "neuruppin"),
        ("Reg_Image_182106_crop", "neuruppin pat1", "neuruppin"),
        ("Pneu_northumbria_0409_set6_vid1", "northumbria 0409_set6", "northumbria"),
        ("Reg_northumbria_1009_vid5", "northumbria 1009", "northumbria"),
        ("Cov_denault_proposedUS_vid2", "denault", "denault"),
        ("Cov_convex_volpecelli_sonographic_v1", "volpecelli", "volpecelli"),
        ("Cov_combatting_image4", "combatting", "combatting"),
        ("Reg_liftl_pneucase3_clip1", "litfl case 3", "litfl"),
        ("Pneu_liftl_pneu_case3_clip4", "litfl case 3", "litfl"),
        ("Cov-Atlas-Day+1", "atlas", "atlas"),
        ("Reg_ward7_clip2", "ward7", ""),
        ("Reg_ward7_clip3", "ward7", ""),
        ("Cov_42", "42", ""),
    ],
)
def test_file_name_rule(stem, patient, source):
    assert pocus.guess_patient(stem) == (patient, source)


# ------------------------------------------------------------------------------------------- what lies on disk


def test_what_is_left_out_is_said(checkout):
    names = [
        "Cov_a.MP4",
        "pneu-b.mov",
        "Vir_c.mp4",
        "other.avi",
        "._Cov_a.mp4",
        "notes.txt",
        "label_uncertain/Cov_d.mp4",
    ]
    manifest = load_manifest("pocus", checkout(names, [row("Cov_a"), row("Pneu-B", "2")]))
    assert list(manifest.videos["video_id"]) == ["Cov_a", "pneu-b"]
    assert list(manifest.videos["patient"]) == ["1", "2"]  # the sheet and the disk differ in case
    assert "Vir_c.mp4" in note(manifest, "viral")
    assert "other.avi" in note(manifest, "named neither")
    assert "Cov_d.mp4" in note(manifest, "label_uncertain")


def test_a_conversion_is_the_same_clip(checkout):
    manifest = load_manifest("pocus", checkout(["Cov_a.gif", "Cov_a.mp4"], [row("Cov_a")]))
    assert list(manifest.videos["path"]) == ["Cov_a.gif"]
    assert "Cov_a.mp4" in note(manifest, "same clip")


def test_shifted_row_is_repaired(checkout):
    shifted = row("Reg_b", "2")
    shifted[8:] = ["", *shifted[8:-1]]  # from Framerate on
    manifest = load_manifest("pocus", checkout(["Cov_a.mp4", "Reg_b.mp4"], [row("Cov_a"), shifted]))
    a, b = (manifest.videos.iloc[i] for i in (0, 1))
    assert (b["patient"], b["age"], b["sex"], b["frame_rate"]) == ("2", 31, "female", 25)
    assert (a["patient"], a["age"]) == ("1", 31)
    assert "Reg_b is of patient 2" in note(manifest, "Repaired") and "Cov_a" not in note(manifest, "Repaired")


def test_duplicate_metadata_rows(checkout):
    rows = [
        row("Cov_a", "9", folder="not used", in_repo="No"),
        row("Cov_a", "8", folder="pocus_videos/linear"),
        row("Cov_a", "1"),
        row("Reg_b", "2"),
        row("reg_B", "3"),
    ]
    manifest = load_manifest("pocus", checkout(["Cov_a.mp4", "Reg_b.mp4"], rows))
    assert list(manifest.videos["patient"]) == ["1", "2"]  # the row of this very folder, then the first
    assert "reg_b" in note(manifest, "several patients") and "cov_a" not in note(manifest, "several patients")


def test_a_video_without_a_row_is_guessed_and_said(checkout):
    manifest = load_manifest("pocus", checkout(["Cov_a.mp4", "Reg_pat3Image_1.mpeg"], [row("Cov_a")]))
    assert list(manifest.videos["patient"]) == ["1", "neuruppin pat3"]
    assert "Reg_pat3Image_1" in note(manifest, "names no patient")


def test_missing_videos_are_one_note(checkout):
    rows = [
        row("Cov_a"),
        row("Reg_b"),
        row("Vir_c"),
        row("Cov_d", in_repo="No"),
        row("Cov_e", folder="pocus_images/convex"),
    ]
    manifest = load_manifest("pocus", checkout(["Cov_a.mp4"], rows))
    assert note(manifest, "not on disk") == "1 of the 2 videos of dataset_metadata.csv is not on disk: Reg_b."


def test_older_checkouts_write_convex_with_a_capital(checkout):
    root = checkout(["Cov_a.mp4"], [row("Cov_a")], folder="Convex")
    assert len(load_manifest("pocus", root).videos) == 1
    assert len(load_manifest("pocus", root / "data" / "pocus_videos" / "Convex").videos) == 1


# ------------------------------------------------------------------------------------------- not the dataset


def test_not_the_dataset(checkout, tmp_path):
    root = checkout(["Cov_a.mp4"], [row("Cov_a")])
    (root / "code").mkdir()
    (root / "code" / "x.py").touch()
    empty = tmp_path / "alone" / "empty"
    empty.mkdir(parents=True)
    with pytest.raises(InputError, match=r"There is no folder .*nowhere for pocus\..*--data"):
        load_manifest("pocus", tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"empty is empty: looked in it for data/pocus_videos/convex"):
        load_manifest("pocus", empty)
    with pytest.raises(InputError, match=rf"code is not the POCUS dataset .*{root} would work"):
        load_manifest("pocus", root / "code")
    with pytest.raises(InputError, match=rf"{root} would work"):
        load_manifest("pocus", tmp_path)
    with pytest.raises(InputError, match=r"holds the convex videos: for those, add --transducer convex"):
        load_manifest("pocus", root, transducer="linear")
    with pytest.raises(InputError, match=r"convex and linear, not 'phased'"):
        load_manifest("pocus", root, transducer="phased")


def test_folder_of_the_dataset_without_videos(checkout):
    root = checkout(["Vir_a.mp4"], [row("Vir_a")])
    with pytest.raises(InputError, match=r"convex holds no video of POCUS.*found 1 other video"):
        load_manifest("pocus", root)


def test_broken_metadata_is_an_error_not_a_guess(checkout):
    root = checkout(["Cov_a.mp4"], [row("Cov_a")])
    sheet = root / "data" / "dataset_metadata.csv"
    sheet.write_text("Filename,Label\nCov_a,COVID-19\n")
    with pytest.raises(InputError, match=r"dataset_metadata.csv has no column Current location"):
        load_manifest("pocus", root)
    sheet.write_bytes(b"\xff\xfe\x00junk")
    with pytest.raises(InputError, match="not a readable CSV"):
        load_manifest("pocus", root)
    shutil.move(sheet, root / "away.csv")
    assert "guessed" in note(load_manifest("pocus", root), "was not found")
