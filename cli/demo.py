"""`echolung demo`: everything on phantoms: pretrain, extract, probe, and say what was gained."""

import json
import shutil
import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echolung.cli import options
from echolung.cli.terminal.console import out, print_json, say, steps
from echolung.errors import InputError

if TYPE_CHECKING:
    from echolung.datasets import Manifest
    from echolung.pretraining.recipe import Recipe

POOL, LABELLED, LUNGS = 96, 80, 72
"""Videos to learn from, and of others to ask: hearts, lungs."""

FRAMES, SIZE, FPS = 32, 96, 20.0
"""Of a phantom video."""

QUESTIONS = {
    "hearts": ("ejection fraction of other hearts", "ef", "r2", "R²"),
    "lungs": ("pattern of lungs, never seen in training", "pattern", "balanced_accuracy", "balanced accuracy"),
}
"""Folder of phantoms -> what is asked of them, its task, the metric, and what that is called."""


def demo(
    folder: Annotated[Path | None, typer.Option("--out", help="Where to; default ECHOLUNG_HOME/demo.")] = None,
    seed: Annotated[int, typer.Option(help="Of phantoms, training and the untrained twin.", min=0)] = 0,
    as_json: options.Json = False,
) -> None:
    """Pretrain a tiny encoder on phantom hearts, and probe it beside its untrained twin: minutes on a CPU, no network."""
    from echolung.clips.plan import ClipPlan
    from echolung.pretraining.recipe import Recipe, read_recipe
    from echolung.settings import home, make_folder

    folder = make_folder(folder or home() / "demo" / f"seed-{seed}")
    recipe = read_recipe("tiny-cpu").with_changes([f"run.seed={seed}"])
    assert isinstance(recipe, Recipe)
    clips = ClipPlan(frames=recipe.clips.frames, fps=recipe.clips.fps, size=recipe.clips.size)
    say(
        f"1. Phantoms, in {folder}: {POOL} heart videos to learn from; {LABELLED} of other hearts and {LUNGS} of lungs to ask"
    )
    pool, *asked = (
        _phantoms(folder / name, layout, videos, seed + offset)
        for name, layout, videos, offset in (
            ("pool", "phantom-heart", POOL, 0),
            ("hearts", "phantom-heart", LABELLED, 1000),
            ("lungs", "phantom-lung", LUNGS, 0),
        )
    )
    say("2. Pretraining: an encoder sees a part of each video and predicts the rest, without any label")
    checkpoint = _pretrain(recipe, pool, folder)
    rows = []
    for number, (manifest, (name, question)) in enumerate(zip(asked, QUESTIONS.items(), strict=True), 3):
        say(f"{number}. The {question[0]}: a linear probe on frozen tokens, nested, by patient; the twin is untrained")
        for encoder in (f"random:{recipe.encoder.architecture}@{seed}", str(checkpoint)):
            store = _extract(manifest, encoder, clips, folder / f"{name}-{Path(encoder).stem.partition(':')[0]}.zarr")
        with redirect_stdout(sys.stderr) if as_json else nullcontext():
            rows.append((question, _probe(store, question[1], folder / f"run-{name}")))
    if as_json:
        print_json({"folder": str(folder), "checkpoint": str(checkpoint), "runs": [record for _, record in rows]})
    else:
        _conclude(rows)


def _phantoms(root: Path, layout: str, videos: int, seed: int) -> "Manifest":
    from echolung.datasets import load_manifest, phantom_heart, phantom_lung

    write = {"phantom-heart": phantom_heart.write, "phantom-lung": phantom_lung.write}[layout]
    if not (root / "phantoms.csv").exists():
        with steps(f"phantoms: {root.name}", "videos", videos) as bar:
            # A patient each: what is asked of hearts belongs to the patient.
            write(
                root, videos=videos, patients=videos, frames=FRAMES, size=SIZE, fps=FPS, seed=seed, progress=bar.advance
            )
    return load_manifest(layout, root)


