"""Which frames of a file are the video, and NIfTI sequences: round trips on small files."""

import nibabel
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from echolung.clips import ClipPlan, decode
from echolung.clips.check import inspect_video
from echolung.clips.decode import decode_chosen, decoder_for, decoder_identity
from echolung.clips.grey import Draw, read_square
from echolung.clips.nifti import read_nifti
from echolung.clips.packed import decode_whole
from echolung.clips.sample import BLACK, GREY
from echolung.clips.workers import prepare_video
from echolung.datasets.manifest import Manifest, spans
from echolung.errors import DecodeError, InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder of images in which frame k is of grey level 10 k."""
    folder = tmp_path_factory.mktemp("frames")
    for k in range(12):
        Image.fromarray(np.full((20, 24), 10 * k, np.uint8)).save(folder / f"{k}.png")
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory, grey_frames, write_video):
    return write_video(
        tmp_path_factory.mktemp("video") / "a.avi", grey_frames(12, 70, 80), codec="mjpeg", pixels="yuvj420p"
    )


@pytest.mark.parametrize("span", [(0, 11), (3, 7), (5, 5), (7, 3), (11, 0)])
def test_frames_of_a_span(folder, clip, span):
    first, last = span
    order = list(range(first, last + 1)) if first <= last else list(range(first, last - 1, -1))
    assert decode(folder, span=span)[:, 0, 0, 0].tolist() == [10 * k for k in order]
    np.testing.assert_array_equal(decode(clip, span=span), decode(clip)[order])
    seen = []

    def choose(times):
        seen.append(times)
        return np.array([len(times) - 1, BLACK, 0, GREY])

    for decoder in ("auto", "av"):
        frames, indices = decode_chosen(clip, choose, decoder, span)
        assert indices.tolist() == [last, -1, first, -2]
        np.testing.assert_array_equal(frames[[0, 2]], decode(clip, decoder)[[last, first]])
        assert np.unique(frames[1]).tolist() == [0] and np.unique(frames[3]).tolist() == [33]
        np.testing.assert_allclose(seen[-1], np.arange(len(order)) / 25, atol=1e-6)


def test_a_clip_of_nothing_but_padding(clip):
    frames, indices = decode_chosen(clip, lambda times: np.array([-1, -2]))
    assert frames.shape == (2, 70, 80, 3) and indices.tolist() == [-1, -2]


@pytest.mark.parametrize("span", [(0, 12), (12, 0), (40, 50)])
def test_spans_that_are_not_there(folder, clip, span):
    for path in (folder, clip):
        with pytest.raises(DecodeError, match=rf"Frames {span[0]} to {span[1]} of .* were asked for .*it has 12"):
            decode(path, span=span)


def test_the_span_is_the_video_everywhere(folder, clip):
    plan = ClipPlan(segments=1, frames=4, size=20, crop="whole", pad="black", window="first")
    prepared = prepare_video(folder, "v", plan, "auto", (7, 5))
    assert prepared.frames.tolist() == [[7, 6, 5, -1]] and prepared.video[0] == 3
    assert prepared.clips[0, :, 0, 0, 0].tolist() == [70, 60, 50, 0]
    assert prepare_video(folder, "v", plan, "auto", (2, 8), (5,)).frames.tolist() == [[7, 8, -1, -1]]
    draw = Draw(4, 8.0, 20, (0,), stride=2, pad="grey", window="first")
    assert read_square(folder, draw, span=(9, 5))[:, 0, 0].tolist() == [90, 70, 50, 33]
    assert read_square(folder, Draw(3, 8.0, 20, (0,), window="first"))[:, 0, 0].tolist() == [0, 10, 20]
    assert decode_whole(folder, None, "auto", (4, 2)).frames[:, 0, 0].tolist() == [40, 30, 20]
    assert inspect_video(clip, "auto", (9, 2)).frames == 8
    forth, back = (inspect_video(clip, "auto", span) for span in ((2, 9), (9, 2)))
    assert forth.pixels != back.pixels and forth.fps == pytest.approx(back.fps) == pytest.approx(25)


def videos(**columns: list) -> pd.DataFrame:
    return pd.DataFrame({"video_id": ["a", "b"], "path": ["a.nii", "b.nii"], "patient": "", "source": "", **columns})


def test_spans_of_a_table(tmp_path):
    assert spans(videos()) == [None, None]
    table = videos(first_frame=[3, np.nan], last_frame=[0.0, np.nan])
    assert spans(table) == [(3, 0), None]
    manifest = Manifest("x", tmp_path, table, {})
    assert manifest.span(0) == (3, 0) and manifest.span(1) is None
    assert spans(videos(first_frame=["3", ""], last_frame=["5", ""])) == [(3, 5), None]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"first_frame": [1, 2]}, "a column first_frame alone; first_frame and last_frame go together"),
        ({"first_frame": [1, 2], "last_frame": [2, np.nan]}, "last_frame of b are 2 and nan"),
        ({"first_frame": [-1, 2], "last_frame": [2, 3]}, "of a are -1 and 2; they must be two frame numbers"),
        ({"first_frame": [1.5, 2], "last_frame": [2, 3]}, "of a are 1.5 and 2"),
        ({"first_frame": ["one", 2], "last_frame": [2, 3]}, "of a are 'one' and 2"),
    ],
)
def test_tables_that_name_no_frames(columns, message):
    with pytest.raises(InputError, match=message):
        spans(videos(**columns))


# ---- NIfTI ------------------------------------------------------------------------------------------------------------


def write(path, values, zoom=None, unit="sec"):
    image = nibabel.Nifti1Image(values, np.eye(4))
    if zoom:
        image.header.set_zooms(zoom)
        image.header.set_xyzt_units("mm", unit)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32, np.float64])
def test_frames_in_image_orientation(tmp_path, suffix, kind):
    frames = np.random.default_rng(0).integers(0, 256, (5, 30, 40), dtype=np.uint8)  # t, y, x
    path = write(tmp_path / f"a{suffix}", frames.transpose(2, 1, 0).astype(kind))
    found = decode(path)
    assert found.dtype == np.uint8 and decoder_for(path, "av") == decoder_for(path) == "nifti"
    np.testing.assert_array_equal(found, np.repeat(frames[..., None], 3, 3))
    np.testing.assert_array_equal(decode(path, span=(3, 1))[..., 0], frames[[3, 2, 1]])
    np.testing.assert_array_equal(decode_chosen(path, lambda times: np.array([4, 4, 0]))[0][..., 0], frames[[4, 4, 0]])
    assert np.isnan(read_nifti(path)[0]).all()
    with pytest.raises(InputError, match="--fps needs a clock"):
        prepare_video(path, "a", ClipPlan(fps=5.0), "auto")
    assert prepare_video(path, "a", ClipPlan(segments=1, frames=4, size=16), "auto").frames.tolist() == [[0, 1, 2, 3]]


def test_shapes_and_times(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (6, 5, 4), dtype=np.uint8)
    flat = write(tmp_path / "flat.nii", values[..., 0])
    assert decode(flat).shape == (1, 5, 6, 3)
    four = write(tmp_path / "four.nii", values[:, :, None], (1, 1, 1, 20), "msec")
    np.testing.assert_array_equal(decode(four)[..., 0], values.transpose(2, 1, 0))
    np.testing.assert_allclose(read_nifti(four)[0], np.arange(4) * 0.02)
    last = write(tmp_path / "last.nii", values[..., None], (1, 1, 1, 0))
    assert decode(last).shape == (4, 5, 6, 3) and np.isnan(read_nifti(last)[0]).all()


def test_ranges(tmp_path):
    ramp = np.linspace(0, 1, 24).reshape(2, 3, 4)
    for low, high in ((0.0, 1.0), (-100.0, 50.0), (0.0, 4095.0)):
        levels = decode(write(tmp_path / "a.nii", low + ramp * (high - low)))[..., 0]
        np.testing.assert_array_equal(levels, np.round(ramp * 255).astype(np.uint8).transpose(2, 1, 0))
    kept = decode(write(tmp_path / "b.nii", np.float32(ramp * 40)))
    assert kept.max() == 40
    assert decode(write(tmp_path / "c.nii", (ramp > 0.5).astype(np.uint8))).max() == 1  # labels stay labels
    assert not decode(write(tmp_path / "d.nii", np.zeros((2, 3, 4)))).any()


def test_files_that_are_no_videos(tmp_path):
    holes = np.ones((4, 4, 2))
    holes[0, 0, 0] = np.nan
    with pytest.raises(DecodeError, match="values that are not finite"):
        decode(write(tmp_path / "a.nii", holes))
    with pytest.raises(DecodeError, match=r"the shape \(4, 4, 3, 2\); a video is"):
        decode(write(tmp_path / "b.nii", np.ones((4, 4, 3, 2))))
    with pytest.raises(DecodeError, match="values of type complex64"):
        decode(write(tmp_path / "c.nii", np.ones((4, 4, 3), np.complex64)))
    (tmp_path / "d.nii.gz").write_bytes(b"nothing of the kind")
    with pytest.raises(DecodeError, match=r"d\.nii\.gz cannot be decoded"):
        decode(tmp_path / "d.nii.gz")
    whole = write(tmp_path / "e.nii", np.ones((40, 40, 30), np.uint8)).read_bytes()
    (tmp_path / "f.nii").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DecodeError, match=r"f\.nii cannot be decoded"):
        decode(tmp_path / "f.nii")


def test_keys_name_no_reader_of_nifti():
    assert set(decoder_identity()) == {".mp4", ".avi", "other", "images"}
