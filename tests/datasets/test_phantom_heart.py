"""The synthetic hearts: geometry that holds the volumes, a beat, files on disk, no shortcut to the ejection fraction."""

import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echolung.clips import decode
from echolung.datasets import heart_anatomy, heart_image, load_manifest, phantom_heart
from echolung.datasets.bullet import Bullet
from echolung.errors import InputError, RunError

SMALL = {"frames": 3, "size": 32}


def scene_of(number: int, view: str = "A4C", seed: int = 0) -> heart_anatomy.Scene:
    return phantom_heart.draw_scene(phantom_heart.video_random(seed, number, 0), view)


def one_beat(patient: heart_anatomy.Patient, scene: heart_anatomy.Scene, steps: int = 200) -> heart_anatomy.Anatomy:
    """Return the anatomy over one beat that begins at the end of diastole."""
    time = np.arange(steps) / steps * 60 / patient.heart_rate
    return heart_anatomy.anatomy(patient, replace(scene, phase=0.0), time)


# ---- geometry


@settings(deadline=None, max_examples=25)
@given(number=st.integers(0, 200), seed=st.integers(0, 5))
def test_the_cavity_drawn_holds_the_volumes_named(number: int, seed: int) -> None:
    patient = phantom_heart.draw_patient(number, seed)
    cavity = one_beat(patient, scene_of(number)).ventricle
    outline = cavity.outline(1001)  # the closed formula against the sum of discs of the outline itself
    for frame in (0, 70):
        along = (outline[frame, 500:] - cavity.tip[frame]) @ cavity.along
        aside = (outline[frame, 500:] - cavity.tip[frame]) @ cavity.across
        assert np.trapezoid(np.pi * aside**2, along) == pytest.approx(cavity.volume[frame], rel=1e-3)
    assert cavity.volume.max() == pytest.approx(patient.edv, rel=1e-6)
    assert cavity.volume.min() == pytest.approx(patient.esv, rel=1e-6)
    assert 1 - cavity.volume.min() / cavity.volume.max() == pytest.approx(patient.ef / 100, abs=1e-6)


def test_the_wall_thickens_as_its_volume_stays() -> None:
    patient = phantom_heart.draw_patient(2, 0)
    cavity, body, *_ = (lambda a: (a.ventricle, a.bodies[0]))(one_beat(patient, scene_of(2)))
    section = (body.radius**2 - cavity.radius**2) * cavity.length
    np.testing.assert_allclose(section, section[0])
    wall = body.radius - cavity.radius
    assert wall[cavity.volume.argmin()] > 1.2 * wall[0] and wall[0] == pytest.approx(patient.wall)


def test_the_base_comes_to_the_apex_and_the_valve_opens_only_to_fill() -> None:
    patient = replace(phantom_heart.draw_patient(1, 0), ef=60.0)
    cavity = one_beat(patient, replace(scene_of(1), sway=0.0)).ventricle
    empty = int(cavity.volume.argmin())
    apex, base = (np.linalg.norm(cavity.at(s)[empty] - cavity.at(s)[0]) for s in (0.0, 1.0))
    assert base > 5 * apex and base > 0.8
    full, opening = heart_anatomy.filling(patient, np.linspace(0, 1, 400, endpoint=False))
    assert opening[np.diff(full, prepend=full[-1]) < -1e-9].max() < 0.05, "shut while the ventricle ejects"
    assert opening[np.diff(full, append=full[0]) > 1e-3].min() > 0 and opening.max() <= 1


def test_what_is_inside_a_bullet() -> None:
    body = Bullet(np.array([[0.0, 2.0]]), np.array([0.0, 1.0]), np.array([8.0]), np.array([2.0]), 0.6)
    x, y = np.array([[0.0, 0.0, 0.0, 1.9, 2.2, 0.0]]), np.array([[1.8, 2.5, 9.7, 6.8, 6.8, 10.3]])
    assert body.inside(x, y)[0, 0].tolist() == [0, 1, 1, 1, 0, 0]
    assert body.mouth[0] < 2 and body.outline(5)[0, 2].tolist() == pytest.approx([0.0, 2.0])
    assert body.grown(0.5).at(1.0)[0].tolist() == pytest.approx(body.at(1.0)[0].tolist())


