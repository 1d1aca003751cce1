"""How long a video takes to become clips, tried on a few."""

import time
from typing import Any

from echolung.clips.workers import prepare_video, run_in_workers
from echolung.errors import DecodeError


def seconds_a_video(jobs: list[tuple[Any, ...]], time_limit: int | float = 20.0) -> list[float]:
    """Return how many seconds `prepare_video` took with each of these arguments; unreadable videos are left out."""
    results = run_in_workers(_timed, jobs, lambda job: job, workers=1, time_limit=time_limit)
    return [float(seconds) for _, seconds in results if not isinstance(seconds, DecodeError)]


def _timed(*arguments: Any) -> float:
    began = time.perf_counter()
    prepare_video(*arguments)
    return time.perf_counter() - began
