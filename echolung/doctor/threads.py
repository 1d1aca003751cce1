"""How many processors there are, and how many are used."""

import os

import torch

from echolung.doctor.finding import Finding
from echolung.machine import cores

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def check_threads() -> list[Finding]:
    """Check processors, limits on them, and what was set."""
    return [_processors(), _torch_threads()]


def _processors() -> Finding:
    there, usable = os.cpu_count() or 1, cores()
    if usable < there:
        what = f"{usable} of the machine's {there} (a limit of a container or a cluster's job)"
        return Finding("processors", "pass", f"{what}; as many decoding processes (--workers)")
    return Finding("processors", "pass", f"{there}; as many decoding processes (--workers)")


def _torch_threads() -> Finding:
    threads, there = torch.get_num_threads(), cores()
    told = [f"{name}={os.environ[name]}" for name in VARIABLES if name in os.environ]
    what = f"torch uses {threads}" + (f" ({', '.join(told)})" if told else "")
    if threads > there:
        fix = f"Set OMP_NUM_THREADS={there}: threads beyond that only wait."
        return Finding("threads", "warn", f"{what}, and {there} processors may be used", fix)
    if told and threads == 1 < there and not torch.cuda.is_available():
        return Finding("threads", "warn", f"{what} of {there} processors", f"Unset {told[0].partition('=')[0]}.")
    return Finding("threads", "pass", what)
