"""Memory and products of a step: against what torch counts and holds, by hand, and the words where it does not fit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop

from echolung import machine
from echolung.encoders.sizes import VITS, ViTConfig
from echolung.encoders.vit import VisionTransformer, rope_tables
from echolung.errors import InputError
from echolung.pretraining import cost
from echolung.pretraining.cost import check_room, clip_flops, fitting_batch, mask_lengths, room, step_bytes
from echolung.pretraining.jepa import Jepa
from echolung.pretraining.recipe import Recipe, read_recipe
from echolung.pretraining.start import start

SMALL = (
    "encoder.architecture=vit_tiny",
    "encoder.start=random",
    "clips.size=64",
    "clips.frames=8",
    "run.precision=float32",
)


@pytest.fixture(autouse=True)
def shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let vit_tiny have two blocks: a dry run takes as long as a model is deep."""
    monkeypatch.setitem(VITS, "vit_tiny", ViTConfig(dim=192, depth=2, heads=3, mlp=768))
    rope_tables.cache_clear()


def recipe(*changes: str) -> Recipe:
    shape = (
        "predictor.dim=48",
        "predictor.depth=2",
        "predictor.heads=2",
        "predictor.mask_tokens=2",
        "optimiser.batch=4",
    )
    return Recipe().with_changes([*SMALL, *shape, *changes])


def forward_backward(recipe: Recipe, lengths: cost.Lengths, clips: int = 1) -> None:
    begun = start(recipe)
    jepa = Jepa(begun.encoder, begun.predictor, begun.target)
    frames = torch.zeros(clips, 3, recipe.clips.frames, recipe.clips.size, recipe.clips.size)
    contexts = [torch.arange(k).expand(clips, -1) for k, _ in lengths]
    targets = [torch.arange(m).expand(clips, -1) for _, m in lengths]
    jepa(frames, contexts, targets, torch.ones(clips)).loss.backward()


def twice_forward(*shapes, out_shape=None, **_):
    """Count a backward of attention as two forwards; torch counts the scores that its kernels compute again, too."""
    _, query, key, value = shapes[:4]
    return 2 * sdpa_flop(query, key, value)


def test_products_are_those_that_torch_counts(monkeypatch):
    chosen = [(12, 40), (5, 33)]
    monkeypatch.setattr(cost, "mask_lengths", lambda recipe, batch: [chosen])
    backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    with FlopCounterMode(display=False, custom_mapping={backward: twice_forward}) as counter:
        forward_backward(recipe(), chosen)
    found = clip_flops(recipe())
    assert found.total == sum(counter.get_flop_counts()["Global"].values())
    assert found.target == sum(counter.get_flop_counts()["Jepa.target"].values())
    # What belongs to which network is told apart by itself: torch cannot, on the way back.
    encoder, frames = start(recipe()).encoder, torch.zeros(1, 3, 8, 64, 64)
    with FlopCounterMode(display=False, custom_mapping={backward: twice_forward}) as counter:
        sum(encoder(frames, torch.arange(k)[None]).sum() for k, _ in chosen).backward()
    assert found.encoder == counter.get_total_flops()


def test_products_of_the_large_encoder_by_hand():
    # 303.9 M parameters, nearly all in products: 2 operations each a token, and 4 · 1568² · 1024 a block of attention.
    expected = 1568 * 2 * 303.1e6 + 24 * 4 * 1568**2 * 1024
    assert clip_flops(read_recipe("echojepa-vitl-224")).target == pytest.approx(expected, rel=2e-3)


def test_mean_over_the_draws(monkeypatch):
    alone = []
    for lengths in ([(12, 40)], [(6, 50)]):
        monkeypatch.setattr(cost, "mask_lengths", lambda recipe, batch, lengths=lengths: [lengths])
        alone.append(clip_flops(recipe()))
    monkeypatch.setattr(cost, "mask_lengths", lambda recipe, batch: [[(12, 40)], [(6, 50)]])
    assert clip_flops(recipe()).encoder == pytest.approx((alone[0].encoder + alone[1].encoder) / 2)


def test_lengths_are_those_of_a_step():
    draws = mask_lengths(recipe(), 4)
    assert len(draws) == 32
    assert all(len(draw) == 2 and k > 0 and m > 0 and k + m <= 64 for draw in draws for k, m in draw)
    assert len(mask_lengths(recipe(), 1000)) == 4


def test_masks_of_a_large_batch_are_bounded_by_those_of_its_first_clips(monkeypatch):
    plan = recipe()
    bounds = mask_lengths(plan, 300)
    monkeypatch.setattr(cost, "SAMPLES", 300)
    for bound, real in zip(bounds, mask_lengths(plan, 300), strict=True):
        assert all(k >= m and n >= o for (k, n), (m, o) in zip(bound, real, strict=True))
    monkeypatch.setattr(
        cost, "draw_masks", lambda grid, plan, seed, step, samples: [] if len(samples) <= 300 else 1 / 0
    )
    assert len(mask_lengths(plan, 10**9)) == 4