def _pretrain(recipe: "Recipe", manifest: "Manifest", folder: Path) -> Path:
    """Pretrain, or go on with what an earlier demo began; return the checkpoint."""
    from echolung.cli.terminal.live import Live
    from echolung.encoders.checkpoints import load_vit, save_encoder
    from echolung.pretraining.loop import pretrain
    from echolung.pretraining.pool import Pool
    from echolung.pretraining.recipe import differences, read_recipe
    from echolung.report.pretraining import draw_log, read_log

    run, checkpoint = folder / "pretraining", folder / "tiny-cpu.safetensors"
    begun = (run / "recipe.toml").exists()
    if begun and (differ := differences(recipe, read_recipe(run / "recipe.toml"))):
        raise InputError(f"{folder} holds another demo ({'; '.join(differ)}). Name a new folder with --out.")
    if begun and checkpoint.exists():
        say(f"   done before: {checkpoint}")
        return checkpoint
    # Of these hearts none is asked about later, so that none need be kept for a test.
    pool = Pool.of([manifest], all_splits=True)
    with Live("tiny-cpu on phantom hearts", lambda: 0) as live:
        outcome = pretrain(recipe, pool, run, resume=begun, on_step=live.on_step, tell=live.tell)
    if not outcome.finished:
        raise KeyboardInterrupt  # saved, on the wish that the loop took note of
    draw_log(read_log(run / "log.jsonl"), "tiny-cpu on phantom hearts", run / "loss.png")
    save_encoder(checkpoint, load_vit(outcome.checkpoint)[0])
    say(f"   curves: {run / 'loss.png'}")
    return checkpoint


def _extract(manifest: "Manifest", encoder: str, clips: Any, path: Path) -> Any:
    from echolung.cli.extract import run_extraction
    from echolung.encoders.identity import identify
    from echolung.extraction import make_plan
    from echolung.extraction.sources import finished_store

    plan = make_plan(manifest, identify(encoder), clips, precision="float32", path=path)
    return finished_store(plan) or run_extraction(plan, device="cpu")


def _probe(store: Any, task: str, to: Path) -> dict[str, Any]:
    """Probe a store and the twin beside it; return the record of the run."""
    from echolung.cli.probing.runs import run_probe

    shutil.rmtree(to, ignore_errors=True)  # of an earlier demo
    run = run_probe(store, task=task, probe="linear", device="cpu", to=to)
    record: dict[str, Any] = json.loads((run / "record.json").read_text("utf-8"))
    return record


def _conclude(rows: list[tuple[tuple[str, str, str, str], dict[str, Any]]]) -> None:
    """Print what pretraining was worth, whatever came out."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table("question", "metric", box=SIMPLE_HEAD, pad_edge=False)
    for column in ("guessing", "untrained", "pretrained"):
        table.add_column(column, justify="right", no_wrap=True)
    told = []
    for (question, _, metric, called), record in rows:
        after, before = record["metrics"], record["twins"][0]["metrics"]
        table.add_row(
            question, called, f"{after['guess'][metric]:.2f}",
            *(f"{found['mean'][metric]:.2f} ± {found['sd'][metric]:.2f}" for found in (before, after)),
        )  # fmt: skip
        gain = after["mean"][metric] - before["mean"][metric]
        spread = max(after["sd"][metric], before["sd"][metric])
        told.append(
            f"{called} {gain:+.2f}{', less than the folds differ among themselves' if abs(gain) < spread else ''}"
        )
    out().print(table)
    out().print(
        f"What pretraining on {POOL} unlabelled phantom hearts changed: of other hearts {told[0]}; of lungs {told[1]}.",
        soft_wrap=True, highlight=False,
    )  # fmt: skip
    say(
        "Mean ± standard deviation over folds; one seed. Phantoms show that the pipeline works, nothing about patients."
    )
