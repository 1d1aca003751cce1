"""Probes that learn by gradient descent: jobs are packed into banks that fit into memory."""

import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float32

from echolung.errors import InputError
from echolung.probes.bank import PREDICT_BATCH_POOLED, ProbeBank, looks, raw_outputs
from echolung.probes.features import Features
from echolung.probes.heads import Head
from echolung.probes.hyper import Hyper
from echolung.probes.jobs import Arrays, Job, OnEpoch, ProbeKind, Setting, Training, targets_of
from echolung.probes.objectives import outputs_of
from echolung.probes.recipe import Recipe
from echolung.text import in_bytes

EPOCHS = 50

SMALL = 2_000_000
"""Numbers of a bank on mean tokens up to which one thread is enough."""

MakeHead = Callable[[Setting], Head]
"""Setting, with all hyper-parameters, -> the head it describes."""

STRUCTURE = ("depth", "queries", "hidden", "batch_norm", "norm", "input_dropout", "loss")
"""Hyper-parameters that make another head: probes that differ in one are not stacked."""


def banked(
    title: str,
    make_head: MakeHead,
    settings: tuple[Setting, ...],
    seed_settings: tuple[Setting, ...],
    hyper: Hyper,
    *,
    pooled: bool,
) -> ProbeKind:
    """Return the kind of probe that trains heads in banks."""
    defaults = {name: value.default for name, value in hyper.items() if name != "epochs"}

    def whole(setting: Setting) -> Setting:
        return {**defaults, **setting}

    return ProbeKind(
        title,
        pooled,
        settings,
        EPOCHS,
        partial(_fit, make_head, whole),
        partial(_predict, make_head, whole),
        partial(_estimate, make_head, whole),
        seed_settings=seed_settings,
        hyper=hyper,
        prepare=partial(_prepare, make_head, whole),
        shapes=partial(_shapes, make_head, whole),
    )


def _prepare(
    make_head: MakeHead,
    whole: Callable[[Setting], Setting],
    features: Features,
    settings: Sequence[Setting],
    training: Training,
) -> tuple[Features, Training]:
    """Return the features normalised once for all epochs, where every setting's head allows it and memory has room."""
    heads = [make_head(whole(setting)) for setting in settings]
    dtype = torch.bfloat16 if training.precision == "bfloat16" else torch.float32
    more = features.held.size * torch.empty(0, dtype=dtype).itemsize  # the float16 tokens stay with whoever loaded them
    on_host = torch.device(training.device).type == "cpu"
    if not features.in_memory or more > training.memory / 2:
        return features, training
    if not all(head.per_token for head in heads):
        return features if on_host else features.to(training.device), training
    prepared = features.standardise(heads[0].normalise, dtype, training.device)
    return prepared, replace(training, memory=training.memory - more) if on_host else training


