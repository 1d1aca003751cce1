"""Published weights on this machine: brought by way of a waiting room, recorded beside the file, and checked again."""

import datetime
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from echolung.downloads.places import is_local, offline, source_of
from echolung.downloads.remote import Remote
from echolung.downloads.weights import Source, Weights
from echolung.errors import InputError, RunError
from echolung.settings import home, make_folder

WAITING = ".incoming"
"""Folder in `ECHOLUNG_HOME/checkpoints` where files lie until they are whole, checked and known to load; and their locks."""

KEPT, RECORDED, DECLARED, BEGINS, NOTHING = (
    "the digest that echolung keeps",
    "the digest recorded when they were first downloaded",
    "the digest that the host declares",
    "the first digits of the digest, which are in the name of the file",
    "no digest: none is published. It is recorded now, and compared from now on",
)
"""What digests were compared with, from the strongest to none."""


@dataclass(frozen=True)
class Checked:
    """What a look at downloaded weights found.

    Attributes:
        path: the file or folder.
        digests: path in the folder of checkpoints -> sha256.
        against: what the digest of the weights was compared with, one of the sentences above.
        said: what the strict reading of names and shapes says.
        fetched: whether anything came over the network.
    """

    path: Path
    digests: dict[str, str]
    against: str
    said: str
    fetched: bool = False


Fits = Callable[[str, Path], str]
"""(network, path) -> a sentence on what the file holds; InputError where a tensor is missing, too many or misshapen."""


def checkpoints() -> Path:
    """Return the folder of checkpoints (not created here)."""
    return home() / "checkpoints"


def is_there(source: Source) -> bool:
    """Return whether all files of a source lie in the folder of checkpoints."""
    return all((checkpoints() / file.path).is_file() for file in source.files)


def at_home(weights: Weights) -> list[Source]:
    """Return the sources whose files lie in the folder of checkpoints."""
    return [source for source in weights.sources if is_there(source)]


def record_of(source: Source) -> Path:
    """Return where source, digests, date, licence and citation of downloaded weights are written down."""
    return checkpoints() / f"{source.place}.json"


def bring(
    weights: Weights,
    source: Source,
    fits: Fits,
    advance: Callable[[int], None] = lambda count: None,
    log: Callable[[str], None] = lambda text: None,
) -> Checked:
    """Download weights, or check those that are there; interrupted, the same call goes on.

    A file gets its place only when it is whole, its digest is right (or nothing is known of it), and it loads. Two
    processes that want the same weights take turns, and the second finds them there.

    Raises:
        InputError: what is there is another file; no room; or nothing may go out (ECHOLUNG_OFFLINE).
        RunError: a file could not be had, or what came is not these weights.
    """
    if is_there(source):
        return check(weights, source, fits, write=True)
    with _alone(weights, source, log):
        if is_there(source):  # another process has brought them meanwhile
            return check(weights, source, fits, write=True)
        return _bring(weights, source, fits, advance, log)


