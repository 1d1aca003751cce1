"""Frames as they are in the file: against a plain sequential decode, whatever the container, and honest errors."""

import sys
import wave
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from echolung.clips.decode import decode, decode_chosen, decoder_for, decoder_identity
from echolung.errors import DecodeError, InputError

CONTAINERS = {
    "clip.mp4": {},
    "clip.MP4": {},
    "clip.mov": {},
    "clip.avi": {"codec": "mpeg4"},
    "clip.mpeg": {"codec": "mpeg2video"},
    "clip.gif": {"codec": "gif", "pixels": "gray"},
}

# One a container and a peculiarity: 4:4:4 H.264, MPEG-4 in AVI, MPEG-PS (no index to seek by), an edit list, 7 frames.
REAL = (
    "Reg_liftl_case3_clip2.mp4",
    "Pneu_liftl_pneu_case3_clip3.mp4",
    "Reg_Avi_lung-sliding.MP4",
    "Reg_northumbria_1009_vid7.avi",
    "Reg_pat1Image_132943.mpeg",
    "Cov_denault_proposedUS_vid1.mov",
    "Cov-Atlas+(44).gif",
)


def plain_decode(path: Path) -> np.ndarray:
    """Decode in order with PyAV, nothing else."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Return the largest mean difference of two frames, in grey levels."""
    assert a.shape == b.shape
    return max(float(np.abs(x.astype(np.int16) - y).mean()) for x, y in zip(a, b, strict=True))


@pytest.fixture(params=CONTAINERS)
def clip(request, tmp_path, grey_frames, write_video):
    """Return the path of a clip in each container, and the frames that were written to it."""
    frames = grey_frames(40)
    return write_video(tmp_path / request.param, frames, **CONTAINERS[request.param]), frames


def test_every_frame_in_order(clip):
    path, written = clip
    frames = decode(path)
    assert frames.shape == (40, 48, 64, 3) and frames.dtype == np.uint8
    assert difference(frames, plain_decode(path)) < 1.5
    # Neighbouring frames differ by far more than the codec's loss, so a shift by one would show.
    assert np.abs(frames[..., 0].astype(int) - written).mean() < 3 < np.abs(np.diff(written.astype(int), axis=0)).mean()


def test_grey_has_three_equal_channels(clip):
    frames = decode(clip[0]).astype(int)
    assert np.abs(frames - frames[..., :1]).max() <= 2


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(indices=st.lists(st.integers(0, 39), min_size=1, max_size=20))
def test_chosen_frames_are_those_of_the_whole(clip, indices):
    frames, back = decode_chosen(clip[0], lambda times: np.array(indices))
    np.testing.assert_array_equal(back, indices)
    np.testing.assert_array_equal(frames, decode(clip[0])[indices])


@pytest.mark.parametrize("count", [1, 7, 32, 33, 65])
def test_lengths_around_the_block(count, tmp_path, grey_frames, write_video):
    path = write_video(tmp_path / "short.mp4", grey_frames(count))
    assert len(decode(path)) == len(decode(path, "decord")) == len(decode(path, "av")) == count


@pytest.mark.parametrize("decoder", ["auto", "av"])
def test_times_are_those_of_the_file(decoder, tmp_path, grey_frames, write_video):
    stamps = [0, 40, 80, 200, 240, 383, 423]
    path = write_video(tmp_path / "variable.mp4", grey_frames(7), stamps=stamps)
    seen = []
    decode_chosen(path, lambda times: seen.append(times) or np.array([0]), decoder)
    np.testing.assert_allclose(np.diff(seen[0]), np.diff(stamps) / 1000, atol=2e-3)


