import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from echolung.datasets import Manifest
from echolung.encoders import load_encoder
from echolung.errors import InputError, RunError
from echolung.pretraining import learner
from echolung.pretraining.log import StepRecord, read_lines
from echolung.pretraining.loop import Outcome, pretrain
from echolung.pretraining.pool import Pool
from echolung.pretraining.recipe import Recipe

SCRIPT = """
import json, os, signal, sys
from pathlib import Path
import pandas as pd, torch
from echolung.datasets import Manifest
from echolung.errors import EcholungError
from echolung.pretraining.loop import pretrain
from echolung.pretraining.pool import Pool
from echolung.pretraining.recipe import read_recipe

recipe, videos, folder, killed_after = json.loads(sys.argv[1])

def on_step(record):
    if record.step == killed_after:
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    torch.set_num_threads(1)
    files = sorted(Path(videos).glob("*.avi"))
    names = [file.stem for file in files]
    table = pd.DataFrame({"video_id": names, "path": [f.name for f in files], "patient": names, "source": ""})
    pool = Pool.of([Manifest("few", Path(videos), table, {})])
    try:
        done = pretrain(read_recipe(recipe), pool, Path(folder), workers=1, on_step=on_step)
    except EcholungError as error:
        sys.exit(f"told: {error}")
    print("finished" if done.finished else "stopped", done.step)
"""


