"""The two EchoNet adapters on phantoms in the layouts as distributed: whole, then as people really have them."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from echolung.clips import decode
from echolung.clips.check import check_videos
from echolung.datasets import DATASETS, Manifest, echonet_layout, load_manifest
from echolung.errors import InputError

INSIDE = Path("pediatric_echo_avi") / "pediatric_echo_avi"


def note(manifest: Manifest, word: str) -> str:
    """Return the one note that holds `word`."""
    (found,) = [text for text in manifest.notes if word in text]
    return found


def table(folder: Path, name: str = "FileList") -> pd.DataFrame:
    return pd.read_csv(folder / f"{name}.csv", dtype=str, keep_default_na=False)


def save(folder: Path, rows: pd.DataFrame, name: str = "FileList") -> None:
    rows.to_csv(folder / f"{name}.csv", index=False)


# ---- as distributed


def test_dynamic_as_distributed(written: Path) -> None:
    manifest = load_manifest("echonet-dynamic", written / "dynamic")
    videos = manifest.videos
    assert manifest.notes == ("10 videos: 7 train, 2 validation, 1 test.",)
    assert list(manifest.tasks) == list(DATASETS["echonet-dynamic"].tasks)
    assert (videos["patient"] == videos["video_id"]).all() and (videos["source"] == "").all()
    assert not videos["video_id"].str.contains(r"\.").any() and videos["video_id"].str.len().between(15, 18).all()
    assert videos["split"].tolist() == table(written / "dynamic")["Split"].str.lower().tolist()
    np.testing.assert_allclose(videos["ef"], 100 * (1 - videos["esv"] / videos["edv"]), atol=1e-9)
    assert ((videos["ef"] < 50) == (videos["ef_reduced"] == "EF < 50")).all()
    for row in range(2):
        frames = decode(manifest.file(row))
        assert frames.shape[1:3] == (32, 32) and len(frames) == videos["frame_count"][row]
    import av

    with av.open(str(manifest.file(0))) as container:
        assert container.streams.video[0].codec_context.name == "mjpeg"
        assert float(container.streams.video[0].average_rate) == videos["frame_rate"][0]


def test_pediatric_as_distributed(written: Path) -> None:
    manifest = load_manifest("echonet-pediatric", written / "pediatric")
    videos = manifest.videos
    assert manifest.root.name == "pediatric_echo_avi" and manifest.root.parent.name == "pediatric_echo_avi"
    assert manifest.notes[0].startswith("25 videos: ") and "test is fold 0, validation 1" in manifest.notes[0]
    assert set(videos["view"]) == {"A4C", "PSAX"} and all(manifest.file(i).is_file() for i in range(25))
    assert (videos["visit"].str.split("-").str[0] == videos["patient"]).all()
    for patient, fold in zip(videos["patient"], videos["fold"], strict=True):
        assert fold == int(hashlib.sha1(patient.encode()).hexdigest(), 16) % 10
    assert videos["split"].tolist() == [{0: "test", 1: "val"}.get(fold, "train") for fold in videos["fold"]]
    assert (videos.groupby("visit")["ef"].nunique() == 1).all()
    assert (videos.groupby("patient")["visit"].nunique() == 2).any(), "someone came twice"
    assert set(videos["sex"]) <= {"male", "female", ""}
    assert (videos["age"] >= 0).all() and (videos["age"] % 1 == 0).all()
    assert (videos["traced_frames"] == 1).sum() == 1, "one video lacks its systole"


def test_folds_and_views_of_pediatric(written: Path) -> None:
    folds = {}
    for fold in (2, "3"):
        videos = load_manifest("echonet-pediatric", written / "pediatric", fold=fold).videos
        folds[str(fold)] = videos
        assert (videos["split"] == "test").equals(videos["fold"] == int(fold))
        assert (videos["split"] == "val").equals(videos["fold"] == int(fold) + 1)
    assert folds["2"]["fold"].equals(folds["3"]["fold"])
    last = load_manifest("echonet-pediatric", written / "pediatric", fold=9).videos
    assert (last["split"] == "val").equals(last["fold"] == 0)
    only = load_manifest("echonet-pediatric", written / "pediatric", view="PSAX")
    assert set(only.videos["view"]) == {"PSAX"} and len(only.videos) == 12
    for wrong in ({"view": "A2C"}, {"fold": 10}, {"fold": -1}, {"fold": "x"}):
        with pytest.raises(InputError, match=str(next(iter(wrong.values())))):
            load_manifest("echonet-pediatric", written / "pediatric", **wrong)


def test_data_check_reads_every_video(written: Path) -> None:
    for name in ("dynamic", "pediatric"):
        manifest = load_manifest(f"echonet-{name}", written / name)
        few = Manifest(manifest.name, manifest.root, manifest.videos[:4], manifest.tasks)
        found = check_videos(few, workers=1)
        assert not found.unreadable and not found.duplicates and not found.same_frames


# ---- the tracings, measured as others measure them


def chord_volume(lines: pd.DataFrame) -> float:
    """Return Simpson's sum of discs: the first line is the long axis, the others are diameters."""
    ends = lines[["X1", "Y1", "X2", "Y2"]].to_numpy(float)
    lengths = np.hypot(ends[:, 2] - ends[:, 0], ends[:, 3] - ends[:, 1])
    return float(np.pi / 4 * (lengths[1:] ** 2).sum() * lengths[0] / (len(lengths) - 1))


