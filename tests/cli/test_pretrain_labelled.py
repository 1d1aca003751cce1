"""`echolung pretrain --objective …`: from the command to a checkpoint with a head, and what is refused."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from echolung.datasets import echonet_layout
from echolung.encoders import load_encoder
from echolung.encoders.tensors import read_tensors
from echolung.probes.saved import load_probe

Typed = Callable[..., tuple[int, str, str]]

SETS = (
    "clips.frames=4", "clips.stride=2", "clips.size=32", "clips.shift=2", "optimiser.batch=4", "optimiser.epochs=2",
    "objective.hidden=8", "run.gauge_every=1", "encoder.start=random:vit_tiny@0", "encoder.dropout=0",
)  # fmt: skip


@pytest.fixture(scope="session")
def dynamic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dynamic") / "echonet-dynamic"
    folder.mkdir()
    echonet_layout.write_dynamic(folder, videos=20, frames=12, size=48)
    return folder


def command(objective: str, data: Path, *more: str) -> list[str]:
    sets = [word for item in SETS for word in ("--set", item)]
    asked = ["pretrain", "--objective", objective, "--recipe", f"{objective}-tiny-cpu", "--dataset", "echonet-dynamic"]
    return [*asked, "--data", str(data), "--device", "cpu", "--workers", "1", *sets, *more]


@pytest.mark.parametrize(
    ("objective", "task", "classes"),
    [("coreecho", "ef", ()), ("echocotr", "esv", ()), ("supervised", "ef-reduced", ("preserved", "reduced"))],
)
def test_from_the_command_to_an_encoder_and_its_head(
    typed: Typed, dynamic: Path, echolung_home: Path, objective: str, task: str, classes: tuple[str, ...]
) -> None:
    code, out, err = typed(*command(objective, dynamic, "--task", task, "--name", "mine"))
    assert code == 0, err
    checkpoints = echolung_home / "checkpoints"
    encoder = load_encoder(checkpoints / "mine.safetensors")
    head = load_probe(checkpoints / "mine.head")
    assert head.kind == "mlp" and len(head.classes) == len(classes) and head.about["task"] == task
    assert head.about["weights_tensors"] == encoder.tensors_digest()
    assert encoder.spec.dim == 192 and "--fusion late --start-from mine --as-is" in " ".join(out.split())
    lines = [json.loads(line) for line in (echolung_home / "pretraining/mine/log.jsonl").read_text().splitlines()]
    assert len(lines) == 6 and ("rank_n_contrast" in lines[0]["gauges"]) == (objective == "coreecho")
    assert set(lines[-1]["scores"]) >= ({"auroc"} if classes else {"mae", "rmse"})
    assert (echolung_home / "pretraining/mine/loss.png").is_file()


def test_a_trial_is_a_run_of_its_own_with_another_seed(typed: Typed, dynamic: Path, echolung_home: Path) -> None:
    for trial in ("0", "1"):
        assert typed(*command("coreecho", dynamic, "--trial", trial, "--set", "optimiser.epochs=1"))[0] == 0
    runs = sorted(path.name for path in (echolung_home / "pretraining").iterdir())
    assert runs == [f"coreecho-tiny-cpu-echonet-dynamic-trial{trial}" for trial in (0, 1)]
    one, two = (
        json.loads((echolung_home / "pretraining" / run / "log.jsonl").read_text().splitlines()[0]) for run in runs
    )
    assert one["loss"] != two["loss"]


@pytest.mark.slow
def test_killed_and_resumed_it_is_the_same_to_the_bit(typed: Typed, dynamic: Path, echolung_home: Path) -> None:
    assert typed(*command("coreecho", dynamic, "--name", "whole"))[0] == 0
    asked = [sys.executable, "-m", "echolung.cli", *command("coreecho", dynamic, "--name", "cut")]
    environment = {**os.environ, "ECHOLUNG_HOME": str(echolung_home)}
    process = subprocess.Popen(asked, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    states = echolung_home / "pretraining" / "cut" / "states"
    while not list(states.glob("step-*.pt")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    code, _, err = typed("pretrain", "--resume", "cut", "--device", "cpu", "--workers", "1")
    assert code == 0, err
    for name in ("safetensors", "head/probe.safetensors"):
        whole, cut = (read_tensors(echolung_home / f"checkpoints/{run}.{name}")[0] for run in ("whole", "cut"))
        assert all((whole[key] == cut[key]).all() for key in whole), name


@pytest.mark.parametrize(
    ("objective", "more", "said"),
    [
        ("coreecho", ["--task", "ef-reduced"], "learns a number, and ef-reduced has the classes"),
        ("coreecho", ["--all-splits"], "--all-splits goes with --objective jepa"),
        ("coreecho", ["--probe", "echonet-dynamic"], "--probe goes with --objective jepa"),
        ("coreecho", ["--task", "age"], "has no task 'age'"),
        ("coreecho", ["--set", "objective.temperature=0"], "objective.temperature = 0 must be from"),
        ("coreecho", ["--set", "objective.hidden=many"], "must be widths of layers"),
        ("coreecho", ["--set", "encoder.start=random:uniformer_tall"], "Known: "),
        ("supervised", ["--task", "ef", "--set", "objective.loss=cross-entropy"], "is not for ef"),
        ("coreecho", ["--recipe", "tiny-cpu"], "is for --objective jepa, not coreecho"),
        ("coreecho", ["--set", "encoder.start=uniformer_small@k400.pth"], "k400.pth"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    typed: Typed, dynamic: Path, echolung_home: Path, objective: str, more: list[str], said: str
) -> None:
    code, _, err = typed(*command(objective, dynamic, *more))
    assert code == 2 and said in " ".join(err.split())
    assert not (echolung_home / "pretraining").exists()


def test_a_pickle_is_no_checkpoint(typed: Typed, dynamic: Path, tmp_path: Path) -> None:
    import pickle

    (tmp_path / "net.pth").write_bytes(pickle.dumps({"made": os.getcwd}))
    start = f"encoder.start=uniformer_small@{tmp_path / 'net.pth'}"
    code, _, err = typed(*command("coreecho", dynamic, "--set", start))
    assert code == 2 and "net.pth" in err


def test_a_dataset_without_its_table(typed: Typed, dynamic: Path, tmp_path: Path) -> None:
    (tmp_path / "Videos").symlink_to(dynamic / "Videos")
    code, _, err = typed(*command("coreecho", tmp_path))
    assert code == 2 and "FileList.csv" in err