def _shapes(
    make_head: MakeHead, whole: Callable[[Setting], Setting], setting: Setting, dim: int, outputs: int
) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter that one probe has."""
    ordered = whole(setting)["loss"] == "coral"
    drawn = make_head(whole(setting)).init(dim, 1 if ordered else outputs, torch.Generator())
    extra = {"coral.bias": (outputs - 1,)} if ordered else {}
    return {name: tuple(value.shape) for name, value in drawn.items()} | extra


def _fit(
    make_head: MakeHead,
    whole: Callable[[Setting], Setting],
    features: Features,
    targets: np.ndarray,
    outputs: int,
    jobs: Sequence[Job],
    training: Training,
    on_epoch: OnEpoch,
) -> list[Arrays | None]:
    jobs = [replace(job, setting=whole(job.setting)) for job in jobs]
    kept: list[Arrays | None] = [None] * len(jobs)
    # The same batches, however many passes memory asks for.
    videos = np.any([job.train for job in jobs], axis=0) if training.videos is None else training.videos
    for indices in _passes(make_head, features, outputs, jobs, training):
        chosen = [jobs[i] for i in indices]
        bank = _bank(make_head, features, targets, outputs, chosen, training)

        def after(
            epoch: int,
            places: Sequence[int],
            values: Float32[np.ndarray, "p v c"],
            indices: Sequence[int] = indices,
            bank: ProbeBank = bank,
        ) -> Collection[int]:
            for place in places:
                if jobs[indices[place]].keep == epoch:
                    kept[indices[place]] = bank.slice(place)
            stopped = set(on_epoch(epoch, [indices[place] for place in places], values) or ())
            return [place for place in places if indices[place] in stopped]

        with _threads(features, bank):
            bank.fit(
                features,
                batch=training.batch,
                seed=training.seed,
                videos=videos,
                watch=_watched(chosen),
                on_epoch=after,
            )
    return kept


def _predict(
    make_head: MakeHead, whole: Callable[[Setting], Setting], arrays: Arrays, features: Features, setting: Setting
) -> Float32[np.ndarray, "v c"]:
    head = make_head(whole(setting))
    parameters = {k: torch.from_numpy(v)[None] for k, v in arrays.items() if not k.startswith("target.")}
    draws = looks(np.arange(len(features)), features.pooled)
    with torch.no_grad():
        parts = [raw_outputs(head, parameters, t, features) for t in features.batches(draws)]
    return outputs_of(arrays, torch.cat(parts, 1))


def _estimate(
    make_head: MakeHead,
    whole: Callable[[Setting], Setting],
    features: Features,
    targets: np.ndarray,
    outputs: int,
    jobs: Sequence[Job],
    training: Training,
) -> float:
    """Return the seconds `_fit` will take: one step and one look at a bank of the same size, times their number."""
    jobs = [replace(job, setting=whole(job.setting)) for job in jobs]
    seconds = 0.0
    rows = np.flatnonzero(np.any([job.train for job in jobs], axis=0) if training.videos is None else training.videos)
    one = rows[: training.batch]
    passes = list(_passes(make_head, features, outputs, jobs, training))
    measured: dict[tuple[object, ...], tuple[float, float]] = {}  # equal passes take equally long
    for indices in passes:
        chosen = [jobs[i] for i in indices]
        alike = (len(indices), *_structure(chosen[0]))
        if alike not in measured:
            measured[alike] = _one_step(make_head, features, targets, outputs, chosen, training, one)
        step, look = measured[alike]
        looks = _watched(chosen).mean(0).sum()
        longest = max(_recipe(job, training).last for job in chosen)
        seconds += longest * (step * math.ceil(len(rows) / training.batch) + look * looks / len(one))
    return seconds


def _one_step(
    make_head: MakeHead,
    features: Features,
    targets: np.ndarray,
    outputs: int,
    jobs: Sequence[Job],
    training: Training,
    videos: np.ndarray,
) -> tuple[float, float]:
    """Return the seconds of one step of a bank on some videos, and of one look at them."""
    features, targets = features.select(videos), targets[videos]
    # A probe with none of these videos takes all, so that there is something to standardise numbers by.
    own = [job.train[videos] if job.train[videos].any() else np.ones(len(videos), bool) for job in jobs]
    thrice = [Job({**job.setting, "epochs": 3}, train) for job, train in zip(jobs, own, strict=True)]
    trial = _bank(make_head, features, targets, outputs, thrice, training)
    ends: list[float] = []
    looks: list[float] = []

    def after(epoch: int, places: Sequence[int], values: np.ndarray) -> None:
        if trial.device.type == "cuda":
            torch.cuda.synchronize()  # nothing was looked at, so nothing has waited for the GPU
        ends.append(time.perf_counter())
        if epoch == 3:
            looks.append(_seconds(lambda: trial.predict(features, batch=training.batch)))

    with _threads(features, trial):  # the first step warms up, the last one ends before the probes leave
        trial.fit(
            features, batch=training.batch, seed=0, watch=np.zeros((len(jobs), len(targets)), bool), on_epoch=after
        )
    return ends[2] - ends[1], looks[0]


def _recipe(job: Job, training: Training) -> Recipe:
    return Recipe.of(job.setting, training.epochs, training.seed, job.keep)


def _bank(
    make_head: MakeHead, features: Features, targets: np.ndarray, outputs: int, jobs: Sequence[Job], training: Training
) -> ProbeBank:
    return ProbeBank(
        make_head(jobs[0].setting),
        [_recipe(job, training) for job in jobs],
        np.stack([job.train for job in jobs]),
        targets_of(jobs, targets),
        dim=features.dim,
        outputs=outputs,
        device=training.device,
        precision=training.precision,
        start=training.start,
    )


def _watched(jobs: Sequence[Job]) -> np.ndarray:
    """Return which videos' outputs each job wants."""
    return np.stack([np.ones_like(job.train) if job.watch is None else job.watch for job in jobs])


