"""One epoch of a bank of attentive probes: tokens streamed from disk under a memory bound, against all of them in memory.

    uv run python benchmarks/streaming.py [--clips 1200] [--memory 1.0] [--probe attentive] [--probes 1] [--rounds 3]

Each round runs both sides, each in a process of its own; before a streamed epoch the page cache is dropped for the store.
An epoch is `fit` with `epochs=1`, drawing the initial parameters included (the same on both sides); nothing is predicted.
`--memory` is divided as the protocols do: half for tokens, half for probes, optimiser and activations. Tokens in memory are
normalised batch by batch, as streamed ones are, or once beforehand, as they are for a run of many epochs. The store has one
clip a video, made up once and kept in --folder (default: a temporary one), 3.2 MB a clip.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from echolung.cache import Snapshot, TokenStore
from echolung.cache.layout import Block
from echolung.probes import PROBES, Features, Job, Training, load_features

BLOCK = 8

SIDES = ("memory", "normalised once", "streamed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=1200)
    parser.add_argument("--tokens", type=int, default=1568)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--memory", type=float, default=1.0, help="GB that the streamed side may take")
    parser.add_argument("--probe", default="attentive")
    parser.add_argument("--probes", type=int, default=1)
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(measure(arguments)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        arguments.folder = arguments.folder or Path(temporary)
        write(arguments)
        sides: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
        for _ in range(arguments.rounds):
            for side, runs in sides.items():
                runs.append(apart(side, arguments.folder))
    show(sides, arguments)


def place(arguments: argparse.Namespace) -> Path:
    return arguments.folder / f"{arguments.clips}x{arguments.tokens}x{arguments.dim}.zarr"


def write(arguments: argparse.Namespace) -> None:
    """Make up a store, unless the folder has it."""
    path, count = place(arguments), arguments.clips
    if path.exists() and TokenStore.open(path).clips == count:
        return
    names = [f"v{i:05d}" for i in range(count)]
    videos = pd.DataFrame({"video_id": names, "path": "x.mp4", "patient": names, "source": ""})
    rows = pd.DataFrame({"video_id": names, "patient": names, "source": "", "segment": 0, "view": 0})
    shape: dict[str, Any] = {"tokens": arguments.tokens, "dim": arguments.dim, "grid": (1, 1, arguments.tokens)}
    store = TokenStore.create(
        path, {"made": "up"}, rows, Snapshot("made-up", videos, {}), **shape, frames=1, block=BLOCK, preview=False
    )
    random = np.random.default_rng(0)
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        store.write(
            Block(
                start=start,
                tokens=random.standard_normal((size, arguments.tokens, arguments.dim), np.float32),
                frames=np.zeros((size, 1), np.int32),
                previews=np.zeros((size, 8, 112, 112), np.uint8),
                digests=[""] * size,
                sizes=[0] * size,
                mtimes=[0] * size,
                errors=[""] * size,
            )
        )
    store.finish()
    os.sync()  # what is not on disk yet cannot be dropped


def apart(side: str, folder: Path) -> dict[str, Any]:
    """Measure one side in a process of its own, so that its peak memory is its own."""
    command = [sys.executable, __file__, *sys.argv[1:], "--side", side, "--folder", str(folder)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return seconds of an epoch, bytes of tokens held, and resident memory before any token and at its peak."""
    path, streamed = place(arguments), arguments.side == "streamed"
    before = resident("VmRSS")
    bound = arguments.memory * 1e9 / 2 if streamed else None
    features = load_features(TokenStore.open(path), pooled=False, memory=bound, batch=arguments.batch)
    if arguments.side == "normalised once":
        training = Training(epochs=1, batch=arguments.batch, memory=1e12, precision=arguments.precision)
        features, _ = PROBES[arguments.probe].prepare(features, PROBES[arguments.probe].settings, training)
    epoch(features.select(np.arange(min(arguments.batch, len(features)))), arguments)  # warms up
    if streamed:
        drop(path)
    began = time.perf_counter()
    epoch(features, arguments)
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "held": features.held.nbytes, "before": before, "peak": resident("VmHWM")}


def epoch(features: Features, arguments: argparse.Namespace) -> None:
    everyone, nobody = np.ones(len(features), bool), np.zeros(len(features), bool)
    kind = PROBES[arguments.probe]
    settings = kind.settings
    jobs = [Job(settings[i % len(settings)], everyone, watch=nobody) for i in range(arguments.probes)]
    memory = arguments.memory * 1e9 / 2 if arguments.side == "streamed" else 1e12
    training = Training(epochs=1, batch=arguments.batch, memory=memory, precision=arguments.precision)
    kind.fit(features, np.arange(len(features)) % 2, 2, jobs, training, lambda *_: None)


def drop(path: Path) -> None:
    """Have the page cache forget the store."""
    for file in path.glob("tokens/c/**/*"):
        if file.is_file():
            handle = os.open(file, os.O_RDONLY)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def resident(name: str) -> int:
    """Return bytes of this process in memory: VmRSS now, VmHWM at its peak (Linux)."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[name].split()[0]) * 1024


def show(sides: dict[str, list[dict[str, Any]]], arguments: argparse.Namespace) -> None:
    size = arguments.clips * arguments.tokens * arguments.dim * 2 / 1e9
    print(f"{arguments.clips} clips of {arguments.tokens:,} × {arguments.dim:,} float16 ({size:.2f} GB),", end=" ")
    print(
        f"{arguments.probes} {arguments.probe} probes in {arguments.precision}, "
        f"batch {arguments.batch}, --memory {arguments.memory:g}GB, {arguments.rounds} rounds."
    )
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}\n")
    print("| tokens | seconds an epoch | held, GB | resident before, GB | at its peak, GB |\n|---|---|---|---|---|")
    for side, runs in sides.items():
        middle = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
        sizes = " | ".join(f"{middle[name] / 1e9:.2f}" for name in ("held", "before", "peak"))
        print(f"| {side} | {middle['seconds']:.1f} | {sizes} |")
    for other in SIDES[:2]:
        ratios = [a["seconds"] / b["seconds"] for a, b in zip(sides["streamed"], sides[other], strict=True)]
        print(f"\nstreamed / {other}: {statistics.median(ratios):.2f} ({', '.join(f'{r:.2f}' for r in ratios)})")


if __name__ == "__main__":
    main()