def test_the_chords_measure_the_ejection_fraction_of_the_table(written: Path) -> None:
    traced, listed = table(written / "dynamic", "VolumeTracings"), table(written / "dynamic").set_index("FileName")
    assert traced["FileName"].str.endswith(".avi").all() and not listed.index.str.endswith(".avi").any()
    for name, lines in traced.groupby("FileName"):
        row = listed.loc[str(name)[:-4]]
        volumes = [chord_volume(frame) for _, frame in lines.groupby("Frame", sort=False)]
        assert len(volumes) == 2 and volumes[0] < volumes[1], "the systole comes first"
        assert 100 * (1 - volumes[0] / volumes[1]) == pytest.approx(float(row["EF"]), abs=1.0)
        assert lines["Frame"].astype(int).max() < int(row["NumberOfFrames"])
        assert lines[["X1", "Y1", "X2", "Y2"]].astype(float).to_numpy().min() >= 0


def test_the_tracing_lies_on_the_cavity(written: Path) -> None:
    manifest = load_manifest("echonet-dynamic", written / "dynamic")
    lines = table(written / "dynamic", "VolumeTracings")
    inside, beyond = [], []
    for row in range(5):
        video = decode(manifest.file(row))[..., 0].astype(float)
        of = lines[lines["FileName"] == manifest.videos["video_id"][row] + ".avi"]
        for frame, chords in of.groupby("Frame"):
            ends = chords[["X1", "Y1", "X2", "Y2"]].to_numpy(float)[5:16]
            middle, half = (ends[:, :2] + ends[:, 2:]) / 2, (ends[:, 2:] - ends[:, :2]) / 2
            for where, share in ((inside, 0.0), (beyond, 1.25), (beyond, -1.25)):
                column, line = np.rint(middle + share * half).astype(int).T
                where.append(video[int(frame), line, column].mean())
    assert np.mean(inside) < 0.7 * np.mean(beyond)


