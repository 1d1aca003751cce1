"""DICOM files: real ones of many codecs, and generated ones whose pixels, clock and regions are known."""

import errno
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pydicom.examples
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import (
    MPEG4HP41,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

from echolung.clips import ClipPlan
from echolung.clips.check import inspect_video
from echolung.clips.decode import decode, decode_chosen, decoder_for
from echolung.clips.workers import prepare_video
from echolung.datasets.dicom import frame_times, patient_key, pseudonym, read_header, tissue_region
from echolung.errors import DecodeError, InputError

ZOO = pytest.importorskip("data_store")
DATA = Path(ZOO.__file__).parent / "data"
ECHO = Path(pydicom.examples.get_path("ybr_color"))


def region(left: int, top: int, right: int, bottom: int, form: int = 1, kind: int = 1) -> Dataset:
    """Return an item of SequenceOfUltrasoundRegions; right and bottom belong to it."""
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType = form, kind
    item.RegionLocationMinX0, item.RegionLocationMinY0 = left, top
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = right, bottom
    return item


def write(path: Path, frames: np.ndarray, syntax: str = ExplicitVRLittleEndian, **tags: Any) -> Path:
    """Write frames, grey [t, h, w] or RGB [t, h, w, 3], as a multi-frame ultrasound file."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = syntax, UltrasoundMultiFrameImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    order = {"is_implicit_VR": False, "is_little_endian": syntax != ExplicitVRBigEndian}
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128, **order)
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = meta.MediaStorageSOPClassUID, generate_uid(), "US"
    data.NumberOfFrames, data.Rows, data.Columns = len(frames), *frames.shape[1:3]
    data.SamplesPerPixel = frames.shape[3] if frames.ndim == 4 else 1
    data.PhotometricInterpretation = "RGB" if frames.ndim == 4 else "MONOCHROME2"
    if frames.ndim == 4:
        data.PlanarConfiguration = 0
    bits = frames.itemsize * 8
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = bits, bits, bits - 1, 0
    for name, value in tags.items():
        setattr(data, name, value)
    if syntax == JPEGBaseline8Bit:
        data.PhotometricInterpretation = "YBR_FULL_422" if frames.ndim == 4 else "MONOCHROME2"
        data.PixelData = encapsulate([jpeg(frame) for frame in frames])
        data["PixelData"].VR = "OB"
    elif syntax == RLELossless:
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.PixelData = frames.tobytes()
        data["PixelData"].VR = "OW" if bits > 8 else "OB"
        data.compress(syntax, encoding_plugin="pydicom")
    else:
        data.PixelData = (frames.astype(">u2") if syntax == ExplicitVRBigEndian and bits > 8 else frames).tobytes()
        data["PixelData"].VR = "OW" if bits > 8 else "OB"
    data.save_as(path, enforce_file_format=True)
    return path


def jpeg(frame: np.ndarray) -> bytes:
    """Return a frame as JPEG, of colour subsampled as YBR_FULL_422 says."""
    stream = io.BytesIO()
    Image.fromarray(frame).save(stream, "JPEG", quality=95, subsampling="4:2:2")
    return stream.getvalue()


def noise(count: int, height: int, width: int, colour: bool, seed: int = 0) -> np.ndarray:
    """Return random frames, each of another brightness."""
    shape = (count, height, width, 3) if colour else (count, height, width)
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


# ---- the real clip ----------------------------------------------------------------------------------------------------


def test_real_clip_has_the_colours_that_libjpeg_gives():
    data = pydicom.dcmread(ECHO)
    frames = decode(ECHO, box="none")
    assert frames.shape == (30, 240, 320, 3)
    for index in (0, 17, 29):
        with Image.open(io.BytesIO(get_frame(data.PixelData, index, number_of_frames=30))) as image:
            expected = np.asarray(image.convert("RGB")).astype(int)
        assert np.abs(frames[index] - expected).max() <= 2
    assert np.ptp(frames[0].astype(int), axis=2).max() > 30  # it is not grey


def test_real_clip_keeps_its_frame_time():
    seen: list[np.ndarray] = []

    def choose(times: np.ndarray) -> np.ndarray:
        seen.append(times)
        return np.array([3, 3, 29])

    frames, indices = decode_chosen(ECHO, choose)
    np.testing.assert_allclose(np.diff(seen[0]), 0.033333, atol=1e-5)
    assert indices.tolist() == [3, 3, 29] and (frames[0] == frames[1]).all()


def test_real_clip_is_cut_to_its_sector():
    path = DATA / "color3d_jpeg_baseline.dcm"
    whole = decode_chosen(path, lambda times: np.array([0, 119]), box="none")[0]
    cut = decode_chosen(path, lambda times: np.array([0, 119]))[0]
    assert whole.shape == (2, 480, 640, 3)
    assert (cut == whole[:, 31:415, 84:596]).all()


def test_regions_of_a_picture_that_was_resized_are_not_believed():
    # The wheel's clip is the one above at half its size, with the regions of the whole.
    assert decode_chosen(ECHO, lambda times: np.array([0]))[0].shape == (1, 240, 320, 3)
    facts = inspect_video(ECHO, "auto")
    assert "larger than its picture (320 × 240)" in facts.screen.uncut and facts.screen.text
    assert not inspect_video(ECHO, "auto", None, "42,16,256,192").screen


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("US1_J2KI.dcm", "US1_UNCI.dcm"),
        ("US1_J2KR.dcm", "US1_UNCR.dcm"),
        ("color-pl.dcm", "color-px.dcm"),
        ("OBXXXX1A_2frame.dcm", "OBXXXX1A_rle_2frame.dcm"),
        ("OBXXXX1A.dcm", "OBXXXX1A_expb.dcm"),
        ("gdcm-US-ALOKA-16.dcm", "gdcm-US-ALOKA-16_big.dcm"),
        ("SC_rgb.dcm", "SC_rgb_16bit.dcm"),
    ],
)
def test_the_same_picture_in_two_codings(one, other):
    assert (decode(DATA / one) == decode(DATA / other)).all()
    assert len(np.unique(decode(DATA / one))) > 2


def test_every_ultrasound_file_of_the_zoo_is_read():
    files = [
        path
        for path in DATA.glob("*.dcm")
        if pydicom.dcmread(path, stop_before_pixels=True, force=True).get("Modality") == "US"
    ]
    assert len(files) >= 14
    for path in files:
        frames = decode_chosen(path, lambda times: np.array([0]))[0]
        assert frames.max() > 100, path.name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dicomdirtests/DICOMDIR", "index of a disc"),
        ("reportsi.dcm", "structured report"),
        ("rtplan.dcm", "without pixel data"),
        ("JPGExtended.dcm", "JPEG of 12 bits"),
        ("MR_truncated.dcm", "breaks off"),
        ("no_meta.dcm", "not its content"),
    ],
)
def test_what_is_no_video_is_said(name, message):
    with pytest.raises(DecodeError, match=message):
        decode(ECHO.parent / name)


# ---- generated files --------------------------------------------------------------------------------------------------

LOSSLESS = (ExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_round_trip_with_regions(tmp_path, data):
    count, height, width = (data.draw(st.integers(low, high)) for low, high in ((1, 4), (8, 40), (8, 40)))
    syntax, colour = data.draw(st.sampled_from(LOSSLESS)), data.draw(st.booleans())
    frames = noise(count, height, width, colour, data.draw(st.integers(0, 99)))
    left, top = data.draw(st.integers(0, width - 2)), data.draw(st.integers(0, height - 2))
    right, bottom = data.draw(st.integers(left, width - 1)), data.draw(st.integers(top, height - 1))
    # A larger region that is no picture of tissue (a trace, a strip), and a second picture that is smaller.
    regions = [
        region(0, 0, width - 1, height - 1, form=3),
        region(left, top, left, top),
        region(left, top, right, bottom),
    ]
    path = write(tmp_path / "x.dcm", frames, syntax, SequenceOfUltrasoundRegions=regions)
    expected = frames if colour else np.repeat(frames[..., None], 3, axis=3)
    assert (decode(path) == expected[:, top : bottom + 1, left : right + 1]).all()
    assert (decode(path, box="none") == expected).all()
    wanted = np.array([count - 1, 0])
    assert (decode_chosen(path, lambda times: wanted, box="1,2,5,6")[0] == expected[wanted, 2:8, 1:6]).all()


@pytest.mark.parametrize("colour", [True, False])
def test_jpeg_against_the_frames_written(tmp_path, colour):
    y, x = np.mgrid[:48, :64]
    smooth = (
        np.stack([np.stack([2 * x + t, 3 * y, 200 - 2 * x - y], 2) for t in range(3)]).clip(0, 255).astype(np.uint8)
    )
    frames = smooth if colour else smooth[..., 1]
    got = decode(write(tmp_path / "x.dcm", frames, JPEGBaseline8Bit)).astype(int)
    assert np.abs(got - (frames if colour else frames[..., None])).mean() < 2


def test_a_name_without_a_suffix_or_of_a_uid(tmp_path):
    for name in ("IM00001", "1.2.840.113619.2"):
        path = write(tmp_path / name, noise(2, 9, 12, False))
        assert decoder_for(path) == "dicom" and len(decode(path)) == 2


def test_grey_of_more_bits(tmp_path):
    frames = np.linspace(100, 4195, 4 * 20 * 20).reshape(4, 20, 20).astype(np.uint16)
    stretched = decode(write(tmp_path / "a.dcm", frames))[..., 0]
    np.testing.assert_allclose(stretched, (frames - 100.0) * 255 / 4095, atol=0.51)
    turned = decode(write(tmp_path / "b.dcm", frames, PhotometricInterpretation="MONOCHROME1"))[..., 0]
    assert np.abs(turned.astype(int) + stretched - 255).max() <= 1
    window = decode(write(tmp_path / "c.dcm", frames, WindowCenter=2000, WindowWidth=1000))[..., 0]
    assert (window[frames < 1499] == 0).all() and (window[frames > 2500] == 255).all()
    np.testing.assert_allclose(window[(frames > 1510) & (frames < 2490)][0], (1511 - 1500) * 255 / 1000, atol=2)


@pytest.mark.parametrize(
    ("width", "function", "used"),
    [
        (0, None, False),
        ([0, 9], None, False),
        (0.5, None, False),
        (0.5, "LINEAR", False),
        (0, "SIGMOID", False),
        (1, None, True),
        (0.5, "LINEAR_EXACT", True),
    ],
)
def test_a_window_without_width_is_none(tmp_path, width, function, used):
    frames = noise(2, 20, 20, False)
    tags = {"WindowCenter": [100, 100] if isinstance(width, list) else 100, "WindowWidth": width}
    if function:
        tags["VOILUTFunction"] = function
    got = decode(write(tmp_path / "x.dcm", frames, **tags))[..., 0]
    if used:
        assert set(np.unique(got)) <= {0, 128, 255}  # 128 at the centre
    else:
        assert (got == frames).all()


@pytest.mark.filterwarnings("error")
def test_a_constant_picture_of_more_bits(tmp_path):
    frames = np.full((2, 8, 8), 3000, np.uint16)
    assert (decode(write(tmp_path / "a.dcm", frames)) == 0).all()
    assert (decode(write(tmp_path / "b.dcm", frames, PhotometricInterpretation="MONOCHROME1")) == 255).all()


def test_ybr_full_without_compression(tmp_path):
    rgb = np.tile(np.array([[250, 20, 30], [10, 240, 40], [30, 20, 220]], np.uint8), (2, 6, 4, 1))
    ybr = np.stack([np.asarray(Image.fromarray(frame).convert("YCbCr")) for frame in rgb])
    path = write(tmp_path / "x.dcm", ybr, PhotometricInterpretation="YBR_FULL")
    assert np.abs(decode(path).astype(int) - rgb).max() <= 2


def test_a_wrapped_video(tmp_path, grey_frames, write_video):
    frames = grey_frames(12)
    video = write_video(tmp_path / "x.mp4", frames)
    path = write(tmp_path / "x.dcm", frames, FrameTime="50")
    data = pydicom.dcmread(path)
    data.file_meta.TransferSyntaxUID = MPEG4HP41
    data.PixelData = encapsulate([video.read_bytes()])
    data["PixelData"].VR = "OB"
    data["PixelData"].is_undefined_length = True
    data.save_as(path)
    assert np.abs(decode(path)[..., 0].astype(int) - frames).mean() < 4
    prepared = prepare_video(path, "x", ClipPlan(segments=1, frames=4, fps=10.0, size=32), "auto")
    assert np.diff(prepared.frames[0]).tolist() == [2, 2, 2]  # every second at 20 frames a second
    del data.FrameTime
    data.save_as(path)
    prepared = prepare_video(path, "x", ClipPlan(segments=1, frames=4, fps=5.0, size=32), "auto")
    assert np.diff(prepared.frames[0]).tolist() == [5, 5, 1], "at the video's own 25 frames a second"


def test_encrypted_and_unknown_codings(tmp_path):
    path = write(tmp_path / "x.dcm", noise(2, 8, 8, False))
    data = pydicom.dcmread(path)
    data.file_meta.TransferSyntaxUID = "1.2.3.4.5"
    data["PixelData"].VR = "OB"
    data.save_as(path, implicit_vr=False, little_endian=True)
    with pytest.raises(DecodeError, match=r"does not read \(1\.2\.3\.4\.5\)"):
        decode(path)


def test_the_extra_is_named_where_a_codec_is_missing(monkeypatch):
    monkeypatch.setattr("echolung.clips.dicom.find_spec", lambda name: None)
    with pytest.raises(DecodeError, match="needs GDCM, the package python-gdcm: install it"):
        decode(DATA / "JPGLosslessP14SV1_1s_1f_8b.dcm")


def test_a_value_of_a_wrong_length_is_a_damaged_header(tmp_path):
    whole, tag = ECHO.read_bytes(), b"\x28\0\x10\0US\x02\0\xf0\0"  # Rows, 240
    assert whole.count(tag) == 1
    path = tmp_path / "x.dcm"
    path.write_bytes(whole.replace(tag, b"\x28\0\x10\0US\x03\0\xf0\0\0"))
    with pytest.raises(DecodeError, match=r"header of x\.dcm is damaged"):
        read_header(path)


def test_a_file_that_breaks_off(tmp_path):
    path = write(tmp_path / "x.dcm", noise(6, 32, 32, True), RLELossless)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DecodeError, match="breaks off"):
        decode(path)


# ---- the clock --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"FrameTimeVector": [0, 10, 30], "FrameTime": 5}, [0, 0.01, 0.04]),
        ({"FrameTimeVector": [0, 10], "FrameTime": 5, "CineRate": 9}, [0, 0.005, 0.01]),
        ({"FrameTime": 0, "RecommendedDisplayFrameRate": 50, "CineRate": 9}, [0, 0.02, 0.04]),
        ({"CineRate": 25}, [0, 0.04, 0.08]),
    ],
)
def test_where_the_clock_comes_from(tags, expected):
    header = Dataset()
    for name, value in tags.items():
        setattr(header, name, value)
    np.testing.assert_allclose(frame_times(header, 3), expected)


def test_no_clock(tmp_path):
    path = write(tmp_path / "x.dcm", noise(5, 16, 16, False))
    assert inspect_video(path, "auto").fps == 0
    with pytest.raises(InputError, match="does not say when its frames are shown; use --stride"):
        prepare_video(path, "x", ClipPlan(segments=1, frames=2, fps=10.0, size=16), "auto")


# ---- what must not be seen --------------------------------------------------------------------------------------------


def test_a_name_on_the_screen_changes_nothing(tmp_path):
    frames = noise(8, 60, 80, True)
    prepared = []
    for seed, name in enumerate(("one", "other")):
        frames[:, :10] = noise(1, 10, 80, True, seed + 5)  # the screen's upper edge
        path = write(tmp_path / f"{name}.dcm", frames, SequenceOfUltrasoundRegions=[region(10, 12, 69, 59)])
        prepared.append(prepare_video(path, "v", ClipPlan(segments=1, frames=4, size=32, crop="whole"), "auto"))
        assert not inspect_video(path, "auto").screen.uncut
    one, other = prepared
    assert (one.clips == other.clips).all() and (one.previews == other.previews).all()
    assert one.video[1:3].tolist() == [48, 60]
    whole = [
        prepare_video(
            tmp_path / f"{n}.dcm", "v", ClipPlan(segments=1, frames=4, size=32, crop="whole", box="none"), "auto"
        )
        for n in ("one", "other")
    ]
    assert (whole[0].clips != whole[1].clips).any()


def test_without_a_region_it_is_said(tmp_path):
    path = write(tmp_path / "x.dcm", noise(5, 32, 32, False), BurnedInAnnotation="YES")
    screen = inspect_video(path, "auto").screen
    assert screen.text and screen.uncut == "it names no ultrasound region"
    assert not inspect_video(path, "auto", None, "0,8,32,24").screen


def test_region_rules():
    header = Dataset()
    header.Rows, header.Columns = 100, 200
    header.SequenceOfUltrasoundRegions = [
        region(0, 0, 199, 99, 3, 3),
        region(0, 0, 99, 79),
        region(100, 0, 200, 79, kind=2),
    ]
    assert tissue_region(header) == ((0, 0, 100, 80), "")
    header.SequenceOfUltrasoundRegions = [region(100, 0, 200, 79, kind=2)]
    assert tissue_region(header) == ((100, 0, 100, 80), "")  # one pixel too far is how some scanners count
    header.SequenceOfUltrasoundRegions = [region(0, 0, 199, 99, 3, 3)]
    assert "two-dimensional" in tissue_region(header)[1]


@pytest.mark.parametrize("box", ["1,2,3", "a,b,c,d", "0,0,0,5", "-1,0,5,5", "all"])
def test_malformed_boxes(box):
    with pytest.raises(InputError, match="must be X,Y,W,H"):
        ClipPlan(box=box)


def test_a_box_outside_the_picture():
    with pytest.raises(DecodeError, match="320 pixels wide and 240 high"):
        decode(ECHO, box="300,0,21,10")


def test_the_box_is_in_the_key_only_where_it_is_set():
    assert "box" not in ClipPlan().to_json()
    assert ClipPlan.from_json(ClipPlan(box="1,2,3,4").to_json()).box == "1,2,3,4"


# ---- of whom ----------------------------------------------------------------------------------------------------------


def test_pseudonyms(tmp_path, echolung_home):
    frames = noise(2, 8, 8, False)
    a, b = (write(tmp_path / n, frames, PatientID="4711", PatientName=n) for n in ("a.dcm", "b.dcm"))
    c = write(tmp_path / "c.dcm", frames, PatientID="4712")
    d = write(tmp_path / "d.dcm", frames, PatientName="Nobody^Known")
    assert pseudonym(a) == pseudonym(b) != pseudonym(c) and pseudonym(d) == ""
    assert len(pseudonym(a)) == 12 and pseudonym(a) != pseudonym(a, b"another key")
    key = echolung_home / "patient.key"
    assert key.stat().st_mode & 0o777 == 0o600
    before = pseudonym(a)
    key.unlink()
    assert pseudonym(a) != before


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP])
def test_the_key_on_a_disk_without_hard_links(echolung_home, monkeypatch, number):
    def link(source: str, target: Path) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", link)
    key = patient_key()
    assert key == patient_key()
    assert [path.name for path in echolung_home.iterdir()] == ["patient.key"]
    assert (echolung_home / "patient.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("error", [FileExistsError, PermissionError])
def test_the_key_of_a_process_that_was_faster(echolung_home, monkeypatch, error):
    def link(source: str, target: Path) -> None:
        Path(target).write_text("of the other")
        raise error

    monkeypatch.setattr(os, "link", link)
    key = patient_key()
    assert (echolung_home / "patient.key").read_text() == "of the other" and key == patient_key()
    assert [path.name for path in echolung_home.iterdir()] == ["patient.key"]
