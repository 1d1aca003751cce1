"""`echolung demo`: the whole pipeline on phantoms."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from echolung.cli.console import say, steps

VIDEOS, FRAMES, SIZE = 96, 8, 64


def demo(
    folder: Annotated[Path | None, typer.Option("--out", help="Where to; default ECHOLUNG_HOME/demo.")] = None,
    seed: Annotated[int, typer.Option(help="Of the phantoms and the untrained encoder.", min=0)] = 0,
) -> None:
    """Make lung phantoms, encode them with an untrained tiny ViT, probe the tokens: minutes on a CPU, no network."""
    from echolung.cli.extract import run_extraction, show_store
    from echolung.cli.probe import run_probe
    from echolung.clips.plan import ClipPlan
    from echolung.datasets import load_manifest, phantom_lung
    from echolung.encoders.identity import identify
    from echolung.extraction import make_plan
    from echolung.extraction.sources import finished_store
    from echolung.settings import home, make_folder

    folder = make_folder(folder or home() / "demo")
    say(f"1. Phantoms: {VIDEOS} synthetic lung videos in {folder / 'phantom-lung'}")
    if not (folder / "phantom-lung" / "phantoms.csv").exists():
        with steps("phantoms", "videos", VIDEOS) as bar:
            phantom_lung.write(
                folder / "phantom-lung", videos=VIDEOS, frames=2 * FRAMES, seed=seed, progress=bar.advance
            )
    manifest = load_manifest("phantom-lung", folder / "phantom-lung")

    say(f"2. Tokens: each clip through an untrained ViT, once ({FRAMES} frames of {SIZE} px)")
    clips = ClipPlan(frames=FRAMES, size=SIZE)
    encoder = identify(f"random:vit_tiny@{seed}")
    plan = make_plan(manifest, encoder, clips, precision="float32", path=folder / "phantom-lung.zarr")
    store = finished_store(plan) or run_extraction(plan, device="cpu")
    show_store(store, as_json=False)

    # The attentive probe reads every token in every epoch: fewer epochs keep the demo within two minutes on two cores.
    for number, (probe, epochs) in enumerate((("linear", 50), ("attentive", 15)), 3):
        say(f"{number}. The {probe} probe, nested cross-validation by patient")
        shutil.rmtree(folder / f"run-{probe}", ignore_errors=True)  # of an earlier demo
        run = run_probe(store, probe=probe, cv=3, epochs=epochs, device="cpu", to=folder / f"run-{probe}")
        say(f"   picture: {run / 'confusion.png'}")
    say("These are phantoms and an untrained encoder: the numbers show that the pipeline works, nothing about lungs.")
