"""Files from elsewhere into a folder: resumed, in parallel, each checked against its digest before it gets its name."""

import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import filelock
import pooch

from echolung.downloads.job import PARTIAL, RECORD, Job
from echolung.downloads.places import is_local, offline, source_of
from echolung.downloads.remote import Remote
from echolung.downloads.resume import Transfer, length
from echolung.errors import InputError, RunError
from echolung.settings import make_folder
from echolung.text import listed

__all__ = ["PARTIAL", "RECORD", "Fetched", "Remote", "fetch", "offline", "source_of"]

LOCK = ".download.lock"


@dataclass(frozen=True)
class Fetched:
    """What became of each file, by path.

    Attributes:
        present: were there already, checked.
        downloaded: came now, checked.
        failed: path -> reason, a sentence.
        unverified: path -> sha256, of files for which no digest is kept here (they are present or downloaded too).
        absent: of the failed, those that every place says it does not have.
    """

    present: tuple[str, ...]
    downloaded: tuple[str, ...]
    failed: dict[str, str]
    unverified: dict[str, str]
    absent: tuple[str, ...] = ()


def fetch(
    files: Sequence[Remote],
    folder: Path,
    *,
    parallel: int = 4,
    advance: Callable[[int], None] = lambda count: None,
    log: Callable[[str], None] = lambda text: None,
    repair: bool = False,
) -> Fetched:
    """Bring the files that `folder` lacks, and check those that it has.

    A file appears under its name only when it is whole and its digest is right. Interrupted, the parts stay in
    `<folder>/.partial`, and the same call goes on from them. Two processes on one folder take turns.

    Args:
        files: what is wanted.
        folder: made if it is not there.
        parallel: files at a time.
        advance: called with bytes had, whether found, gone on from or brought (negative: thrown away); their sum is
            what is there at the end. Never called by two threads at a time.
        log: called with a sentence on the way.
        repair: a file that is there with a wrong digest is set aside as `<name>.wrong` and brought anew; without, it
            is left as it is and counts as failed.

    Raises:
        InputError: no room on the disk; or ECHOLUNG_OFFLINE is set and files are missing.
        RunError: files are missing and none was had, as no host could be reached.
    """
    make_folder(folder)
    pooch.get_logger().setLevel("WARNING")
    one = threading.Lock()

    def guarded(count: int) -> None:
        with one:
            advance(count)

    with _alone(folder, log):
        job = Job(folder, Transfer(guarded), repair)
        _every(job.look, files, parallel, job)
        missing = [file for file in files if file.path not in job.present and file.path not in job.failed]
        _refuse(missing, job)
        _every(job.get, missing, parallel, job)
        job.clear()
    if missing and not job.downloaded and job.transfer.unreachable:
        hosts = "; ".join(f"{host} {why}" for host, why in job.transfer.unreachable.items())
        raise RunError(f"Nothing could be downloaded: {hosts}. {_by_hand(missing, folder)}")
    order = [file.path for file in files]
    return Fetched(
        tuple(path for path in order if path in job.present),
        tuple(path for path in order if path in job.downloaded),
        {path: job.failed[path] for path in order if path in job.failed},
        {path: job.unverified[path] for path in order if path in job.unverified},
        tuple(path for path in order if path in job.absent),
    )


@contextmanager
def _alone(folder: Path, log: Callable[[str], None]) -> Iterator[None]:
    """Hold the folder's lock; wait while another process downloads to it."""
    lock = filelock.FileLock(folder / LOCK)  # its file stays: removed while another waits, it would let two in
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        log(f"Another echolung is downloading to {folder}; waiting until it is done.")
        lock.acquire()
    try:
        make_folder(folder / PARTIAL)
        yield
    finally:
        lock.release()


def _every(act: Callable[[Remote], None], files: Sequence[Remote], parallel: int, job: Job) -> None:
    """Do `act` for all files in threads; the first error, or an interrupt, stops them all."""
    pool = ThreadPoolExecutor(max(1, parallel), thread_name_prefix="download")
    try:
        for done in as_completed([pool.submit(act, file) for file in files]):
            done.result()
    except BaseException:
        job.transfer.stop.set()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _refuse(missing: Sequence[Remote], job: Job) -> None:
    """Raise InputError where downloading cannot work: no way out, or no room."""
    away = [file for file in missing if not any(is_local(source_of(url)) for url in file.urls)]
    if away and offline():
        raise InputError(
            f"ECHOLUNG_OFFLINE is set, and {_count(away)} missing in {job.folder}: {listed((f.path for f in away), 5)}. "
            f"{_by_hand(away, job.folder)}"
        )
    need = sum(max(file.size - length(job.part(file)), 0) for file in missing)
    free = shutil.disk_usage(job.folder).free
    if need > free:
        raise InputError(
            f"No room: the files to download have {need:,} bytes, and the disk of {job.folder} has {free:,} free. Free some "
            "space, or name a folder on another disk."
        )


def _by_hand(files: Sequence[Remote], folder: Path) -> str:
    first = files[0]
    more = f" (the first of {len(files)} files)" if len(files) > 1 else ""
    return (
        "Without a way out to the internet, set ECHOLUNG_MIRROR to a copy of these hosts (a URL, or a folder that `wget "
        f"--force-directories` filled), or put files in place by hand: {first.urls[0]} belongs at {folder / first.path}{more}."
    )


def _count(files: Sequence[Remote]) -> str:
    return "1 file is" if len(files) == 1 else f"{len(files)} files are"