def test_what_stays_is_counted_to_the_byte(monkeypatch):
    monkeypatch.setattr(cost._Live, "_see", lambda self, storage: None)
    parts = start(recipe())
    trained = sum(p.numel() for part in (parts.encoder, parts.predictor) for p in part.parameters() if p.requires_grad)
    everything = sum(p.numel() for part in (parts.encoder, parts.predictor, parts.target) for p in part.parameters())
    assert step_bytes(recipe(), 1) == 4 * everything + 8 * trained


def test_live_bytes_follow_what_is_made_and_freed():
    with cost._Live() as live:
        one = torch.empty(1000)
        view = one[:10].view(2, 5)
        assert live.now == 4000
        other = torch.empty(500, dtype=torch.float64)
        assert live.now == 8000
        del one
        assert live.now == 8000  # the view holds it
        del view, other
        assert live.now == 0
        torch.empty(100)
    assert live.peak == 8000


def test_memory_grows_by_the_same_a_clip():
    one, two, three = (step_bytes(recipe(), batch) for batch in (16, 32, 48))
    assert one < two < three
    assert two - one == pytest.approx(three - two, rel=0.25)  # the lengths of the masks differ a little


def test_checkpointing_bfloat16_and_more_processes_take_less():
    plain = step_bytes(recipe(), 32)
    assert step_bytes(recipe("run.checkpointing=true"), 32) < 0.7 * plain
    assert step_bytes(recipe(), 32, precision="bfloat16") < 0.8 * plain
    assert step_bytes(recipe(), 32, ranks=4) < 0.6 * plain


@pytest.mark.slow
def test_the_published_run_fits_the_card_it_ran_on():
    published = read_recipe("echojepa-vitl-224")
    assert 5e9 < step_bytes(published, 16, precision="bfloat16") < 24e9 / cost.MARGIN


def test_encoder_works_after_a_dry_run():
    # The tables of positions are remembered: those of a dry run have no content.
    frames = torch.randn(1, 3, 8, 64, 64)
    model = VisionTransformer(VITS["vit_tiny"], 0)
    before = model(frames)
    step_bytes(recipe(), 2)
    assert torch.equal(model(frames), before)


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a step take 100 MB and 10 MB a clip of the process, 4 MB with checkpointing, without any margin."""

    def counted(recipe: Recipe, batch: int, ranks: int = 1, precision: str | None = None) -> int:
        return 100_000_000 + batch // ranks * (4_000_000 if recipe.run.checkpointing else 10_000_000)

    monkeypatch.setattr(cost, "step_bytes", counted)
    monkeypatch.setattr(cost, "MARGIN", 1)


@pytest.mark.parametrize(("ranks", "megabytes", "fits"), [
    (1, 90, 0), (1, 109, 0), (1, 110, 1), (1, 199, 9), (1, 340, 24), (1, 9999, 24), (4, 119, 4), (4, 159, 20), (4, 160, 24),
])  # fmt: skip
def test_fitting_batch_is_the_largest_that_fits(line, ranks, megabytes, fits):
    assert fitting_batch(recipe("optimiser.batch=24"), megabytes * 10**6, ranks) == fits


def test_few_dry_runs_find_the_batch(monkeypatch):
    """Also where memory is no line: masks get shorter the more clips there are."""
    runs = []

    def counted(recipe: Recipe, batch: int, ranks: int = 1, precision: str | None = None) -> int:
        runs.append(batch)
        return 10**8 + int(10**7 * batch * (0.8 + 0.2 / batch**0.5))

    monkeypatch.setattr(cost, "step_bytes", counted)
    fits = fitting_batch(recipe("optimiser.batch=1000000"), 10**10)
    assert len(runs) <= 5
    assert 0.97 * 10**10 < counted(recipe(), fits) * cost.MARGIN <= 10**10


def message(plan: Recipe, megabytes: int, ranks: int = 1) -> str:
    with pytest.raises(InputError) as caught:
        check_room(plan, megabytes * 10**6, ranks)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_too_little_memory_says_which_batch_fits(line):
    plan = recipe("optimiser.batch=32")
    check_room(plan, 420 * 10**6)
    assert message(plan, 300) == (
        "A step of vit_tiny on 32 clips of 8 frames at 64 pixels needs about 420 MB of memory; there are 300 MB. A batch of 20 "
        "would fit: --set optimiser.batch=20. With --set run.checkpointing=true it would fit as well, in about a third more "
        "time."
    )
    also = "With --set run.checkpointing=true and --set optimiser.batch=25 it would fit"
    assert also in message(plan, 200)
    assert "A batch of 10 would fit" in message(plan, 200)
    assert "on 32 clips (16 a process) of" in message(plan, 200, ranks=2)


def test_too_little_memory_for_anything(line):
    lean = recipe("run.checkpointing=true")
    assert "Not even one clip would fit: take a smaller encoder.architecture or clips.size." in message(lean, 100)
    assert "Not even 2 clips, one a process, would fit" in message(lean, 100, ranks=2)
    assert "run.checkpointing" not in message(lean, 105)
    only = message(recipe(), 104)
    assert "104 MB. With --set run.checkpointing=true and --set optimiser.batch=1 it would fit" in only


def test_room_of_this_machine():
    assert 10**7 < room(torch.device("cpu")) < 10**14


@pytest.fixture
def no_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let this process be in no control group; return where to make some."""
    monkeypatch.setattr(machine, "CGROUPS", tmp_path)
    monkeypatch.setattr(machine, "OWN_CGROUPS", tmp_path / "own")
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    return tmp_path


