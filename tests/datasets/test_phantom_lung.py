"""The synthetic lungs: physics of the picture, what the seed decides, files on disk, no shortcut to the pattern."""

import subprocess
import sys
from dataclasses import replace
from itertools import combinations_with_replacement, permutations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from echolung.clips import decode
from echolung.datasets import load_manifest, lung_anatomy, phantom_lung
from echolung.datasets.bmode import PointSpread, Sector, blur, compress, detect, diffuse, receive, scan_convert
from echolung.errors import InputError, RunError


def one(pattern: str, seed: int = 0) -> tuple[lung_anatomy.Patient, lung_anatomy.Scene, np.random.Generator]:
    """Return a patient of this pattern, one of its scenes and the generator to render it with."""
    random = np.random.default_rng(seed)
    patient = next(p for n in range(3) if (p := phantom_lung.draw_patient(n, seed)).pattern == pattern)
    return patient, phantom_lung.draw_scene(patient, random), random


# ---- image formation


def test_speckle_is_rayleigh_distributed_with_the_power_asked_for() -> None:
    sector, psf, random = Sector(5.0, 0.5, 10.0, beams=96, samples=160), PointSpread(), np.random.default_rng(0)
    n = 4 * 160 * 108
    depth, angle = random.uniform(0, 10, (1, n)), random.uniform(sector.angles[0], sector.angles[-1], (1, n))
    field = blur(receive(sector, diffuse(random, depth, angle, np.full(n, 3.0), density=4.0)), sector, psf)
    envelope = detect(field, smoothing=0.0)[0, 10:-10, 10:-10]
    assert envelope.mean() / envelope.std() == pytest.approx(np.sqrt(np.pi / (4 - np.pi)), rel=0.05)
    # Sharing an echo among its neighbours costs some power before the blur.
    assert 2.0 < np.sqrt((envelope**2).mean()) < 3.1


def test_an_echo_is_drawn_where_it_is() -> None:
    sector = Sector(4.0, 0.5, 10.0, beams=65, samples=101)
    random = np.random.default_rng(0)
    echo = diffuse(random, np.array([[6.0]]), np.array([[sector.angles[20]]]), np.ones(1), density=1.0)
    picture = np.abs(blur(receive(sector, echo), sector, PointSpread()))[0]
    assert np.unravel_index(picture.argmax(), picture.shape) == (60, 20)


def test_decibels_become_grey_levels() -> None:
    envelope = np.array([[[1.0, 10 ** (-15 / 20), 10 ** (-45 / 20), 10 ** (5 / 20)]]])
    np.testing.assert_allclose(compress(envelope, 0.0, 60.0)[0, 0], [1, 0.75, 0.25, 1], atol=1e-6)
    np.testing.assert_allclose(compress(envelope, -15.0, 60.0)[0, 0], [0.75, 0.5, 0, 1 - 10 / 60], atol=1e-6)


def test_scan_conversion_shows_each_depth_and_angle_in_its_place() -> None:
    sector = Sector(4.0, 0.5, 8.0, beams=64, samples=100)
    depth = np.broadcast_to(sector.depths[:, None] / 8, (1, 100, len(sector.angles)))
    angle = np.broadcast_to(sector.angles / 2 + 0.5, (1, 100, len(sector.angles)))
    grey = scan_convert(np.concatenate([depth, angle]), sector, 120)
    top, side = 4 * np.cos(0.5), max(12 - 4 * np.cos(0.5), 24 * np.sin(0.5))
    at = (np.arange(120) + 0.5 - 60) * side / 120
    radius, theta = np.hypot(at, at[:, None] + (top + 12) / 2), np.arctan2(at, at[:, None] + (top + 12) / 2)
    inside = (radius > 4.05) & (radius < 11.9) & (abs(theta) < 0.49)
    np.testing.assert_allclose(grey[0][inside], 255 * (radius[inside] - 4) / 8, atol=1)
    np.testing.assert_allclose(grey[1][inside], 255 * (theta[inside] / 2 + 0.5), atol=1)
    outside = (radius < 4) | (radius > 12) | (abs(theta) > 0.5)
    assert outside.any() and not grey[:, outside].any()


# ---- lungs