def test_polygons_of_both_views_give_the_bullets_ejection_fraction(written: Path) -> None:
    root = written / "pediatric" / INSIDE
    measured: dict[tuple[str, str], list[float]] = {}
    for view in ("A4C", "PSAX"):
        lines = table(root / view, "VolumeTracings")
        blank = lines["Frame"].str.startswith("No")
        assert (lines.loc[blank, ["X", "Y"]] == "").all(axis=None)
        assert set(lines.loc[blank, "Frame"]) <= {"No Systolic", "No Diastolic"}
        for name, of in lines[~blank].groupby("FileName"):
            for place, (_, points) in enumerate(of.groupby("Frame", sort=False)):
                x, y = points["X"].astype(float), points["Y"].astype(float)
                area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
                size = area if view == "PSAX" else np.hypot(x.iloc[0] - x.iloc[15], y.iloc[0] - y.iloc[15])
                if of["Frame"].nunique() == 2:
                    measured.setdefault((view, "-".join(str(name).split("-")[:2])), []).append(size * (-1) ** place)
    listed = table(root / "A4C")
    listed.index = pd.Index(listed["FileName"].str.split("-").str[:2].str.join("-"))
    for (view, visit), sizes in measured.items():
        systole, diastole = (np.mean([abs(s) for s in sizes if (s < 0) == late]) for late in (False, True))
        if view == "PSAX" and ("A4C", visit) in measured:
            lengths = measured["A4C", visit]
            ratio = np.mean([s for s in lengths if s > 0]) / -np.mean([s for s in lengths if s < 0])
            ef = 100 * (1 - ratio * systole / diastole)  # bullet: 5/6 of area times length
            assert ef == pytest.approx(float(listed["EF"][[visit]].iloc[0]), abs=15), (
                "whole pixels of a 32-pixel picture"
            )


def test_a_layout_follows_from_its_seed(tmp_path: Path) -> None:
    for folder, videos in (("few", 2), ("many", 4)):
        echonet_layout.write_dynamic(tmp_path / folder, videos=videos, frames=8, size=32, seed=3)
        echonet_layout.write_pediatric(tmp_path / folder / "p", videos=videos, frames=8, size=32, seed=3)
    few, many = (load_manifest("echonet-dynamic", tmp_path / folder) for folder in ("few", "many"))
    pd.testing.assert_frame_equal(few.videos, many.videos[:2])
    np.testing.assert_array_equal(decode(few.file(1)), decode(many.file(1)))
    few, many = (load_manifest("echonet-pediatric", tmp_path / folder / "p") for folder in ("few", "many"))
    both = few.videos.merge(many.videos)
    assert len(both) == 2


# ---- as people have them


def test_names_with_and_without_their_ending_and_case(dynamic: Path) -> None:
    whole = load_manifest("echonet-dynamic", dynamic)
    rows, lines = table(dynamic), table(dynamic, "VolumeTracings")
    rows["FileName"] = [name + (".avi", "", ".AVI")[i % 3] for i, name in enumerate(rows["FileName"])]
    lines["FileName"] = lines["FileName"].str.removesuffix(".avi")
    rows["Split"] = [f" {word.title()} " for word in rows["Split"]]
    rows.insert(0, "", range(len(rows)))
    rows["Remark"] = "x"
    rows = rows.rename(columns={"FileName": "file name", "EF": "ef ", "EDV": "Edv"})
    save(dynamic, rows)
    save(dynamic, lines, "VolumeTracings")
    again = load_manifest("echonet-dynamic", dynamic)
    pd.testing.assert_frame_equal(whole.videos, again.videos)
    assert whole.notes == again.notes


def test_missing_extra_and_duplicate_rows_of_dynamic(dynamic: Path) -> None:
    rows = table(dynamic)
    names = rows["FileName"].tolist()
    (dynamic / "Videos" / f"{names[0]}.avi").unlink()
    shutil.copyfile(dynamic / "Videos" / f"{names[1]}.avi", dynamic / "Videos" / "0XEXTRA.avi")
    (dynamic / "Videos" / "._0XMAC.avi").touch()
    (dynamic / "Videos" / f"{names[2]}.avi").write_bytes(b"RIFF")  # broken: found when it is opened
    blank = pd.DataFrame([dict.fromkeys(rows, "")])
    save(dynamic, pd.concat([rows, rows[3:4].assign(EF="1"), blank]))
    with (dynamic / "FileList.csv").open("a") as file:
        file.write("\n,,,,,,,,,,\n")
    manifest = load_manifest("echonet-dynamic", dynamic)
    videos = manifest.videos.set_index("video_id")
    assert names[0] in note(manifest, "1 of the 10 videos") and names[0] not in videos.index
    assert "0XEXTRA" in note(manifest, "does not list")
    assert videos.loc["0XEXTRA", "split"] == "" and np.isnan(videos.loc["0XEXTRA", "ef"])
    assert videos.loc["0XEXTRA", "ef_reduced"] == ""
    assert names[3] in note(manifest, "more than once") and videos.loc[names[3], "ef"] > 1
    assert "0XMAC" not in " ".join(manifest.notes) and len(videos) == 10
    assert manifest.notes[0] == "10 videos: 6 train, 2 validation, 1 test, 1 in no split."
    few = Manifest(manifest.name, manifest.root, manifest.videos[:2], manifest.tasks)
    assert list(check_videos(few, workers=1).unreadable) == [names[2]]