def group(folder: Path, **facts: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in facts.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


def test_room_within_the_limit_of_a_container(no_limits):
    cpu = torch.device("cpu")
    free = room(cpu)
    stat = "anon 7\nactive_file 100\ninactive_file 20\nshmem 5"
    # The limit may be set on the job, above the step that this process is in; its own "max" is none.
    group(no_limits / "job" / "step", memory__max="max", memory__current=10)
    group(no_limits / "job", memory__max=5000, memory__current=3000, memory__stat=stat)
    group(no_limits, memory__current=10**6)
    (no_limits / "own").write_text("0::/job/step\n")
    assert room(cpu) == 2120
    # A container sees its own group as the root, and may be told the path outside of it.
    group(no_limits, memory__max=4000, memory__current=3500)
    (no_limits / "own").write_text("0::/../elsewhere/unseen\n")
    assert room(cpu) == 500
    group(no_limits, memory__max=4000, memory__current=4500)
    assert room(cpu) == 0
    group(no_limits, memory__max=10**18)
    assert room(cpu) == pytest.approx(free, rel=0.5)


def test_room_within_the_limit_of_the_older_control_groups(no_limits):
    stat = "inactive_file 1\ntotal_inactive_file 30\ntotal_active_file 400"
    folder = no_limits / "memory" / "docker" / "1"
    group(folder, memory__limit_in_bytes=9000, memory__usage_in_bytes=4000, memory__stat=stat)
    group(no_limits / "memory", memory__limit_in_bytes=2**63 - 4096, memory__usage_in_bytes=10**9)
    (no_limits / "own").write_text("9:name=systemd:/\n4:cpu,memory:/docker/1\n0::/\n")
    assert room(torch.device("cpu")) == 5430


def test_processes_share_the_room(no_limits, monkeypatch):
    group(no_limits, memory__max=4000, memory__current=1000)
    (no_limits / "own").write_text("0::/\n")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert room(torch.device("cpu")) == 750


REAL = r"""
import re, sys, torch
from pathlib import Path
from echolung.pretraining.cost import mask_lengths, step_bytes
from echolung.pretraining.jepa import Jepa
from echolung.pretraining.recipe import Recipe
from echolung.pretraining.start import start

def peak():
    # Not ru_maxrss: a process starts with that of the one that it was started by.
    return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])

torch.set_num_threads(1)
recipe, batch = Recipe().with_changes(sys.argv[2:]), int(sys.argv[1])
expected = step_bytes(recipe, batch)
before = peak()
begun = start(recipe)
jepa = Jepa(begun.encoder, begun.predictor, begun.target)
jepa.encoder.checkpointing = jepa.predictor.checkpointing = recipe.run.checkpointing
optimiser = torch.optim.AdamW(jepa.parameter_groups(0.04), fused=True)
frames = torch.randn(batch, 3, recipe.clips.frames, recipe.clips.size, recipe.clips.size)
lengths = max(mask_lengths(recipe, batch), key=lambda draw: sum(k for k, _ in draw))
for _ in range(2):
    contexts = [torch.arange(k).expand(batch, -1) for k, _ in lengths]
    targets = [torch.arange(m).expand(batch, -1) for _, m in lengths]
    jepa(frames, contexts, targets, torch.ones(batch) / batch).loss.backward()
    optimiser.step()
    optimiser.zero_grad()
    jepa.update_target(0.99)
print(expected, peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="counts as Linux does")
@pytest.mark.parametrize("checkpointing", ["false", "true"])
def test_a_real_step_takes_what_was_counted(checkpointing):
    changes = (*SMALL, "clips.size=112", "predictor.dim=96", "predictor.heads=3", f"run.checkpointing={checkpointing}")
    # glibc keeps small freed pieces; each tensor as a mapping of its own is given back at once.
    glibc = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_MMAP_MAX_": "1000000"}
    command = [sys.executable, "-c", REAL, "32", *changes]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=glibc)
    assert done.returncode == 0, done.stderr
    expected, real = map(int, done.stdout.split())
    assert expected / 1.5 < real < expected * 1.5