@pytest.mark.parametrize("view", heart_anatomy.VIEWS)
def test_blood_is_dark_but_not_black_and_the_wall_is_bright(view: str) -> None:
    contrasts = []
    for number in range(8):
        patient, scene = phantom_heart.draw_patient(number, 1), scene_of(number, view, 1)
        video = heart_image.render(patient, scene, np.random.default_rng(0), 6, 96, 8.0).astype(float)
        heart = heart_anatomy.anatomy(patient, scene, np.arange(6) / 8)
        sector = heart_image.sector_of(patient, view, 96)
        row, column = np.mgrid[:96, :96]
        x, y = (column - 47.5) * sector.pixel(96), (row - 47.5) * sector.pixel(96) + sector.depth / 2
        inner = Bullet(*(getattr(heart.ventricle, f) for f in ("tip", "along", "length", "radius", "widest")))
        cavity = inner.inside(x, y) == 1
        wall = (heart.bodies[0].grown(-0.1).inside(x, y) == 1) & (inner.grown(0.1).inside(x, y) == 0)
        assert video[cavity].mean() > 2
        contrasts.append(video[cavity].mean() / video[wall].mean())
    assert max(contrasts) < 0.95 and np.median(contrasts) < 0.7, "hazy ones there are, but few"


# ---- nothing tells but the heart


def test_nothing_drawn_beside_the_ejection_fraction_foretells_it() -> None:
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.model_selection import cross_val_score

    patients = [asdict(phantom_heart.draw_patient(n, 3)) for n in range(300)]
    scenes = [{k: v for k, v in asdict(scene_of(n, seed=3)).items() if k != "view"} for n in range(300)]
    table = pd.concat([pd.DataFrame(patients), pd.DataFrame(scenes)], axis=1)
    ef = table.pop("ef")
    table["number"], table["split"] = range(300), [len(phantom_heart.draw_split(n)) for n in range(300)]
    table["avi"] = [phantom_heart.video_random(3, n, 0).integers(2) for n in range(300)]
    order = np.random.default_rng(0).permutation(300)
    forest = RandomForestRegressor(60, min_samples_leaf=5, random_state=0)
    assert cross_val_score(forest, table.iloc[order], ef.iloc[order], cv=5, scoring="r2").mean() < 0.05


@pytest.mark.parametrize("view", heart_anatomy.VIEWS)
def test_a_full_heart_looks_the_same_whatever_it_ejects(view: str) -> None:
    patient, scene = phantom_heart.draw_patient(5, 0), replace(scene_of(5, view), phase=0.0)
    weak, strong = (heart_anatomy.anatomy(replace(patient, ef=ef), scene, np.zeros(1)) for ef in (20.0, 70.0))
    for one, other in zip(weak.bands, strong.bands, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-12)
    assert heart_anatomy.picture_depth(patient, view) == heart_anatomy.picture_depth(replace(patient, ef=20.0), view)


@pytest.mark.parametrize("view", heart_anatomy.VIEWS)
def test_a_moment_looks_the_same_however_long_the_video(view: str) -> None:
    patient, scene, time = phantom_heart.draw_patient(5, 0), scene_of(5, view), np.arange(30) / 25
    long, short = (heart_anatomy.anatomy(patient, scene, t) for t in (time, time[7:8]))
    for one, other in zip(long.bands, short.bands, strict=True):
        np.testing.assert_allclose(one.curve[7], other.curve[0])
    x, y = np.meshgrid(np.linspace(-5, 5, 20), np.linspace(2, 15, 20))
    for one, other in zip(long.bodies, short.bodies, strict=True):
        np.testing.assert_allclose(one.inside(x, y)[7], other.inside(x, y)[0], atol=1e-4)


def test_brightness_does_not_tell_the_ejection_fraction() -> None:
    seen, truth = [], []
    for number in range(80):
        patient = phantom_heart.draw_patient(number, 0)
        random = phantom_heart.video_random(0, number, 0)
        video = heart_image.render(patient, phantom_heart.draw_scene(random), random, 8, 32, 8.0)
        seen.append([video.mean(), video.std(), (video > 128).mean()])
        truth.append(patient.ef)
    assert np.abs(np.corrcoef(np.array(seen).T, truth)[-1, :-1]).max() < 0.3


def test_ejection_fractions_are_uniform_and_splits_in_their_shares() -> None:
    ef = np.array([phantom_heart.draw_patient(n, 7).ef for n in range(100)])
    assert np.histogram(ef, bins=10, range=(15, 75))[0].tolist() == [10] * 10
    words = pd.Series([phantom_heart.draw_split(n) for n in range(100)])
    assert words.value_counts().to_dict() == {"TRAIN": 70, "VAL": 15, "TEST": 15}
    assert set(words[:6]) == {"TRAIN", "VAL", "TEST"}


