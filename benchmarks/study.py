"""A nested Optuna study of attentive probes in banks, against the same trials as textbook probes one after another.

    uv run python benchmarks/study.py [--clips 60] [--trials 100] [--epochs 50]

One round is run for real, `--ask` trials of each of the six studies, without pruning, on made-up tokens of ViT-L size: once
over one epoch and once over three. The difference, two epochs, is multiplied up to all trials and epochs. Likewise one textbook
step. What is not training is measured apart, by the same round of a probe whose training takes next to no time.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from streaming import write
from textbook import machine, step_seconds

from echolung.cache import TokenStore
from echolung.datasets import Manifest
from echolung.datasets.manifest import Task
from echolung.evaluation.studies import run_study

CLASSES, OUTER, INNER = 3, 5, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--tokens", type=int, default=1568)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--ask", type=int, default=10)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--memory", type=float, default=14e9)
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as temporary:
        arguments.folder = Path(temporary)
        write(arguments)
        store = TokenStore.open(next(arguments.folder.glob("*.zarr")))
        names = store.snapshot.videos["video_id"]
        label = [f"class{i % CLASSES}" for i in range(len(names))]
        videos = pd.DataFrame({"video_id": names, "path": "x.mp4", "patient": names, "source": "", "label": label})
        classes = tuple(f"class{c}" for c in range(CLASSES))
        manifest = Manifest("made-up", Path(), videos, {"label": Task("classification", "label", classes)})
        study_seconds(store, manifest, "knn", 1, arguments)  # imports what a first run imports
        bare = study_seconds(store, manifest, "knn", 1, arguments)
        short = study_seconds(store, manifest, "attentive", 1, arguments)
        bank = study_seconds(store, manifest, "attentive", 3, arguments) - short
        tokens = store.tokens(np.arange(min(len(names), 32)))

    # A probe of a trial learns from three in four of the clips of four in five, in batches of 16.
    steps = -(-round(arguments.clips * (1 - 1 / OUTER) * (1 - 1 / INNER)) // 16)
    targets = np.arange(len(tokens)) % CLASSES
    one, _ = step_seconds(tokens, targets, 16, precision=arguments.precision, device="cpu", fused=False, steps=3)
    each = arguments.ask * (OUTER + 1) * INNER * 2
    whole = arguments.trials * (OUTER + 1) * INNER * arguments.epochs
    print(f"{arguments.clips} clips × {arguments.tokens} × {arguments.dim}, {arguments.precision}, {machine('cpu')}\n")
    print(f"bank: {bank:.0f} s for {each} probe-epochs, {bank / each:.3f} s each; textbook: {one * steps:.3f} s each")
    print(f"{arguments.trials} trials × {arguments.epochs} epochs: {bank / each * whole / 3600:.1f} h against ", end="")
    print(f"{one * steps * whole / 3600:.1f} h, {one * steps / (bank / each):.1f} times as long")
    share = 1000 * bare / (arguments.ask * (OUTER + 1))
    print(
        f"All that is not training (Optuna, its journal, folds, kNN in the place of the probes): {share:.1f} ms a trial"
    )


def study_seconds(
    store: TokenStore, manifest: Manifest, probe: str, epochs: int, arguments: argparse.Namespace
) -> float:
    """Return the seconds of one round: asking, training, telling, and refitting what was chosen."""
    journal = arguments.folder / f"{probe}-{time.time_ns()}.log"
    began = time.perf_counter()
    run_study(
        store, "label", manifest, probe=probe, trials=arguments.ask, ask=arguments.ask, cv=OUTER, pruner="none",
        epochs=epochs, memory=arguments.memory, precision=arguments.precision, storage=str(journal),
    )  # fmt: skip
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
