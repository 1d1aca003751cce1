"""What this process may take of its machine: memory and processors, within a container's or a cluster job's limits; disk."""

import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

CGROUPS, OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
"""Where Linux tells what a container or a cluster's job may take."""


def free_memory() -> int:
    """Return the bytes that are free on this machine, or left of the least limit that this process is under."""
    free = _numbers(Path("/proc/meminfo")).get("MemAvailable:")
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if free is None else free * 1024
    return max(0, min([machine, *_rooms()]))


def nearest_folder(path: Path) -> Path:
    """Return the folder that something is in, or will be: `path`, or the nearest of those above it that exists."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


def free_disk(path: Path) -> int:
    """Return the bytes free where something is or will be."""
    return shutil.disk_usage(nearest_folder(path)).free


def processor_limit() -> float | None:
    """Return how many processors' time control groups allow this process (2.5: two and a half); None where none says."""
    limits = []
    for folder, older in _groups("cpu"):
        if older:
            quota, period = (_text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
        else:
            quota, _, period = _text(folder / "cpu.max").strip().partition(" ")
        if quota.isdigit() and period.isdigit():  # "max" and -1 are no limit
            limits.append(int(quota) / int(period))
    return min(limits, default=None)


def cores() -> int:
    """Return the processors that this process may use: on a cluster, and in a container, fewer than the machine has."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = processor_limit()
    return allowed if limit is None else max(1, min(allowed, math.ceil(limit)))


def cores_each() -> int:
    """Return the processors for this process alone, where torchrun started several on this machine; else `cores()`."""
    return max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def _rooms() -> list[int]:
    """Return the bytes left of the limit of each control group that this process is in; cached files can be given up."""
    rooms = []
    for folder, older in _groups("memory"):
        limit, used, total = (
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
            if older
            else ("memory.max", "memory.current", "")
        )
        most, now = _text(folder / limit).strip(), _text(folder / used).strip()
        if most.isdigit() and now.isdigit():  # "max" is no limit
            facts = _numbers(folder / "memory.stat")
            files = sum(facts.get(f"{total}{kind}_file", 0) for kind in ("active", "inactive"))
            rooms.append(int(most) - int(now) + files)
    return rooms


def _groups(controller: str) -> Iterator[tuple[Path, bool]]:
    """Yield the folder of each control group that this process is in, and whether it is of the older kind, a tree a controller.

    Groups are nested, and a container may see its own as the root: https://docs.kernel.org/admin-guide/cgroup-v2.html.
    """
    for line in _text(OWN_CGROUPS).splitlines():
        _, controllers, path = line.split(":", 2)
        own = Path(path.lstrip("/"))
        if not controllers:
            yield from ((CGROUPS / part, False) for part in (own, *own.parents))
        elif controller in controllers.split(","):
            yield from ((CGROUPS / controller / part, True) for part in (own, *own.parents))


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError:
        return ""


def _numbers(path: Path) -> dict[str, int]:
    """Return the first number of each line by its first word."""
    lines = (line.split() for line in _text(path).splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}