def run(recipe: Recipe, videos: Path, folder: Path, *, killed_after: int = 0, **environment: str) -> subprocess.Popen:
    """Start a run in a process of its own, which may be killed after a step."""
    folder.parent.mkdir(exist_ok=True, parents=True)
    script, file = folder.parent / "run.py", folder.parent / "given.toml"
    script.write_text(SCRIPT)
    file.write_text(recipe.to_toml())
    given = json.dumps([str(file), str(videos), str(folder), killed_after])
    return subprocess.Popen(
        [sys.executable, str(script), given],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def losses(folder: Path) -> list[float]:
    lines = read_lines(folder / "log.jsonl")
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    return [line["loss"] for line in lines]


def go(recipe: Recipe, pool: Pool, folder: Path, **more: Any) -> Outcome:
    return pretrain(recipe, pool, folder, workers=1, **more)


@pytest.fixture(scope="module")
def pool(few: Manifest) -> Pool:
    return Pool.of([few])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, pool: Pool, smallest: Recipe) -> Path:
    """Return the folder of a run that was left alone."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # how many there are decides how sums are split, and with it the last bit
    assert go(smallest, pool, folder).finished
    torch.set_num_threads(threads)
    return folder


def test_a_run_leaves_what_it_says(whole: Path) -> None:
    lines = read_lines(whole / "log.jsonl")
    assert len(lines) == 8
    assert [line["step"] for line in lines if "gauges" in line] == [1, 5, 8]
    assert all(np.isfinite(line["loss"]) and line["clips"] == 4 and line["seconds"] > 0 for line in lines)
    assert sorted(path.name for path in (whole / "states").iterdir()) == ["step-000006.pt", "step-000008.pt"]
    encoder = load_encoder(whole / "last.safetensors")
    state = load_encoder(str(whole / "states" / "step-000008.pt"))  # V-JEPA 2's layout: the target encoder
    frames = torch.randn(1, 3, 8, 32, 32)
    assert torch.equal(encoder(frames), state(frames))
    begun = load_encoder("random:vit_tiny@0")
    assert not torch.equal(encoder(frames), begun(frames))


def test_killed_and_resumed_is_the_same_to_the_bit(
    whole: Path, few_videos: Path, pool: Pool, smallest: Recipe, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    process = run(smallest, few_videos, folder, killed_after=5)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert len(losses(folder)) == 5
    assert go(smallest, pool, folder, resume=True).finished
    assert losses(folder) == losses(whole)
    for name, tensor in load_file(whole / "last.safetensors").items():
        assert torch.equal(tensor, load_file(folder / "last.safetensors")[name]), name


def test_sigterm_saves_and_ends_well(whole: Path, pool: Pool, smallest: Recipe, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    before = signal.getsignal(signal.SIGTERM)

    def on_step(record: StepRecord) -> None:
        if record.step == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    done = go(smallest, pool, folder, on_step=on_step)
    assert not done.finished
    assert 2 <= done.step <= 4  # a step is looked at while the next one runs
    assert (folder / "states" / f"step-{done.step:06d}.pt").exists()
    assert signal.getsignal(signal.SIGTERM) is before
    assert go(smallest, pool, folder, resume=True).finished
    assert losses(folder) == losses(whole)


def test_two_processes_see_what_one_sees(whole: Path, few_videos: Path, smallest: Recipe, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    processes = [run(smallest, few_videos, folder, **shared, RANK=str(rank)) for rank in range(2)]
    for process in processes:
        out, err = process.communicate(timeout=200)
        assert out == "finished 8\n", err
    np.testing.assert_allclose(losses(folder), losses(whole), rtol=0, atol=1e-5)
    assert [line["clips"] for line in read_lines(folder / "log.jsonl")] == [4] * 8


def test_a_folder_is_of_one_run(whole: Path, pool: Pool, few: Manifest, smallest: Recipe, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"There is a run at .* already"):
        go(smallest, pool, whole)
    with pytest.raises(InputError, match="no run to go on with"):
        go(smallest, pool, tmp_path, resume=True)
    other = smallest.with_changes(["optimiser.lr=2e-3", "masks.truncate=first"])
    with pytest.raises(InputError, match=r"masks\.truncate: 'first', not 'random', optimiser\.lr: 0\.002, not 0\.0005"):
        go(other, pool, whole, resume=True)
    less = replace(few, videos=few.videos.iloc[:4].reset_index(drop=True))
    with pytest.raises(InputError, match="another pool of videos"):
        go(smallest, Pool.of([less]), whole, resume=True)


def test_a_checkpoint_that_was_cut_short_is_named(whole: Path, pool: Pool, smallest: Recipe, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    newest = folder / "states" / "step-000008.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    with pytest.raises(
        InputError, match=r"step-000008\.pt cannot be continued.*Delete it to go on from the one before"
    ):
        go(smallest, pool, folder, resume=True)
    newest.unlink()
    assert go(smallest, pool, folder, resume=True).finished


def test_a_loss_that_is_not_finite_names_its_batch(
    pool: Pool, smallest: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = learner.augment

    def spoilt(frames: Any, sides: Any, samples: np.ndarray, plan: Any, seed: int) -> torch.Tensor:
        return real(frames, sides, samples, plan, seed) * (float("nan") if 18 in samples else 1.0)

    monkeypatch.setattr(learner, "augment", spoilt)
    with pytest.raises(RunError) as error:
        go(smallest, pool, tmp_path / "run")
    batch = [pool.names[row] for row in pool.order(0, np.arange(16, 20))]
    assert f"Step 5 came to a loss of nan and a gradient of norm nan. Its batch: {', '.join(batch)}." in str(
        error.value
    )
    assert "step-000003.pt" in str(error.value)
    state = torch.load(tmp_path / "run" / "states" / "step-000003.pt", weights_only=True)
    assert all(tensor.isfinite().all() for tensor in state["encoder"].values())


def test_a_broken_video_is_listed_and_none_takes_its_place(
    few_videos: Path, smallest: Recipe, tmp_path: Path, manifest_of: Callable[..., Manifest]
) -> None:
    folder = tmp_path / "videos"
    shutil.copytree(few_videos, folder)
    (folder / "v2.avi").write_bytes((folder / "v2.avi").read_bytes()[:300])
    said: list[str] = []
    records: list[StepRecord] = []
    own = Pool.of([manifest_of(folder)])
    done = go(smallest, own, tmp_path / "run", tell=said.append, on_step=records.append)
    assert list(done.broken) == ["few/v2"] == list(json.loads((tmp_path / "run" / "broken.json").read_text()))
    assert sum("few/v2" in text for text in said) == 1
    picked = own.order(0, np.arange(32)).reshape(8, 4)
    assert [record.clips for record in records] == [4 - int((rows == 2).sum()) for rows in picked]


def test_the_best_by_a_judge_is_kept(pool: Pool, smallest: Recipe, tmp_path: Path) -> None:
    seen: list[torch.Tensor] = []

    def judge(encoder: torch.nn.Module) -> dict[str, float]:
        seen.append(next(encoder.parameters()).clone())
        return {"score": -float(len(seen)), "r2": 0.5}

    said: list[str] = []
    done = go(smallest, pool, tmp_path / "run", judge=judge, tell=said.append)
    assert len(seen) == 3
    assert "Before training: r2 0.500." in said
    assert done.checkpoint == tmp_path / "run" / "best.safetensors"
    assert torch.equal(load_file(done.checkpoint)["patch_embed.proj.weight"], seen[0])
    assert json.loads((tmp_path / "run" / "best.json").read_text()) == {"step": 0, "score": -1.0, "r2": 0.5}
    scored = {line["step"]: line["scores"] for line in read_lines(tmp_path / "run" / "log.jsonl") if "scores" in line}
    assert scored == {4: {"score": -2.0, "r2": 0.5}, 8: {"score": -3.0, "r2": 0.5}}


def test_a_full_disk_leaves_the_last_checkpoint(
    pool: Pool, smallest: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = torch.save, []

    def save(content: Any, file: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(content, file)

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(RunError, match=r"step-000006\.pt.*No space left.*step-000003\.pt, is whole"):
        go(smallest, pool, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run" / "states").iterdir()] == ["step-000003.pt"]
    monkeypatch.setattr(torch, "save", real)
    assert go(smallest, pool, tmp_path / "run", resume=True).finished


def test_what_cannot_begin_leaves_no_folder(pool: Pool, smallest: Recipe, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        go(smallest.with_changes(["encoder.start=nowhere.pt"]), pool, tmp_path / "run")
    (tmp_path / "cut.h5").write_bytes(b"no pack")
    with pytest.raises(InputError):
        go(smallest, pool, tmp_path / "run", pack=tmp_path / "cut.h5")
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_without_the_weights_it_began_from(
    whole: Path, pool: Pool, smallest: Recipe, tmp_path: Path
) -> None:
    began = tmp_path / "began.safetensors"
    shutil.copy(whole / "last.safetensors", began)
    recipe = smallest.with_changes([f"encoder.start={json.dumps(str(began))}"])
    assert go(recipe, pool, tmp_path / "run").finished
    alone = losses(tmp_path / "run")
    for name in ("step-000008.pt",):
        (tmp_path / "run" / "states" / name).unlink()
    began.unlink()
    assert go(recipe, pool, tmp_path / "run", resume=True).finished
    assert losses(tmp_path / "run") == alone


def test_frames_of_another_size_are_another_run(
    whole: Path, pool: Pool, smallest: Recipe, tmp_path: Path, few: Manifest
) -> None:
    from echolung.clips.packed import pack

    pack(pool.videos, tmp_path / "small.h5", size=40)
    with pytest.raises(
        InputError, match="learnt from frames as stored, and now it would from frames packed at 40 pixels"
    ):
        go(smallest, pool, whole, resume=True, pack=tmp_path / "small.h5")


def test_times_are_those_of_their_own_step(whole: Path) -> None:
    lines = read_lines(whole / "log.jsonl")
    assert all(line["waited"] <= line["seconds"] for line in lines)