def test_speckle_below_the_pleura_slides_with_it() -> None:
    patient, scene, random = one("regular")
    patient = replace(patient, sliding=1.0, haze=-3.0, fading=0.0)
    scene = replace(scene, ribs=(), b_lines=(), a_lines=-60.0, phase=0.0, tilt=0.0)
    sector = Sector.for_image(96, patient.radius, patient.half_angle, patient.depth)
    time = np.array([0.0, 60 / patient.breaths / 4])  # mid-breath, and a quarter of a breath later: fully to one side
    level = np.log(lung_anatomy.beam_envelope(patient, scene, random, sector, time))
    # The breath lifts the pleura by 3 %; compare each frame from its own pleura downwards.
    surface = [round(patient.pleural_depth * lift / sector.sample_step) for lift in (1.0, 0.97)]
    first, last = (frame[s + 3 : s + 43] for frame, s in zip(level, surface, strict=True))
    first, last = (x - x.mean(1, keepdims=True) for x in (first, last))
    expected = 1.0 / (patient.radius + patient.pleural_depth) / sector.beam_step
    shifts = range(-25, 26)
    likeness = [(first[:, 25:-25] * np.roll(last, -k, 1)[:, 25:-25]).mean() for k in shifts]
    assert shifts[int(np.argmax(likeness))] == pytest.approx(expected, abs=1.0)
    assert max(likeness) > 3 * likeness[25], "speckle that stayed would match best at no shift"


def test_a_lines_lie_at_multiples_of_the_pleural_depth() -> None:
    patient, scene, random = one("regular")
    patient = replace(patient, depth=10.0, pleural_depth=2.0, haze=-25.0)
    scene = replace(scene, ribs=(), b_lines=(), a_lines=0.0, tilt=0.0, phase=0.0)
    sector = Sector.for_image(128, patient.radius, patient.half_angle, patient.depth)
    envelope = lung_anatomy.beam_envelope(patient, scene, random, sector, np.zeros(1))[0]
    middle = envelope[:, envelope.shape[1] // 2 - 3 :][:, :7].mean(1)
    for multiple in (2, 3, 4):
        near = np.abs(sector.depths - multiple * 2.0) < 0.8
        assert sector.depths[near][middle[near].argmax()] == pytest.approx(multiple * 2.0, abs=0.15)


def test_b_lines_stay_bright_to_the_bottom_and_consolidation_is_dark() -> None:
    patient, scene, random = one("covid")
    patient = replace(patient, haze=-18.0, fading=2.0, depth=10.0)
    scene = replace(scene, ribs=(), b_lines=((0.0, 0.03, 0.0),), tilt=0.0, phase=0.0)
    sector = Sector.for_image(96, patient.radius, patient.half_angle, patient.depth)
    deep = lung_anatomy.beam_envelope(patient, scene, random, sector, np.zeros(1))[0, -30:].mean(0)
    assert deep[np.abs(sector.angles) < 0.03].mean() > 5 * deep[np.abs(sector.angles) > 0.2].mean()
    patient, scene, random = one("pneumonia")
    patient = replace(patient, haze=-10.0, fading=1.0, depth=10.0)
    scene = replace(scene, ribs=(), b_lines=(), lesions=(lung_anatomy.Lesion(0.0, 0.3, 3.0),), tilt=0.0, phase=0.0)
    envelope = lung_anatomy.beam_envelope(patient, scene, random, sector, np.zeros(1))[0]
    under = (sector.depths > patient.pleural_depth + 0.5) & (sector.depths < patient.pleural_depth + 1.5)
    inside, beside = (np.median(envelope[under][:, m]) for m in (abs(sector.angles) < 0.15, sector.angles > 0.4))
    assert inside < 0.8 * beside


def test_brightness_does_not_give_the_pattern_away_but_structure_does() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    patients, features = [phantom_lung.draw_patient(n, 0) for n in range(60)], []
    for number, patient in enumerate(patients):
        random = np.random.default_rng(number)
        video = lung_anatomy.render(patient, phantom_lung.draw_scene(patient, random), random, 2, 48, 20.0).astype(
            float
        )
        features.append(np.concatenate([f(video, axis=a) for f in (np.mean, np.std) for a in ((0, 1), (0, 2))]))
    truth = np.array([phantom_lung.PATTERNS.index(p.pattern) for p in patients])
    assert np.bincount(truth).tolist() == [20, 20, 20]
    brightness = np.array([f[:48].mean() for f in features])
    cuts = np.quantile(brightness, np.linspace(0, 1, 25))
    bands = [(brightness > a).astype(int) + (brightness > b) for a, b in combinations_with_replacement(cuts, 2)]
    best = max((np.array(names)[band] == truth).mean() for band in bands for names in permutations(range(3)))
    assert best <= 0.6, "the best of all thresholds, chosen on the very same videos"
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=2000))
    assert cross_val_score(model, np.array(features), truth, groups=np.arange(60), cv=GroupKFold(5)).mean() > 0.5