def test_ejection_fractions_that_are_no_percentage(dynamic: Path) -> None:
    rows = table(dynamic)
    rows.loc[:4, "EF"] = ["", "nan", "n/a", "55 %", " 61.5"]
    rows.loc[6, "Split"] = "holdout"
    save(dynamic, rows)
    manifest = load_manifest("echonet-dynamic", dynamic)
    assert manifest.videos["ef"][:5].round(1).fillna(-1).tolist() == [-1, -1, -1, 55, 61.5]
    assert manifest.videos["ef_reduced"][:4].tolist() == ["", "", "", "EF >= 50"]
    assert rows["FileName"][2] in note(manifest, "3 videos without an EF")
    assert rows["FileName"][6] in note(manifest, "whose Split is not TRAIN")
    for cell in ("155", "-2", "low", "inf"):
        save(dynamic, rows.assign(EF=[*rows["EF"][:5], cell, *rows["EF"][6:]]))
        with pytest.raises(InputError, match=rf"{rows['FileName'][5]} in .*FileList\.csv is '{cell}'.*from 0 to 100"):
            load_manifest("echonet-dynamic", dynamic)
    rows["EF"] = "0.55"
    save(dynamic, rows)
    with pytest.raises(InputError, match=r"at most 0\.55; they must be percent"):
        load_manifest("echonet-dynamic", dynamic)


def test_the_tall_recordings_without_tracings_are_named(dynamic: Path) -> None:
    rows, lines = table(dynamic), table(dynamic, "VolumeTracings")
    name = rows["FileName"][0]
    rows.loc[0, "FrameHeight"] = "768"
    save(dynamic, rows)
    save(dynamic, lines[lines["FileName"] != f"{name}.avi"], "VolumeTracings")
    text = note(load_manifest("echonet-dynamic", dynamic), "fewer than two traced frames")
    assert name in text and "(1 of them recorded 768 pixels high" in text and "count 9 videos: 6 train" in text
    (dynamic / "VolumeTracings.csv").unlink()
    bare = load_manifest("echonet-dynamic", dynamic)
    assert "no task here needs it" in note(bare, "VolumeTracings.csv") and bare.videos["traced_frames"].isna().all()


def test_any_depth_of_folders(dynamic: Path, pediatric: Path, tmp_path: Path) -> None:
    deep = tmp_path / "a" / "EchoNet-Dynamic" / "EchoNet-Dynamic"
    deep.parent.mkdir(parents=True)
    dynamic.rename(deep)
    roots = [load_manifest("echonet-dynamic", at).root for at in (tmp_path / "a", deep.parent, deep, deep / "Videos")]
    assert set(roots) == {deep}
    inside = pediatric / INSIDE
    for at in (pediatric, pediatric / "pediatric_echo_avi", inside):
        assert load_manifest("echonet-pediatric", at).root == inside
    one = load_manifest("echonet-pediatric", inside / "A4C")
    assert one.root == inside and set(one.videos["view"]) == {"A4C"}
    with pytest.raises(InputError, match="is the view A4C, and PSAX was asked for"):
        load_manifest("echonet-pediatric", inside / "A4C", view="PSAX")
    (inside / "PSAX").rename(tmp_path / "elsewhere")
    assert "Only A4C is here" in note(load_manifest("echonet-pediatric", pediatric), "Only")
    with pytest.raises(InputError, match="has no PSAX"):
        load_manifest("echonet-pediatric", pediatric, view="PSAX")


