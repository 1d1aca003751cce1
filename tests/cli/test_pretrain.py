"""`echolung pretrain` as a person meets it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from echolung.cli import app
from echolung.cli.pretraining.judge import open_judge
from echolung.cli.pretraining.pools import Sources, open_pool
from echolung.cli.pretraining.pretrain import hearts_at_home
from echolung.cli.pretraining.runs import Asked, new_run, read_asked
from echolung.datasets import echonet_layout, phantom_heart
from echolung.datasets.phantom_files import MARKER
from echolung.pretraining.recipe import Recipe, read_recipe

RECIPE = """
[clips]
frames = 4
size = 32
[encoder]
architecture = "vit_tiny"
start = "random"
[predictor]
dim = 24
depth = 1
heads = 2
mask_tokens = 1
[optimiser]
batch = 2
steps = 6
[run]
save_every = 3
gauge_every = 2
judge_every = 3
"""


@pytest.fixture(scope="session")
def hearts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of heart phantoms: of 14 patients some 10 are to be learnt from."""
    folder = tmp_path_factory.mktemp("hearts") / "phantom-heart"
    folder.mkdir()
    phantom_heart.write(folder, videos=14, patients=14, frames=8, size=48)
    return folder


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def at_home(hearts: Path, echolung_home: Path) -> Path:
    """Put the phantoms under ECHOLUNG_HOME and return that."""
    (echolung_home / "data").mkdir()
    (echolung_home / "data" / "phantom-heart").symlink_to(hearts)
    return echolung_home


@pytest.fixture
def shell(monkeypatch, capsys):
    """Return a runner of echolung: (line) -> (exit code, stdout, stderr in one line)."""

    def run(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["echolung", *line.split()])
        monkeypatch.setattr(app, "_debug", False)
        with pytest.raises(SystemExit) as left:
            app.main()
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, " ".join(err.split())

    return run


def run_folder(home: Path, name: str, recipe: Path) -> Path:
    """Lay down what a run that was just begun leaves."""
    folder = home / "pretraining" / name
    folder.mkdir(parents=True)
    (folder / "recipe.toml").write_text(read_recipe(recipe).to_toml())
    return folder


def test_from_hearts_at_home_to_tokens_of_lungs(shell, at_home: Path, recipe: Path):
    code, out, err = shell(f"pretrain --recipe {recipe} --device cpu --workers 1")
    assert code == 0, err
    assert "No real echocardiograms" in err, "says that these are phantoms"
    assert "Recipe:" in err and "phantom-heart: 10 videos, 4 left out" in err and "step 6/6" in err
    run, checkpoint = (
        at_home / "pretraining" / "mine-phantom-heart",
        at_home / "checkpoints/mine-phantom-heart.safetensors",
    )
    assert checkpoint.is_file() and (run / "loss.png").is_file()
    assert (run / "last.safetensors").read_bytes() == checkpoint.read_bytes()
    usual = (run / "recipe.toml").stat().st_mode
    assert checkpoint.stat().st_mode == usual, "others may read it where they may read what else is written"
    assert len((run / "log.jsonl").read_text().splitlines()) == 6
    assert read_asked(run) == Asked(dataset="phantom-heart")
    flat = " ".join(out.split())
    assert "echolung extract --dataset DATASET --frames 4 --fps 8 --size 32" in flat
    code, out, err = shell("extract --dataset phantom-heart --frames 6 --size 64 --workers 1 --device cpu --json")
    assert code == 0, err
    assert "mine-phantom-heart.safetensors (the newest checkpoint)" in err
    assert json.loads(out)["grid"] == [3, 4, 4], "windows of any size do"
    told: list[str] = []
    assert new_run(None, None, "mine-phantom-heart", told.append).name == "mine-phantom-heart-2", "never over another"
    assert "--resume mine-phantom-heart" in told[0]


def test_the_probe_chooses_the_checkpoint_and_resume_needs_only_a_name(shell, at_home: Path, recipe: Path):
    line = f"pretrain --recipe {recipe} --device cpu --workers 1 --all-splits --probe phantom-heart:edv --name a --json"
    code, out, err = shell(line)
    assert code == 0, err
    told = json.loads(out)
    assert told["finished"] and told["step"] == 6 and told["recipe"]["optimiser.steps"] == 6
    assert "Before training: " in err
    seen = re.search(r"(\d+) of the (\d+) labelled videos", " ".join(err.split()))
    assert seen and seen[1] == seen[2] and int(seen[1]) < 14, "the test split is never looked at"
    assert "optimistic" in err
    scored = [json.loads(text) for text in (at_home / "pretraining/a/log.jsonl").read_text().splitlines()]
    scores = {step["step"]: step["scores"]["score"] for step in scored if "scores" in step}
    assert set(scores) == {3, 6} and told["scores"]["score"] == scores[6]
    assert json.loads((at_home / "pretraining/a/best.json").read_text())["score"] >= max(scores.values())
    best = (at_home / "pretraining/a/best.safetensors").read_bytes()
    assert (at_home / "checkpoints/a.safetensors").read_bytes() == best
    (at_home / "checkpoints/a.safetensors").unlink()
    code, out, err = shell("pretrain --resume a --device cpu --workers 1")
    assert code == 0, err
    assert "step 6 of 6" in out and "best score" in " ".join(out.split())
    assert (at_home / "checkpoints/a.safetensors").read_bytes() == best


