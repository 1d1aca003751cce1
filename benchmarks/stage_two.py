"""The second stage of CoReEcho: a head trained from the store, against the same head trained with the encoder in the loop.

    uv run python benchmarks/stage_two.py [--videos 60] [--epochs 5] [--encoder random:uniformer_tiny] [--size 56]

Both see one random view of every video in each epoch and learn by L1 and AdamW. In the loop every view is decoded and encoded
anew, as the published second stage does; from the store the encoder has run once, which is timed apart. Heart phantoms.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does: decoding goes on beside

import torch

from echolung.clips.plan import ClipPlan
from echolung.datasets import load_manifest, phantom_heart
from echolung.device import pick_device
from echolung.encoders.encoder import load_model
from echolung.encoders.identity import identify
from echolung.evaluation import cross_validate
from echolung.extraction import make_plan
from echolung.extraction.run import extract
from echolung.pretraining.labelled.augment import augment
from echolung.pretraining.labelled.plans import ClipsPlan
from echolung.pretraining.labelled.regressor import Regressor
from echolung.pretraining.loader import Loader
from echolung.pretraining.pool import Pool

BATCH = 16

HEAD = {"hidden": "128", "norm": "batch"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--encoder", default="random:uniformer_tiny")
    parser.add_argument("--size", type=int, default=56)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        phantom_heart.write(folder / "hearts", videos=args.videos, patients=args.videos)
        manifest = load_manifest("phantom-heart", folder / "hearts")
        looped = in_the_loop(args, manifest)
        clips = ClipPlan(1, 16, 4, None, args.size, args.views, crop="whole", pad="black")
        plan = make_plan(
            manifest, identify(args.encoder), clips, precision="float32", path=folder / "store.zarr", tokens="none"
        )
        began = time.perf_counter()
        store = extract(plan, device=args.device)
        once = time.perf_counter() - began
        hyper = {**HEAD, "lr": 1e-4, "loss": "l1", "schedule": "constant", "epochs": args.epochs}
        began = time.perf_counter()
        cross_validate(store, "ef", probe="mlp", split="official", hyper=hyper, batch=BATCH, device=args.device)
        stored = time.perf_counter() - began
    print(f"{args.videos} videos, {args.epochs} epochs, {args.encoder} at {args.size} px, {args.device}\n")
    print(f"with the encoder in the loop: {looped:.1f} s (the training part alone)")
    print(f"from the store:               {stored:.2f} s (chosen on validation, test scored)   {looped / stored:.0f} x")
    print(f"encoding once, {1 + args.views} views of all:  {once:.1f} s")


def in_the_loop(args: argparse.Namespace, manifest: object) -> float:
    """Return the seconds of training a head with the frozen encoder in the loop."""
    device = pick_device(args.device)
    pool, windows = Pool.of([manifest]), ClipsPlan(16, 4, 0.0, args.size, 3 * args.size // 56)
    truth = dict(zip(pool.names, manifest.videos.set_index("video_id")["ef"][pool.videos["video_id"]], strict=True))
    encoder, _ = load_model(args.encoder)
    encoder = encoder.to(device).eval().requires_grad_(False)
    head = Regressor(encoder.dim, 1, **HEAD).to(device).train()
    optimiser = torch.optim.AdamW(head.parameters(), lr=1e-4, weight_decay=1e-4)
    steps = args.epochs * max(1, len(pool.videos) // BATCH)
    loader = Loader(pool, windows, 0, BATCH)
    began = time.perf_counter()
    for batch in loader.iterate(0, steps):
        clips = augment(batch.frames.to(device), batch.sides, batch.samples, windows, 0)
        targets = torch.tensor([truth[name] for name in batch.videos], device=device, dtype=torch.float32)
        with torch.no_grad():
            embeddings = encoder(clips).mean(1)
        (head(embeddings)[:, 0] - targets).abs().mean().backward()
        optimiser.step()
        optimiser.zero_grad()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
