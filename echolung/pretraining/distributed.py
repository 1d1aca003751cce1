"""The processes of one run, as torchrun starts them: sums over all, and none left waiting for one that died.

A process that fails leaves its error at the meeting point (a TCP store). A thread in each of the others looks there every
two seconds, and whether all still give a sign of life: a collective operation of a GPU would wait for the dead for hours.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from echolung.errors import EcholungError, InputError, RunError

LOOK = 2.0
"""Seconds between signs of life."""

SILENCE = 40.0
"""Seconds without one after which a process counts as dead."""

START = 300.0
"""Seconds that a process may take to its first sign of life, and the others to find the meeting point."""

PATIENCE = timedelta(hours=2)
"""How long a process waits for the others, one of which may be probing labelled videos meanwhile."""


@dataclass(frozen=True)
class Group:
    """One process among those of a run: this one.

    Attributes:
        rank: its number, from 0.
        ranks: how many there are.
        device: where it computes.
    """

    rank: int
    ranks: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether it is the one that writes and speaks."""
        return self.rank == 0

    def total(self, values: Tensor) -> Tensor:
        """Return the sum over all processes, in place."""
        if self.ranks > 1:
            dist.all_reduce(values)
        return values

    def wait(self) -> None:
        """Wait until all have come here."""
        if self.ranks > 1:
            dist.barrier()


@contextmanager
def join(device: torch.device, environment: Mapping[str, str] = os.environ) -> Iterator[Group]:
    """Take part in the run that torchrun's RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT describe; without them run alone.

    Raises:
        InputError: the environment is incomplete.
        RunError: another process failed, and with its words.
    """
    ranks = int(environment.get("WORLD_SIZE", 1))
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # also what is asked about memory and random state
    if ranks == 1:
        yield Group(0, 1, device)
        return
    if lacking := [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in environment]:
        raise InputError(
            f"WORLD_SIZE is {ranks}, but {', '.join(lacking)} is not set. Start with torchrun, which sets all."
        )
    rank = int(environment["RANK"])
    try:
        store = _store(rank, ranks, environment)
    except RuntimeError as error:
        where = f"{environment['MASTER_ADDR']}:{environment['MASTER_PORT']}"
        raise RunError(
            f"Process {rank} of {ranks} found nobody at {where} in {START:.0f} s. The first process, which keeps the meeting "
            "point, has probably failed; its own output says why."
        ) from error
    # Before anybody waits for this process: killed a moment after they have met, it is missed as one that was there.
    store.set(f"alive/{rank}", str(time.time()))
    over = threading.Event()
    watch = threading.Thread(target=_watch, args=(rank, ranks, environment, over), daemon=True)
    watch.start()
    try:
        on_gpu = device.type == "cuda"
        dist.init_process_group(
            "nccl" if on_gpu else "gloo", store=store, rank=rank, world_size=ranks, timeout=PATIENCE,
            device_id=device if on_gpu else None,
        )  # fmt: skip
        yield Group(rank, ranks, device)
        dist.barrier()
    except BaseException as error:
        over.set()
        raise _told(error, rank, ranks, store) from error
    finally:
        over.set()
        watch.join(timeout=2 * LOOK)
        with suppress(RuntimeError):
            dist.destroy_process_group()


def _store(rank: int, ranks: int, environment: Mapping[str, str]) -> Store:
    # torchrun's agent keeps the meeting point itself; started by hand, the first process does.
    ours = rank == 0 and environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    inner = TCPStore(
        environment["MASTER_ADDR"], int(environment["MASTER_PORT"]), ranks, is_master=ours, wait_for_workers=False,
        timeout=timedelta(seconds=START),
    )  # fmt: skip
    # A run that torchrun has started again must not read what the one before it left.
    return PrefixStore(f"echolung/{environment.get('TORCHELASTIC_RESTART_COUNT', 0)}", inner)


def _told(error: BaseException, rank: int, ranks: int, store: Store) -> BaseException:
    """Leave this process's error for the others, unless one of them failed before; return what to raise."""
    with suppress(RuntimeError):
        first = _words(store)
        if first is not None:
            return RunError(f"{first} This process stopped with it.")
        known = isinstance(error, EcholungError)
        text = str(error) if known else f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        if isinstance(error, RuntimeError) and not known:
            # Most likely the echo of another's death, which leaves its own words, if any, within a moment.
            time.sleep(LOOK)
            if (first := _words(store)) is not None:
                return RunError(f"{first} This process stopped with it.")
        store.set("failed", f"Process {rank} of {ranks} failed: {text.rstrip('.')}.")
        if rank == 0:
            time.sleep(2 * LOOK)  # it may be the one that keeps the meeting point, where the others are to read this
    return error


def _words(store: Store) -> str | None:
    return store.get("failed").decode() if store.check(["failed"]) else None


def _watch(rank: int, ranks: int, environment: Mapping[str, str], over: threading.Event) -> None:
    """End this process as soon as another has failed or fallen silent."""
    try:
        store = _store(-1, ranks, environment)  # a connection of its own: the other may be waiting within
    except RuntimeError:
        return
    heard = dict.fromkeys(range(ranks), ("", time.monotonic()))
    while not over.wait(LOOK):
        try:
            words = _words(store)
            store.set(f"alive/{rank}", str(time.time()))
            for other in range(ranks):
                sign = store.get(f"alive/{other}").decode() if store.check([f"alive/{other}"]) else ""
                if sign != heard[other][0]:
                    heard[other] = sign, time.monotonic()
        except RuntimeError:
            words = "The process that the others meet at has ended; its own output says why."
        now = time.monotonic()
        silent = [other for other, (sign, when) in heard.items() if now - when > (SILENCE if sign else START)]
        if words is None and silent:
            long = SILENCE if heard[silent[0]][0] else START
            words = (
                f"Process {silent[0]} of {ranks} has not given a sign of life for {long:.0f} s; it was probably killed."
            )
        # The main thread, if it noticed by itself, gets a moment to leave in its own way.
        if words is not None and not over.wait(2 * LOOK):
            _leave(f"{words} Process {rank} stopped with it.")


def _leave(text: str, leave: Callable[[int], None] = os._exit) -> None:
    sys.stderr.write(f"Error: {text}\n")
    sys.stderr.flush()
    leave(1)