# ---- on disk


def test_the_seed_decides_every_pixel(tmp_path: Path) -> None:
    for folder, seed in (("a", 5), ("b", 5), ("c", 6)):
        phantom_heart.write(tmp_path / folder, videos=3, seed=seed, **SMALL)
    a, b, c = (load_manifest("phantom-heart", tmp_path / folder) for folder in "abc")
    pd.testing.assert_frame_equal(a.videos, b.videos)
    for row in range(3):
        np.testing.assert_array_equal(decode(a.file(row)), decode(b.file(row)))
        assert (decode(a.file(row)) != decode(c.file(row))).any()


def test_a_video_is_the_same_however_many_are_written(tmp_path: Path) -> None:
    phantom_heart.write(tmp_path / "few", videos=4, **SMALL)
    phantom_heart.write(tmp_path / "many", videos=12, **SMALL)
    few, many = (load_manifest("phantom-heart", tmp_path / f).videos.set_index("video_id") for f in ("few", "many"))
    pd.testing.assert_frame_equal(few, many.loc[few.index])
    for path in few["path"]:
        np.testing.assert_array_equal(decode(tmp_path / "few" / path), decode(tmp_path / "many" / path))


def test_the_table_and_its_tasks(tmp_path: Path) -> None:
    ticks: list[int] = []
    phantom_heart.write(tmp_path, videos=12, progress=ticks.append, **SMALL)
    manifest = load_manifest("phantom-heart", tmp_path)
    videos = manifest.videos
    assert ticks == [1] * 12 and manifest.notes == () and decode(manifest.file(0)).shape[:3] == (3, 32, 32)
    assert list(manifest.tasks) == ["ef", "esv", "edv", "ef-reduced"]
    assert {task.level for task in manifest.tasks.values()} == {"patient"}
    assert (videos.groupby("patient")[["ef", "split"]].nunique() == 1).all(axis=None) and videos[
        "patient"
    ].nunique() == 6
    np.testing.assert_allclose(videos["ef"], 100 * (1 - videos["esv"] / videos["edv"]), atol=1e-2)
    assert ((videos["ef"] < 50) == (videos["ef_reduced"] == manifest.tasks["ef-reduced"].classes[1])).all()
    assert set(videos["split"]) == {"TRAIN", "VAL", "TEST"} and set(videos["path"].str[-4:]) == {".mp4", ".avi"}


def test_missing_videos_and_tables_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"phantoms\.csv.*--layout phantom-heart"):
        phantom_heart.load(tmp_path)
    phantom_heart.write(tmp_path, videos=3, **SMALL)
    files = sorted((tmp_path / "videos").iterdir())
    files[0].unlink()
    manifest = phantom_heart.load(tmp_path)
    assert len(manifest.videos) == 2 and "1 of 3 phantoms are not on disk: phantom_000_0." in manifest.notes[0]
    for file in files[1:]:
        file.unlink()
    with pytest.raises(InputError, match=r"None of the 3 videos .* echolung data phantom"):
        phantom_heart.load(tmp_path)
    (tmp_path / phantom_heart.TABLE).write_text("video_id,path,patient\nx,y,z\n")
    with pytest.raises(InputError, match=r"has no column ef_reduced or split"):
        phantom_heart.load(tmp_path)


def test_an_interrupted_run_leaves_no_table(tmp_path: Path) -> None:
    phantom_heart.write(tmp_path, videos=2, **SMALL)

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        phantom_heart.write(tmp_path, videos=2, seed=1, progress=interrupt, **SMALL)
    with pytest.raises(InputError, match="no heart phantoms"):
        phantom_heart.load(tmp_path)


@pytest.mark.parametrize(
    "wrong", [{"videos": 0}, {"patients": 0}, {"frames": 0}, {"size": 33}, {"seed": -1}, {"fps": 0.0}]
)
def test_numbers_out_of_range_are_named(wrong: dict[str, float], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=str(next(iter(wrong.values())))):
        phantom_heart.write(tmp_path, **wrong)
    assert not any(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"Cannot write phantoms to .*0 of 3 videos"):
        phantom_heart.write(tmp_path / "file", videos=3, **SMALL)


def test_importing_is_light() -> None:
    code = "import sys, echolung.datasets; print({'torch', 'av', 'scipy', 'sklearn'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