@contextmanager
def _alone(weights: Weights, source: Source, log: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of a source's files; wait while another process brings them."""
    # Beside the waiting room, which is cleared while the lock is held. Its file stays: removed while another waits, it
    # would let two in.
    lock = FileLock(make_folder(checkpoints() / WAITING) / f"{source.place}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log(f"Another echolung is downloading {weights.name}; waiting until it is done.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _bring(
    weights: Weights, source: Source, fits: Fits, advance: Callable[[int], None], log: Callable[[str], None]
) -> Checked:
    """Download weights that are not there, read them, and give them their place."""
    from echolung.downloads.fetch import fetch  # imports pooch

    waiting = make_folder(checkpoints() / WAITING / source.place)
    files, against = _expected(source)
    try:
        found = fetch(files, waiting, advance=advance, log=log, repair=True)
    except (InputError, RunError) as error:
        raise type(error)(str(error).replace(str(waiting), str(checkpoints()))) from error
    if found.failed:
        reasons = "; ".join(f"{path}: {why.rstrip('.')}" for path, why in found.failed.items())
        raise RunError(
            f"The weights {weights.name} could not be downloaded. {reasons}. Run the same command again, and it goes on "
            f"where it stopped{_other_sources(weights, source)}."
        )
    digests = {file.path: file.sha256 or found.unverified[file.path] for file in files}
    said = _read_or_refuse(weights, source, waiting, digests, fits)
    for file in source.files:
        target = checkpoints() / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        (waiting / file.path).replace(target)
    shutil.rmtree(waiting, ignore_errors=True)
    write_record(weights, source, digests, against)
    return Checked(checkpoints() / source.place, digests, against, said, fetched=True)


def check(weights: Weights, source: Source, fits: Fits, write: bool = False) -> Checked:
    """Read the files of a source again: digests, and every tensor's name and shape.

    Args:
        weights: published weights.
        source: one of their sources, whose files are there.
        fits: reads names and shapes.
        write: record the digests where there is no record (weights that were put in place by hand).

    Raises:
        InputError: a file is another than was published, or than was recorded; or it does not load.
    """
    recorded = recorded_digests(source)
    digests = {file.path: _sha256(checkpoints() / file.path) for file in source.files}
    for file in source.files:
        known, whence = (file.sha256, "was published") if file.sha256 else (recorded.get(file.path), "was recorded")
        if (known and digests[file.path] != known) or not digests[file.path].startswith(_begins(source, file)):
            raise InputError(
                f"{checkpoints() / file.path} is not the file that {whence} for {weights.name}: its sha256 begins "
                f"{digests[file.path][:12]}, not {(known or source.begins)[:12]}. It was changed, cut short, or is another "
                f"file. Move it away, and run: echolung encoders download {weights.name} --from {source.host}. Or, if it is "
                "the right one, name it by its path."
            )
    against = KEPT if source.digest_kept else RECORDED if recorded else BEGINS if source.begins else NOTHING
    said = fits(weights.network, checkpoints() / source.place)
    if write and not recorded:
        write_record(weights, source, digests, against)
    return Checked(checkpoints() / source.place, digests, against, said)


def write_record(weights: Weights, source: Source, digests: dict[str, str], against: str) -> None:
    """Write down beside the weights where they came from, what they are, and under which terms."""
    urls = {file.path: file.urls[0] for file in source.files}
    record = {
        "name": weights.name,
        "source": source.host,
        "page": source.page,
        "files": {path: {"url": urls[path], "sha256": digest} for path, digest in digests.items()},
        "checked_against": against,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "licence": source.licence,
        "citation": weights.citation,
    }
    record_of(source).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", "utf-8")


def recorded_digests(source: Source) -> dict[str, str]:
    """Return path -> sha256 as recorded at the first download; empty where there is no readable record."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        record: dict[str, Any] = json.loads(record_of(source).read_text("utf-8"))
        return {path: file["sha256"] for path, file in record["files"].items()}
    return {}


def declared(url: str) -> tuple[str, int]:
    """Return (sha256, bytes) that the host declares for a file; "" and 0 where it declares none or cannot be asked.

    Hugging Face answers for large files with the digest as X-Linked-Etag, before it sends on to where they are stored.
    """
    where = source_of(url)
    if is_local(where) or offline():
        return "", 0
    import requests

    try:
        answer = requests.head(where, allow_redirects=False, timeout=10, headers={"Accept-Encoding": "identity"})
    except requests.RequestException:
        return "", 0
    tag = answer.headers.get("X-Linked-Etag", "").strip('"').lower()
    size = answer.headers.get("X-Linked-Size", "")
    is_sha256 = len(tag) == 64 and not tag.strip("0123456789abcdef")
    return (tag if is_sha256 else ""), int(size) if size.isdigit() else 0


def _expected(source: Source) -> tuple[list[Remote], str]:
    """Return the files with what is known of each from the best that knows it, and what the weights are compared with."""
    recorded, files = recorded_digests(source), []
    against = KEPT if source.digest_kept else BEGINS if source.begins else NOTHING
    for file in source.files:
        if not file.sha256 and file.path in recorded:
            file, against = replace(file, sha256=recorded[file.path]), against if source.digest_kept else RECORDED
        elif not file.sha256:
            digest, size = declared(file.urls[0])
            file = replace(file, sha256=digest, size=file.size or size)
            against = DECLARED if digest and not source.digest_kept else against
        files.append(file)
    return files, against


def _read_or_refuse(weights: Weights, source: Source, waiting: Path, digests: dict[str, str], fits: Fits) -> str:
    """Return what the strict reading says; throw away what came, and raise RunError, where it is not these weights."""
    try:
        for file in source.files:
            if _is_page(waiting / file.path):
                raise InputError("it is a web page (a sign-in page, or a proxy on the way?)")
            if not digests[file.path].startswith(_begins(source, file)):
                raise InputError(
                    f"its sha256 begins {digests[file.path][:8]}, and the name of the file promises {source.begins}"
                )
        return fits(weights.network, waiting / source.place)
    except InputError as error:
        shutil.rmtree(waiting, ignore_errors=True)
        raise RunError(
            f"What {source.host} sent is not {weights.name}, and was thrown away: {str(error).rstrip('.')}. Try again "
            f"later{_other_sources(weights, source)}; {source.page} says what is published."
        ) from error


def _is_page(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(200).lstrip().startswith(b"<")


def _begins(source: Source, file: Remote) -> str:
    """Return the digits that the digest of a file must begin with; "" for any."""
    return source.begins if file == source.files[-1] else ""


def _other_sources(weights: Weights, source: Source) -> str:
    others = [each.host for each in weights.sources if each is not source]
    return f", or take the other source with --from {others[0]}" if others else ""


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
