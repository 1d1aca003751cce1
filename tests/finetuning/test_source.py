"""The encoder and the videos of a store are found again, or the message says what is missing."""

import shutil

import pytest

from echolung.cache import TokenStore
from echolung.encoders import identify
from echolung.encoders.checkpoints import save_encoder
from echolung.encoders.encoder import load_model
from echolung.errors import InputError
from echolung.evaluation.data import task_data
from echolung.extraction import make_plan
from echolung.extraction.run import extract
from echolung.finetuning.source import find_source, model_of, read_clips


def data_of(lungs):
    names = tuple(lungs.store.snapshot.videos["video_id"])
    return task_data(lungs.store, names, "pattern", None, None)


@pytest.fixture
def copied(lungs, tmp_path):
    """Return a copy of the videos."""
    return shutil.copytree(lungs.videos, tmp_path / "copy")


def test_no_videos_at_all(lungs, tmp_path):
    with pytest.raises(InputError, match="no lung phantoms"):
        find_source(lungs.store, tmp_path)


def test_a_video_is_missing(lungs, copied):
    gone = sorted((copied / "videos").iterdir())[4]
    gone.unlink()
    with pytest.raises(InputError, match=rf"1 of 18 videos of lungs.zarr are not under .*\({gone.stem}\).*--data"):
        read_clips(find_source(lungs.store, copied), data_of(lungs), workers=1)


def test_a_video_is_another(lungs, copied):
    by_suffix = {}
    for file in sorted((copied / "videos").iterdir()):
        by_suffix.setdefault(file.suffix, []).append(file)
    one, other = max(by_suffix.values(), key=len)[:2]
    shutil.copy(one, other)
    with pytest.raises(InputError, match=rf"{other.name} is not the file that lungs.zarr was made of"):
        read_clips(find_source(lungs.store, copied), data_of(lungs), workers=1)


def test_a_video_can_no_longer_be_read(lungs, copied):
    broken = sorted((copied / "videos").iterdir())[0]
    broken.write_bytes(b"no video")
    with pytest.raises(InputError, match=f"The video {broken.stem} can no longer be read"):
        read_clips(find_source(lungs.store, copied), data_of(lungs), workers=1)


def test_a_store_that_says_nothing(write_classes):
    with pytest.raises(InputError, match="was not made by echolung extract"):
        find_source(write_classes(patients=6))


@pytest.fixture(scope="module")
def checkpointed(lungs, tmp_path_factory) -> tuple[TokenStore, str]:
    """Return a store made by a checkpoint, and the checkpoint."""
    from echolung.clips import ClipPlan
    from echolung.datasets import load_manifest

    folder = tmp_path_factory.mktemp("weights")
    path = folder / "mine.safetensors"
    save_encoder(path, load_model("random:uniformer_tiny@5")[0])
    plan = make_plan(
        load_manifest("phantom-lung", lungs.videos), identify(path), ClipPlan(segments=1, frames=4, size=32),
        path=folder / "s.zarr", precision="float32", tokens="none",
    )  # fmt: skip
    return extract(plan, device="cpu", workers=1, preview=False), str(path)


def test_weights_that_are_elsewhere_are_named(lungs, checkpointed):
    store, path = checkpointed
    with pytest.raises(InputError, match="--encoder says where its weights are now"):
        find_source(store, lungs.videos)
    model, _ = model_of(find_source(store, lungs.videos, path))
    wanted = load_model("random:uniformer_tiny@5")[0].state_dict()
    assert all(bool((value == wanted[name]).all()) for name, value in model.state_dict().items())


def test_other_weights_are_refused(lungs, checkpointed, tmp_path):
    other = tmp_path / "other.safetensors"
    save_encoder(other, load_model("random:uniformer_tiny@6")[0])
    with pytest.raises(InputError, match=r"not the one that s.zarr was made by.*weights"):
        find_source(checkpointed[0], lungs.videos, str(other))


def test_random_weights_of_a_checkpoints_architecture(lungs, checkpointed):
    model, told = model_of(find_source(checkpointed[0], lungs.videos, checkpointed[1]), fresh=7)
    wanted = load_model("random:uniformer_tiny@7")[0].state_dict()
    assert all(bool((value == wanted[name]).all()) for name, value in model.state_dict().items())
    assert "seed 7" in told