# ---- on disk


SMALL = {"frames": 3, "size": 32}


def test_the_seed_decides_every_pixel(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        phantom_lung.write(tmp_path / folder, videos=3, seed=5, **SMALL)
    phantom_lung.write(tmp_path / "c", videos=3, seed=6, **SMALL)
    a, b, c = (load_manifest("phantom-lung", tmp_path / folder) for folder in "abc")
    pd.testing.assert_frame_equal(a.videos, b.videos)
    for row in range(3):
        np.testing.assert_array_equal(decode(a.file(row)), decode(b.file(row)))
        assert (decode(a.file(row)) != decode(c.file(row))).any()


def test_a_video_is_the_same_however_many_are_written(tmp_path: Path) -> None:
    phantom_lung.write(tmp_path / "few", videos=6, **SMALL)  # 3 patients
    phantom_lung.write(tmp_path / "many", videos=14, **SMALL)  # 9 patients
    few, many = (load_manifest("phantom-lung", tmp_path / f).videos.set_index("video_id") for f in ("few", "many"))
    shared = few.index.intersection(many.index)
    assert len(shared) == 6
    pd.testing.assert_frame_equal(few.loc[shared], many.loc[shared])
    for path in few.loc[shared, "path"]:
        np.testing.assert_array_equal(decode(tmp_path / "few" / path), decode(tmp_path / "many" / path))


def test_patterns_are_balanced_over_patients_and_containers_tell_nothing(tmp_path: Path) -> None:
    ticks: list[int] = []
    phantom_lung.write(tmp_path, videos=24, frames=2, size=16, progress=ticks.append)
    manifest = load_manifest("phantom-lung", tmp_path)
    videos = manifest.videos
    assert ticks == [1] * 24 and manifest.notes == ()
    assert (videos.groupby("patient")["pattern"].nunique() == 1).all()
    assert videos.drop_duplicates("patient")["pattern"].value_counts().to_dict() == dict.fromkeys(
        phantom_lung.PATTERNS, 4
    )
    assert (videos["patient"].value_counts() == 2).all()
    suffixes = videos["path"].str[-4:]
    assert set(suffixes) == {".mp4", ".avi"}
    assert (suffixes.groupby(videos["pattern"]).nunique() == 2).all()
    name, task = manifest.task()
    assert (name, task.classes, task.level) == ("pattern", phantom_lung.PATTERNS, "patient")
    assert decode(manifest.file(0)).shape[:3] == (2, 16, 16)


def test_missing_videos_are_counted_and_named(tmp_path: Path) -> None:
    phantom_lung.write(tmp_path, videos=3, **SMALL)
    files = sorted((tmp_path / "videos").iterdir())
    files[0].unlink()
    manifest = phantom_lung.load(tmp_path)
    assert len(manifest.videos) == 2 and "1 of 3 phantoms are not on disk: phantom_000_0." in manifest.notes[0]
    for file in files[1:]:
        file.unlink()
    with pytest.raises(InputError, match=r"None of the 3 videos .* echolung data phantom"):
        phantom_lung.load(tmp_path)


def test_a_folder_that_holds_no_phantoms_says_how_to_make_some(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"phantoms\.csv.*echolung data phantom"):
        phantom_lung.load(tmp_path)
    (tmp_path / phantom_lung.TABLE).write_text("video_id,path\nx,y\n")
    with pytest.raises(InputError, match=r"has no column patient or pattern"):
        phantom_lung.load(tmp_path)


def test_an_interrupted_run_leaves_no_table(tmp_path: Path) -> None:
    phantom_lung.write(tmp_path, videos=3, **SMALL)

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        phantom_lung.write(tmp_path, videos=3, seed=1, progress=interrupt, **SMALL)
    with pytest.raises(InputError, match="no lung phantoms"):
        phantom_lung.load(tmp_path)


@pytest.mark.parametrize(
    "wrong", [{"videos": 0}, {"patients": 0}, {"frames": 0}, {"size": 33}, {"seed": -1}, {"fps": 0.0}]
)
def test_numbers_out_of_range_are_named(wrong: dict[str, float], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=str(next(iter(wrong.values())))):
        phantom_lung.write(tmp_path, **wrong)
    assert not any(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"Cannot write phantoms to .*0 of 3 videos"):
        phantom_lung.write(tmp_path / "file", videos=3, **SMALL)


def test_importing_is_light() -> None:
    code = "import sys, echolung.datasets.phantom_lung; print({'torch', 'av', 'scipy', 'sklearn'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
