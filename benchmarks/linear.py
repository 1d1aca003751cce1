"""A thousand linear probes (fold × setting) in one bank, and scikit-learn's LogisticRegression on the same folds.

uv run python benchmarks/linear.py [--clips 120] [--dim 1024] [--probes 1000]
"""

import argparse
import time

import numpy as np
from sklearn.linear_model import LogisticRegression
from textbook import machine

from echolung.probes import PROBES, Features, Job, Training

FOLDS, CLASSES, EPOCHS = 20, 3, 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=120)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--probes", type=int, default=1000)
    arguments = parser.parse_args()

    random = np.random.default_rng(0)
    means = random.standard_normal((arguments.clips, 1, 1, arguments.dim), np.float32)
    targets = random.integers(CLASSES, size=arguments.clips)
    features = Features(tuple(f"clip{i}" for i in range(arguments.clips)), means)
    fold = np.arange(arguments.clips) % FOLDS
    each = arguments.probes // FOLDS
    settings = [{"lr": lr, "weight_decay": 0.04} for lr in np.geomspace(1e-4, 1e-2, each)]
    jobs = [Job(s, fold != test, watch=fold == test) for test in range(FOLDS) for s in settings]

    began = time.perf_counter()
    PROBES["linear"].fit(features, targets, CLASSES, jobs, Training(EPOCHS), lambda *_: None)
    bank = time.perf_counter() - began

    sample = [(test, c) for test in range(FOLDS) for c in (1e-4, 1e-2, 1.0)]
    began = time.perf_counter()
    for test, c in sample:
        LogisticRegression(C=c, max_iter=2000).fit(means[fold != test, 0, 0], targets[fold != test])
    alone = (time.perf_counter() - began) / len(sample) * len(jobs)

    print(f"{arguments.clips} clips × {arguments.dim}, {machine('cpu')}\n")
    print(f"bank: {len(jobs)} probes, {EPOCHS} epochs, held-out predictions after each: {bank:.1f} s")
    print(f"scikit-learn: {len(jobs)} logistic regressions, from {len(sample)} of them: {alone:.1f} s")


if __name__ == "__main__":
    main()