def test_what_is_not_there_is_said_with_where_to_get_it(dynamic: Path, pediatric: Path, tmp_path: Path) -> None:
    for name in ("dynamic", "pediatric"):
        with pytest.raises(InputError, match=rf"There is no folder .*nowhere.*echonet\.github\.io/{name}"):
            load_manifest(f"echonet-{name}", tmp_path / "nowhere")
        (tmp_path / "far" / "away" / "empty").mkdir(parents=True, exist_ok=True)
        with pytest.raises(InputError, match=r"FileList\.csv.*it holds nothing.*--data.*agreement"):
            load_manifest(f"echonet-{name}", tmp_path / "far" / "away" / "empty")
    with pytest.raises(InputError, match="holds EchoNet-Pediatric"):
        load_manifest("echonet-dynamic", pediatric)
    with pytest.raises(InputError, match=r"is not EchoNet-Pediatric: looked for the folders A4C and PSAX"):
        load_manifest("echonet-pediatric", dynamic)
    (dynamic / "FileList.csv").rename(dynamic / "list.csv")
    with pytest.raises(InputError, match="it holds 10 videos and no table"):
        load_manifest("echonet-dynamic", dynamic / "Videos")
    (dynamic / "list.csv").rename(dynamic / "FileList.csv")
    shutil.rmtree(dynamic / "Videos")
    with pytest.raises(InputError, match="holds no video"):
        load_manifest("echonet-dynamic", dynamic)
    save(dynamic, table(dynamic).drop(columns=["EF", "Split"]))
    with pytest.raises(InputError, match="no column ef or split"):
        load_manifest("echonet-dynamic", dynamic)
    (dynamic / "FileList.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not a readable CSV"):
        load_manifest("echonet-dynamic", dynamic)


def test_two_datasets_in_one_folder_are_not_guessed_between(dynamic: Path, tmp_path: Path) -> None:
    shutil.copytree(dynamic, tmp_path / "again")
    with pytest.raises(InputError, match="more than once"):
        load_manifest("echonet-dynamic", tmp_path)


def test_splits_of_pediatric_that_are_odd(pediatric: Path) -> None:
    folder = pediatric / INSIDE / "A4C"
    rows = table(folder)
    names = [name.removesuffix(".avi") for name in rows["FileName"]]
    was = rows["Split"].copy()
    rows["FileName"] = names  # without .avi
    rows.loc[0, "Split"] = str((int(was[0]) + 5) % 10)
    rows.loc[1, "Split"] = ""
    rows.loc[2, "Split"] = "TRAIN"
    rows.loc[3:, "Split"] = was[3:] + ".0"
    rows.loc[0, ["Age", "Weight", "Sex"]] = ["nan", "", "Unknown"]
    save(folder, rows)
    manifest = load_manifest("echonet-pediatric", pediatric, view="A4C")
    videos = manifest.videos.set_index("video_id")
    assert names[0] in note(manifest, "not the SHA-1") and videos.loc[names[0], "fold"] == int(rows["Split"][0])
    assert names[1] in note(manifest, "no fold from 0 to 9")
    assert (videos.loc[names[1], "split"], videos.loc[names[1], "fold"]) == ("", -1)
    assert videos.loc[names[2], "split"] == "train" and "1 rows name their part" in note(manifest, "name their part")
    assert videos.loc[names[3:], "fold"].tolist() == was[3:].astype(int).tolist()
    assert np.isnan(videos.loc[names[0], "age"]) and videos.loc[names[0], "sex"] == ""


def test_visits_whose_videos_disagree_are_named(pediatric: Path) -> None:
    folder = pediatric / INSIDE / "PSAX"
    rows = table(folder)
    rows.loc[0, "EF"] = "99"
    save(folder, rows)
    visit = "-".join(rows["FileName"][0].split("-")[:2])
    assert visit in note(load_manifest("echonet-pediatric", pediatric), "differs between the videos of 1 visits")


def test_real_copies_if_they_are_at_hand(real_data: Path) -> None:
    folder = real_data / "echonet-dynamic"
    if not folder.is_dir():
        pytest.skip("EchoNet-Dynamic comes under an agreement and is not here")
    assert load_manifest("echonet-dynamic", folder).notes[0].startswith("10,030 videos: 7,465 train")