def test_the_picture_not_the_sound(tmp_path, grey_frames, write_video):
    with wave.open(str(tmp_path / "heart.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(16000))
    with pytest.raises(DecodeError, match=r"heart\.wav"):
        decode(tmp_path / "heart.wav")


def test_folder_of_images_in_natural_order(tmp_path):
    for number in (10, 2, 1, 100):
        Image.fromarray(np.full((5, 6), number, np.uint8)).save(tmp_path / f"frame_{number}.png")
    (tmp_path / "notes.txt").write_text("not an image")
    frames = decode(tmp_path)
    assert frames.shape == (4, 5, 6, 3)
    assert frames[:, 0, 0, 0].tolist() == [1, 2, 10, 100]
    chosen, _ = decode_chosen(tmp_path, lambda times: np.array([3, 0, 3]))
    assert chosen[:, 0, 0, 1].tolist() == [100, 1, 100]


def test_odd_names_of_images(tmp_path):
    for value, name in enumerate(("1.png", "a.png", "a1b.png", "²3.png")):
        Image.fromarray(np.full((4, 4), value, np.uint8)).save(tmp_path / name)
    assert sorted(decode(tmp_path)[:, 0, 0, 0].tolist()) == [0, 1, 2, 3]


def test_images_that_are_no_video(tmp_path):
    Image.fromarray(np.zeros((5, 6), np.uint8)).save(tmp_path / "a1.png")
    Image.fromarray(np.zeros((5, 7), np.uint8)).save(tmp_path / "a2.png")
    with pytest.raises(DecodeError, match=r"differ in size: \(5, 6\) and \(5, 7\)"):
        decode(tmp_path)
    (tmp_path / "a2.png").unlink()
    Image.fromarray(np.full((5, 6), 4000, np.uint16)).save(tmp_path / "a2.png")
    with pytest.raises(DecodeError, match="more than 8 bits"):
        decode(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DecodeError, match="empty holds no image"):
        decode(tmp_path / "empty")


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mov", ".mpeg", ".gif"])
def test_what_is_no_video(suffix, tmp_path):
    bad = tmp_path / f"bad{suffix}"
    with pytest.raises(DecodeError, match=f"There is no file .*bad{suffix}"):
        decode(bad)
    bad.write_bytes(b"")
    with pytest.raises(DecodeError, match=rf"bad{suffix} cannot be decoded\. It is empty \(0 bytes\)"):
        decode(bad)
    bad.write_text("patient,diagnosis\n1,covid\n" * 50)
    with pytest.raises(DecodeError, match=f"bad{suffix}") as caught:
        decode(bad)
    message = str(caught.value)
    assert "\n" not in message and "Stack trace" not in message and "Traceback" not in message and len(message) < 400


@pytest.mark.parametrize("decoder", ["auto", "av"])
def test_no_video_is_said_without_an_error_number(decoder, tmp_path):
    (tmp_path / "n.mp4").write_text("no video " * 100)
    with pytest.raises(DecodeError, match=r"^n\.mp4 cannot be decoded\. Damaged, cut off, or no video"):
        decode(tmp_path / "n.mp4", decoder)


@pytest.mark.parametrize("decoder", ["auto", "av"])
@pytest.mark.parametrize("name", ["clip.mp4", "clip.mov"])
def test_truncated(name, decoder, tmp_path, grey_frames, write_video):
    path = write_video(tmp_path / name, grey_frames(40))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])  # the index is at the end
    with pytest.raises(DecodeError, match=name) as caught:
        decode(path, decoder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("decoder", ["auto", "av"])
def test_truncated_with_the_index_in_front(decoder, tmp_path, grey_frames):
    path = tmp_path / "front.mp4"
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for image in grey_frames(60):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="gray")))
        container.mux(stream.encode())
    assert len(decode(path, decoder)) == 60
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(DecodeError, match=r"front\.mp4"):
        decode(path, decoder)


def test_who_reads_what():
    assert decoder_for(Path("a.MP4")) == decoder_for(Path("a.avi"), "decord") == "decord"
    for name in ("a.mov", "a.mpeg", "a.gif", "a.mkv"):
        assert decoder_for(Path(name)) == decoder_for(Path(name), "decord") == "av"
    assert decoder_for(Path("a.mp4"), "av") == "av"
    with pytest.raises(InputError, match="no decoder 'opencv'"):
        decoder_for(Path("a.mp4"), "opencv")
    assert decoder_identity()[".mp4"].startswith("decord ") and decoder_identity("av")[".mp4"].startswith("av ")


def test_without_decord(monkeypatch):
    module = sys.modules["echolung.clips.decode"]  # in its package, the function has that name
    monkeypatch.setattr(module, "_version", lambda package: "" if package == "decord" else "1")
    assert decoder_for(Path("a.mp4")) == "av"
    assert decoder_identity()[".mp4"] == "av 1"
    with pytest.raises(InputError, match="decord is not installed"):
        decoder_for(Path("a.mp4"), "decord")


@pytest.mark.parametrize("name", REAL)
def test_real_files(name, real_data):
    path = real_data / "covid19_ultrasound/data/pocus_videos/convex" / name
    expected = plain_decode(path)
    assert difference(decode(path), expected) < 1.5
    indices = np.array([len(expected) - 1, 0, 13, 13, len(expected) // 2])
    chosen, _ = decode_chosen(path, lambda times: indices)
    assert difference(chosen, expected[indices]) < 1.5


def test_the_shortest_of_covid_blues(real_data):
    assert len(decode(real_data / "COVID-BLUES/lus_videos/patient_3_R2.mp4")) >= 7


@pytest.mark.slow
def test_decord_and_av_agree_on_every_real_file(real_data):
    files = sorted(f for f in real_data.rglob("*") if f.suffix.lower() in (".mp4", ".avi"))
    assert len(files) > 150
    for path in files:
        clocks = []
        everything = lambda times: clocks.append(times) or np.arange(len(times))  # noqa: E731, B023
        by_decord, _ = decode_chosen(path, everything, "decord")
        by_av, _ = decode_chosen(path, everything, "av")
        assert difference(by_decord, by_av) < 1.5, path.name
        np.testing.assert_allclose(clocks[0] - clocks[0][0], clocks[1] - clocks[1][0], atol=2e-3, err_msg=path.name)


@pytest.mark.slow
def test_every_real_file_is_a_plain_decode_with_an_ascending_clock(real_data):
    files = sorted((real_data / "covid19_ultrasound/data/pocus_videos/convex").iterdir())
    for path in (f for f in files if f.suffix.lower() in (".mpeg", ".mov", ".gif")):
        clocks = []
        frames, _ = decode_chosen(path, lambda times: clocks.append(times) or np.arange(len(times)))  # noqa: B023
        assert np.array_equal(frames, plain_decode(path)), path.name
        assert (np.diff(clocks[0]) > 0).all(), path.name


def test_a_decoder_that_cannot_be_imported_is_not_replaced_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    if decoder_for(Path("x.mp4")) != "decord":
        pytest.skip("decord is not installed")
    (tmp_path / "clip.mp4").write_bytes(b"never read")
    monkeypatch.setitem(sys.modules, "decord", None)  # importing it raises ImportError
    with pytest.raises(InputError, match="cannot be imported") as raised:
        decode(tmp_path / "clip.mp4")
    assert not isinstance(raised.value, DecodeError)
