"""Whether echolung can write where it keeps its files, and how much room there is."""

import os
import tempfile
from pathlib import Path

from filelock import FileLock

from echolung.doctor.finding import Finding
from echolung.machine import free_disk, free_memory, nearest_folder
from echolung.settings import home
from echolung.text import in_bytes

LITTLE_DISK, LITTLE_MEMORY = 5e9, 4e9
"""Bytes below which one soon runs out: a store of POCUS by a ViT-L takes about 1 GB, its weights 1.3 GB."""

NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs", "beegfs", "lustre", "gpfs", "ceph"}
"""File systems behind a network, of those in /proc/mounts."""

MOUNTS = Path("/proc/mounts")

MOVE = "Set ECHOLUNG_HOME to a folder that can be written to, on a disk with room."


def check_space() -> list[Finding]:
    """Check the home by writing there, its disk and its file system, and memory."""
    written = _writable()
    found = [written]
    if written.level == "pass":
        found.append(_locks())
    return [*found, _disk(), _memory()]


def _writable() -> Finding:
    folder = home()
    there = nearest_folder(folder)
    by = "ECHOLUNG_HOME" if os.environ.get("ECHOLUNG_HOME") else "the platform's default"
    try:
        with tempfile.TemporaryDirectory(dir=there, prefix=".echolung-doctor-") as tried:
            (Path(tried) / "file").write_bytes(b"echolung")
    except OSError as error:
        return Finding("home", "fail", f"{folder} cannot be written to ({error.strerror}; {by})", MOVE)
    return Finding("home", "pass", f"{folder} ({by}{'' if folder == there else '; not made yet'})")


def _locks() -> Finding:
    """Try a lock as the store's writers take it."""
    there = nearest_folder(home())
    kind = file_system(there)
    where = f"{kind}, over a network" if kind in NETWORK else kind or "of this disk"
    try:
        with tempfile.TemporaryDirectory(dir=there, prefix=".echolung-doctor-") as tried:
            path = Path(tried) / "lock"
            with FileLock(path, timeout=5):
                pass
    except (OSError, NotImplementedError, TimeoutError) as error:
        fix = "Put ECHOLUNG_HOME on a local disk, or never start two extractions of one store at a time."
        return Finding("file system", "warn", f"{where}: files cannot be locked ({error})", fix)
    if kind in NETWORK:
        fix = "It works, slowly: a store is many files. Extract with --shard 64, or keep stores on a local disk."
        return Finding("file system", "warn", f"{where}; locks work", fix)
    return Finding("file system", "pass", f"{where}; locks work")


def file_system(path: Path) -> str:
    """Return the type of the file system that a path is on, such as "ext4"; "" where the system does not say."""
    try:
        mounts = [line.split()[1:3] for line in MOUNTS.read_text("utf-8").splitlines()]
    except OSError:
        return ""
    real = path.resolve()
    around = [(len(Path(at).parts), kind) for at, kind in mounts if real.is_relative_to(at.replace("\\040", " "))]
    return max(around, default=(0, ""))[1]


def _disk() -> Finding:
    free = free_disk(home())
    if free < LITTLE_DISK:
        fix = "echolung extract --dry-run says what a store would take. Free some space, or move ECHOLUNG_HOME."
        return Finding("disk", "warn", f"{in_bytes(free)} free", fix)
    return Finding("disk", "pass", f"{in_bytes(free)} free")


def _memory() -> Finding:
    free = free_memory()
    if free < LITTLE_MEMORY:
        fix = "Take small encoders and --memory 1GB for probes, or ask for more."
        return Finding("memory", "warn", f"{in_bytes(free)} free (a limit of a container counts)", fix)
    return Finding("memory", "pass", f"{in_bytes(free)} free")