def _passes(
    make_head: MakeHead, features: Features, outputs: int, jobs: Sequence[Job], training: Training
) -> Iterator[list[int]]:
    """Yield the indices of jobs that fit into memory together: as few passes over the tokens as structure and groups allow."""
    alike: dict[tuple[object, ...], list[int]] = {}
    for i, job in enumerate(jobs):
        alike.setdefault(_structure(job), []).append(i)
    for members in alike.values():
        room = _room(make_head(jobs[members[0]].setting), features, outputs, training)
        for part in _packed(members, [jobs[i].group for i in members], room):
            # Those that learn alike side by side: the optimiser steps them as one.
            yield sorted(part, key=lambda i: _pace(jobs[i].setting))


def _pace(setting: Setting) -> tuple[float, ...]:
    return tuple(float(setting.get(name, 0.0)) for name in ("lr", "weight_decay", "epochs", "warmup"))


def _structure(job: Job) -> tuple[object, ...]:
    """Return what shapes a job's parameters: of losses only CORAL does."""
    shaping = [name for name in STRUCTURE if name != "loss" or job.setting.get("loss") == "coral"]
    return tuple(job.setting.get(name) for name in shaping)


def _room(head: Head, features: Features, outputs: int, training: Training) -> int:
    """Return how many probes have room in `training.memory`; InputError where not one has."""
    one = head.init(features.dim, outputs, torch.Generator())
    state = sum(value.numel() for value in one.values()) * 4 * 4  # parameter, gradient, two moments; float32
    rows = max(training.batch, PREDICT_BATCH_POOLED if features.pooled else 1) * features.segments
    activations = rows * head.activations(features.n // features.segments, features.dim) * 4
    size = features.n // features.segments * features.dim
    shared = rows * size * 6  # tokens as stored, and standardised
    room = int((training.memory - shared) // (state + activations))
    if room < 1:
        needed = in_bytes(shared + state + activations)
        raise InputError(
            f"--memory leaves {in_bytes(max(0.0, training.memory))} for probes, and one of this kind with a batch of "
            f"{training.batch} takes {needed}. Allow more, or take a smaller --batch or a lighter probe."
        )
    return room


def _packed(members: list[int], groups: Sequence[int | None], room: int) -> Iterator[list[int]]:
    """Yield passes of at most `room` jobs, of about equal size: 130 jobs where 100 have room are two of 65.

    Jobs of one group stay together, unless the group alone is larger than that.
    """
    units: dict[object, list[int]] = {}
    for i, group in zip(members, groups, strict=True):
        units.setdefault(("alone", i) if group is None else group, []).append(i)
    parts = [unit[k : k + room] for unit in units.values() for k in range(0, len(unit), room)]
    aim = math.ceil(len(members) / math.ceil(len(members) / room))
    passed: list[int] = []
    for part in parts:
        if passed and (len(passed) + len(part) > room or len(passed) >= aim):
            yield passed
            passed = []
        passed = passed + part
    yield passed


@contextmanager
def _threads(features: Features, bank: ProbeBank) -> Iterator[None]:
    """Keep small banks on one thread.

    A step of some hundred linear probes is microseconds of work a thread, and two threads that wait for each other beside a
    busy process were seen to take 40 times as long as one.
    """
    small = features.pooled and sum(value.numel() for value in bank.parameters.values()) < SMALL
    before = torch.get_num_threads()
    torch.set_num_threads(1 if small else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began
