"""Probes that learn by gradient descent: jobs are packed into banks that fit into memory."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from jaxtyping import Float32

from echolung.probes.bank import ProbeBank, Recipe
from echolung.probes.features import Features
from echolung.probes.heads import Head, attention_heads
from echolung.probes.jobs import Arrays, Job, OnEpoch, ProbeKind, Setting, Training

EPOCHS = 50


def banked(
    title: str, head: Head, settings: tuple[Setting, ...], seed_settings: tuple[Setting, ...], *, pooled: bool
) -> ProbeKind:
    """Return the kind of probe that trains `head` in banks."""
    return ProbeKind(
        title,
        pooled,
        settings,
        EPOCHS,
        partial(_fit, head),
        partial(_predict, head),
        partial(_estimate, head),
        seed_settings=seed_settings,
    )


def _fit(
    head: Head,
    features: Features,
    targets: np.ndarray,
    outputs: int,
    jobs: Sequence[Job],
    training: Training,
    on_epoch: OnEpoch,
) -> list[Arrays | None]:
    kept: list[Arrays | None] = [None] * len(jobs)
    videos = np.any([job.train for job in jobs], axis=0)  # the same batches, however many passes memory asks for
    for indices in _passes(head, features, outputs, jobs, training):
        chosen = [jobs[i] for i in indices]
        bank = _bank(head, features, targets, outputs, chosen, training)

        def after(epoch: int, values: Float32[np.ndarray, "p v c"], indices: list[int], bank: ProbeBank) -> None:
            for place, i in enumerate(indices):
                if jobs[i].keep == epoch:
                    kept[i] = bank.slice(place)
            on_epoch(epoch, indices, values)

        with _threads(features):
            bank.fit(
                features,
                epochs=_last(chosen, training),
                batch=training.batch,
                seed=training.seed,
                videos=videos,
                schedule_epochs=training.epochs,
                on_epoch=partial(after, indices=indices, bank=bank),
            )
    return kept


def _predict(head: Head, arrays: Arrays, features: Features) -> Float32[np.ndarray, "v c"]:
    parameters = {k: torch.from_numpy(v)[None] for k, v in arrays.items() if not k.startswith("target.")}
    parts = []
    for start in range(0, len(features), 16):
        tokens = features.batch(np.arange(start, min(start + 16, len(features))))
        parts.append(head.forward(parameters, head.normalise(tokens))[0])
    outputs = torch.cat(parts).numpy()
    return outputs * arrays["target.scale"] + arrays["target.shift"] if "target.scale" in arrays else outputs


def _estimate(
    head: Head, features: Features, targets: np.ndarray, outputs: int, jobs: Sequence[Job], training: Training
) -> float:
    """Return the seconds `_fit` will take: one step and one look at a bank of the same size, times their number."""
    seconds = 0.0
    rows = np.flatnonzero(np.any([job.train for job in jobs], axis=0))
    one = rows[: training.batch]
    for indices in _passes(head, features, outputs, jobs, training):
        chosen = [jobs[i] for i in indices]
        everyone = [Job(job.setting, np.ones(len(one), bool)) for job in chosen]
        trial, batch = _bank(head, features, targets[one], outputs, everyone, training), features.select(one)
        train = partial(trial.fit, batch, epochs=1, batch=training.batch, seed=0)
        with _threads(features):
            train()  # the first step also warms up
            step = _seconds(train)
            look = _seconds(partial(trial.predict, batch)) / len(one) * len(features)
        seconds += _last(chosen, training) * (step * math.ceil(len(rows) / training.batch) + look)
    return seconds


def _bank(
    head: Head, features: Features, targets: np.ndarray, outputs: int, jobs: Sequence[Job], training: Training
) -> ProbeBank:
    recipes = [Recipe(job.setting["lr"], job.setting["weight_decay"], training.seed) for job in jobs]
    members = np.stack([job.train for job in jobs])
    return ProbeBank(head, recipes, members, targets, dim=features.dim, outputs=outputs, device=training.device)


def _passes(
    head: Head, features: Features, outputs: int, jobs: Sequence[Job], training: Training
) -> Iterator[list[int]]:
    """Yield the indices of the jobs that fit into memory together: as few passes over the tokens as that allows."""
    one = head.init(features.dim, outputs, torch.Generator())
    state = sum(value.numel() for value in one.values()) * 4 * 4  # parameter, gradient, two moments; float32
    tokens = features.values.shape[2]
    attention = training.batch * tokens * attention_heads(features.dim) * 4 * 4 if tokens > 1 else 0
    room = max(1, int(training.memory // (state + attention)))
    # Equal passes: 130 jobs where 100 have room are two of 65.
    for part in np.array_split(np.arange(len(jobs)), math.ceil(len(jobs) / room)):
        yield part.tolist()


def _last(jobs: Sequence[Job], training: Training) -> int:
    return max(job.keep or training.epochs for job in jobs)


@contextmanager
def _threads(features: Features) -> Iterator[None]:
    """Keep small banks on one thread.

    A step on pooled tokens is microseconds of work a thread, and two threads that wait for each other beside a busy process
    were seen to take 40 times as long as one.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1 if features.values.shape[2] == 1 else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began