def test_a_time_limit_saves_and_says_how_to_go_on(at_home: Path, recipe: Path, shell):
    command = [
        *(sys.executable, "-m", "echolung.cli", "pretrain", "--recipe", str(recipe), "--name", "long"),
        *("--device", "cpu", "--workers", "1", "--set", "optimiser.steps=100000", "--set", "run.save_every=100000"),
    ]
    with subprocess.Popen(
        command,
        env={**os.environ, "ECHOLUNG_HOME": str(at_home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        log = at_home / "pretraining" / "long" / "log.jsonl"
        deadline = time.monotonic() + 120
        while not (log.exists() and log.stat().st_size) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Stopped, and saved" in out and "echolung pretrain --resume long" in out
    assert not (at_home / "checkpoints").exists(), "half a run is no checkpoint to extract with"
    assert any((at_home / "pretraining/long/states").iterdir())
    code, _, err = shell("pretrain --resume long --set optimiser.steps=10 --device cpu")
    assert code == 2 and "optimiser.steps: 10, not 100000" in err


def test_nothing_to_learn_from_says_what_to_get(shell):
    code, _, err = shell("pretrain")
    assert code == 2
    for word in (
        "nothing to learn from",
        "EchoNet-Dynamic",
        "EchoNet-Pediatric",
        "agreement",
        "--layout phantom-heart",
    ):
        assert word in err


def test_phantoms_at_home_are_left_out_where_something_real_is(shell, echolung_home: Path, recipe: Path):
    data, told = echolung_home / "data", []
    echonet_layout.write_dynamic(data / "echonet-dynamic", videos=12, frames=4, size=32)
    echonet_layout.write_pediatric(data / "echonet-pediatric", videos=12, frames=4, size=32)
    assert hearts_at_home(told.append) == ["echonet-dynamic", "echonet-pediatric"], (
        "phantoms in the layout of real ones"
    )
    assert "No real echocardiograms" in told.pop()
    (data / "echonet-pediatric" / MARKER).unlink()  # as if it were real
    assert hearts_at_home(told.append) == ["echonet-pediatric"] and not told
    line = f"pretrain --recipe {recipe} --device cpu --workers 1 --set optimiser.steps=2 --fold 2 --view A4C --name a"
    code, _, err = shell(f"{line} --probe echonet-dynamic:ef --all-splits")
    assert code == 0, err
    asked = read_asked(echolung_home / "pretraining" / "a")
    assert (asked.view, asked.fold) == ("A4C", 2) and "(test is fold 2, validation 3)" in err
    names = json.loads((echolung_home / "pretraining/a/pool.json").read_text())["videos"]
    assert len(names) == 6, "of the one view"
    code, _, err = shell("pretrain --resume a --device cpu --workers 1")
    assert code == 0 and "test is fold 2" in err, "said once is enough"
    code, _, err = shell("pretrain --resume a --device cpu --workers 1 --view PSAX")
    assert code == 2 and "another pool" in err


def test_fold_0_is_said_too():
    before = Asked(dataset="a", all_splits=True, fold=3)
    assert Asked(fold=0).over(before) == Asked(dataset="a", all_splits=True, fold=0)
    assert Asked(view="A4C").over(before) == Asked(dataset="a", all_splits=True, view="A4C", fold=3)


def test_the_judge_looks_where_the_pool_does(tmp_path: Path):
    root = tmp_path / "children"
    echonet_layout.write_pediatric(root, videos=60, frames=4, size=32)
    sources = Sources("echonet-pediatric", root, view="PSAX", fold=4)
    recipe = read_recipe("tiny-cpu")
    judge = open_judge("echonet-pediatric:ef", recipe, open_pool(sources, tell=lambda text: None), sources=sources)
    assert set(judge.manifest.videos["view"]) == {"PSAX"}
    assert "test" not in set(judge.manifest.videos["split"])
    assert 4 not in set(judge.manifest.videos["fold"])


def test_help_puts_how_it_is_computed_together(shell, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    _, out, _ = shell("pretrain --help")
    panel = out.partition("How it is computed")[2].partition("╰")[0]
    for option in ("--device", "--decoder", "--workers", "--time-limit", "--json"):
        assert option in panel
    assert "--view" in out and "--fold" in out


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("--dataset phantom-hart", "Did you mean 'phantom-heart'"),
        ("--dataset phantom-heart:0", "above 0"),
        ("--dataset pocus", "/data/pocus"),
        ("--recipe tiny-gpu", "Did you mean 'tiny-cpu'"),
        ("--recipe tiny-cpu --set optimiser.step=5", "Did you mean 'optimiser.steps'"),
        ("--recipe tiny-cpu --set clips.size=60", "multiples"),
        ("--recipe tiny-cpu --probe phantom-heart:age", "no task 'age'"),
        ("--recipe tiny-cpu --set encoder.start=vitl.pt", "vitl.pt"),
        ("--resume gone", "With --name gone beside it, it begins"),
        ("--name a/b", "plain name"),
        ("--name a --out b", "leave one out"),
        ("--data somewhere", "name it with --dataset"),
        ("--device gpu", "There is no device 'gpu'; there are auto, cpu"),
        ("--fold 3", "none of phantom-heart has a fold"),
    ],
)
def test_bad_input(shell, at_home: Path, line: str, text: str):
    code, _, err = shell(f"pretrain {line} --workers 1")
    assert code == 2, err
    assert text in err and "Traceback" not in err


def test_names_that_are_taken(shell, at_home: Path, recipe: Path, tmp_path: Path):
    run_folder(at_home, "a", recipe)
    code, _, err = shell(f"pretrain --recipe {recipe} --name a")
    assert code == 2 and "--resume a" in err
    (at_home / "checkpoints").mkdir()
    (at_home / "checkpoints" / "b.safetensors").write_bytes(b"another's")
    code, _, err = shell(f"pretrain --recipe {recipe} --name b")
    assert code == 2 and "would overwrite" in err
    code, _, err = shell(f"pretrain --recipe {recipe} --out {tmp_path}")
    assert code == 2 and "already" in err
    code, _, err = shell("pretrain --resume a --name b")
    assert code == 2 and "two runs" in err


def test_a_resume_with_another_recipe_names_the_keys(shell, at_home: Path, recipe: Path):
    run_folder(at_home, "a", recipe)
    code, _, err = shell("pretrain --resume a --set optimiser.lr=0.5 --set clips.flip=true")
    assert code == 2 and "optimiser.lr: 0.5, not 3e-05" in err and "clips.flip: True, not False" in err
    code, _, err = shell("pretrain --resume a --recipe tiny-cpu")
    assert code == 2 and "clips.size: 64, not 32" in err


def test_what_no_process_could_read_is_one_list(at_home: Path, recipe: Path, shell):
    code, _, err = shell(f"pretrain --recipe {recipe} --device cpu --workers 1 --name a --set optimiser.steps=2")
    assert code == 0, err
    run = at_home / "pretraining" / "a"
    (run / "broken.json").write_text('{"x/b": "of the first process"}')
    code, out, _ = shell("pretrain --resume a --device cpu --workers 1")
    assert "1 video could not be read: x/b" in " ".join(out.split())
    (run / "broken-1.json").write_text('{"x/a": "of the second"}')
    code, out, _ = shell("pretrain --resume a --device cpu --workers 1 --json")
    assert json.loads(out)["broken"] == {"x/a": "of the second", "x/b": "of the first process"}
    assert json.loads((run / "broken.json").read_text()) == json.loads(out)["broken"]


@pytest.mark.parametrize(
    ("gigabytes", "weights", "wanted"),
    [(24, True, "echojepa-vitl-224"), (24, False, "vits-112"), (8, True, "vits-112"), (None, True, "tiny-cpu")],
)
def test_the_recipe_suits_the_device(monkeypatch, echolung_home: Path, gigabytes, weights, wanted):
    import torch

    from echolung.cli.pretraining.recipes import pick_recipe

    if weights:
        (echolung_home / "checkpoints").mkdir()
        (echolung_home / "checkpoints" / "vjepa2-vitl.pt").write_bytes(b"")
    kind = "cpu" if gigabytes is None else "cuda"
    monkeypatch.setattr("echolung.device.pick_device", lambda name: torch.device(kind))
    about = type("Properties", (), {"total_memory": (gigabytes or 0) * 1e9})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: about)
    said = []
    name, recipe = pick_recipe(None, None, [], "auto", said.append)
    assert name == wanted and isinstance(recipe, Recipe) and wanted in said[0]
