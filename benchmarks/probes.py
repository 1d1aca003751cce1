"""The bank against textbook probes trained one after another: 5 folds × 9 settings on tokens of ViT-L size.

    uv run python benchmarks/probes.py [--device cuda] [--batches 16,2,96] [--precisions float32,bfloat16]

Both sides train the same probes: 45, of which each sees its fold's 96 of 120 clips. One step of the textbook probe is timed
and multiplied by steps and probes; the bank trains whole epochs, and one of them is timed after one to warm up. Rounds
alternate between the two sides, and medians are shown. No side is judged on held-out clips.
"""

import argparse
import statistics
import time

import numpy as np
import torch
from textbook import machine, step_seconds, synchronise

from echolung.probes import PROBES, Features, Job, Training
from echolung.probes.kinds import SEED_GRID

FOLDS, CLASSES = 5, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=120)
    parser.add_argument("--tokens", type=int, default=1568)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--batches", default="16,2,96")
    parser.add_argument("--precisions", default="float32,bfloat16")
    parser.add_argument("--memory", type=float, default=14e9, help="bytes that a bank may take")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2, help="textbook steps timed a round")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()

    random = np.random.default_rng(0)
    tokens = random.standard_normal((arguments.clips, arguments.tokens, arguments.dim), np.float32).astype(np.float16)
    features = Features(tuple(f"clip{i}" for i in range(arguments.clips)), tokens[:, None])
    targets = random.integers(CLASSES, size=arguments.clips)
    print(f"{arguments.clips} clips × {arguments.tokens} × {arguments.dim} float16, {machine(arguments.device)}\n")
    print(
        "| batch | precision | textbook, s an epoch | (fused AdamW) | bank, s an epoch | ratio | ratio of processor time |"
    )
    print("|---|---|---|---|---|---|---|")
    for precision in arguments.precisions.split(","):
        for batch in map(int, arguments.batches.split(",")):
            compare(features, tokens, targets, batch, precision, arguments)
    lite(features, targets, arguments)
    if arguments.device.startswith("cuda"):
        bound(features, arguments)


def compare(
    features: Features,
    tokens: np.ndarray,
    targets: np.ndarray,
    batch: int,
    precision: str,
    arguments: argparse.Namespace,
) -> None:
    """Print a row of the table."""
    own = round(len(tokens) * (1 - 1 / FOLDS))
    steps = -(-own // batch) * FOLDS * len(SEED_GRID)
    how = {"precision": precision, "device": arguments.device, "steps": arguments.steps}
    sides: dict[str, list[tuple[float, float]]] = {"plain": [], "fused": [], "bank": []}
    for _ in range(arguments.rounds):
        for name in ("plain", "fused"):
            sides[name].append(step_seconds(tokens, targets, min(batch, own), fused=name == "fused", **how))
        sides["bank"].append(bank_epoch("attentive", features, targets, batch, precision, arguments))
    middle = {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in sides.items()}
    plain, fused, bank = ([value * (steps if name != "bank" else 1) for value in middle[name]] for name in sides)
    print(
        f"| {batch} | {precision} | {plain[0]:.0f} | {fused[0]:.0f} | {bank[0]:.1f} | {plain[0] / bank[0]:.1f} "
        f"({fused[0] / bank[0]:.1f}) | {plain[1] / bank[1]:.1f} ({fused[1] / bank[1]:.1f}) |",
        flush=True,
    )


def bank_epoch(
    probe: str, features: Features, targets: np.ndarray, batch: int, precision: str, arguments: argparse.Namespace
) -> tuple[float, float]:
    """Return (wall, processor) seconds of an epoch of 5 folds × 9 settings, each fold's settings on batches of its clips."""
    fold = np.arange(len(features)) % FOLDS
    kind = PROBES[probe]
    training = Training(2, batch, device=arguments.device, memory=arguments.memory, precision=precision)
    ready, training = kind.prepare(features, SEED_GRID, training)
    nobody = np.zeros(len(features), bool)
    wall = processor = 0.0
    for test in range(FOLDS):
        marks: list[tuple[float, float]] = []

        def mark(epoch: int, jobs: object, outputs: object, marks: list[tuple[float, float]] = marks) -> None:
            synchronise(arguments.device)
            marks.append((time.perf_counter(), time.process_time()))

        jobs = [Job(setting, fold != test, watch=nobody, group=0) for setting in SEED_GRID]
        kind.fit(ready, targets, CLASSES, jobs, training, mark)
        if len(marks) != training.epochs:
            raise SystemExit("--memory holds no bank of nine probes: give more.")
        wall, processor = wall + marks[1][0] - marks[0][0], processor + marks[1][1] - marks[0][1]
    return wall, processor


def lite(features: Features, targets: np.ndarray, arguments: argparse.Namespace) -> None:
    """Print what the light attentive probe comes to."""
    seen = len(features) * (FOLDS - 1)
    for precision in arguments.precisions.split(","):
        rounds = [
            bank_epoch("attentive-lite", features, targets, 16, precision, arguments) for _ in range(arguments.rounds)
        ]
        wall = statistics.median(row[0] for row in rounds)
        print(
            f"\nattentive-lite, {precision}, batch 16, 9 probes at once: {seen / wall:.0f} clips/s, {wall:.2f} s an epoch"
        )


def bound(features: Features, arguments: argparse.Namespace) -> None:
    """Print how near the memory bandwidth of a GPU a bank of nine comes at batch 16.

    A step reads the tokens of a batch four times (scores and pooling, forward and backward), and passes over parameters,
    gradients and moments ten times: forward, backward, gradient, and AdamW's four reads and three writes.
    """
    block = torch.empty(2**30, dtype=torch.uint8, device=arguments.device)
    other = torch.empty_like(block)
    other.copy_(block)
    synchronise(arguments.device)
    began = time.perf_counter()
    for _ in range(20):
        other.copy_(block)
    synchronise(arguments.device)
    bandwidth = 20 * 2 * 2**30 / (time.perf_counter() - began)
    parameters = 9 * (12 * features.dim**2 - features.dim**2 + 13 * features.dim) * 4
    batch = 16 * features.n * features.dim * 2
    steps = -(-round(len(features) * (1 - 1 / FOLDS)) // 16) * FOLDS
    least = steps * (10 * parameters + 4 * batch) / bandwidth
    targets = np.arange(len(features)) % CLASSES
    wall = min(
        bank_epoch("attentive", features, targets, 16, "bfloat16", arguments)[0] for _ in range(arguments.rounds)
    )
    print(
        f"\nCopying moves {bandwidth / 1e12:.2f} TB/s; an epoch takes {wall:.2f} s, {least / wall:.0%} of that bound;",
        end=" ",
    )
    print(f"50 epochs take {50 * wall:.1f} s")


if __name__ == "__main__":
    main()
