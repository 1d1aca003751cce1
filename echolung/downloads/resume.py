"""One file from one place into a partial file, from which the next attempt goes on."""

import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import requests
import urllib3

from echolung.downloads.places import is_local

ATTEMPTS = 4
"""Attempts in a row that bring no byte before a place is given up."""
PAUSE = 1.0
"""Seconds before the second attempt; twice as long before each further one."""
LONGEST = 60.0
"""Seconds of pause at most, whatever a server asks for."""
TIMEOUT = (10.0, 30.0)
"""Seconds to wait for a connection, and for the next bytes of an answer."""
CHUNK = 1 << 14
BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
POINTER = b"version https://git-lfs"


class NotHadError(Exception):
    """A place did not give the file. The text says why, in words that follow the name of the place."""

    def __init__(self, why: str, *, absent: bool = False) -> None:
        super().__init__(why)
        self.absent = absent


class StoppedError(Exception):
    """The download was interrupted; what came so far is kept."""


class _AgainError(Exception):
    """One attempt broke off; another may do, after `pause` seconds if the server asks for that."""

    def __init__(self, why: str, pause: float = 0.0) -> None:
        super().__init__(why)
        self.pause = pause


@dataclass
class Transfer:
    """What the downloads of one folder share.

    Attributes:
        advance: called with bytes as they come, and with a negative number where some are thrown away.
        stop: set when everything is to end.
        unreachable: host -> why, of hosts to which no connection could be made; they are not asked again.
    """

    advance: Callable[[int], None]
    stop: threading.Event = field(default_factory=threading.Event)
    unreachable: dict[str, str] = field(default_factory=dict)
    sessions: threading.local = field(default_factory=threading.local)

    def session(self) -> requests.Session:
        """Return this thread's session: one connection a host, kept open from file to file."""
        if not hasattr(self.sessions, "one"):
            self.sessions.one = requests.Session()
        return self.sessions.one


def bring(source: str, part: Path, size: int, transfer: Transfer) -> bool:
    """Make `part` the whole of `source`, going on from what is in it; return whether any of it was there before.

    Args:
        source: a URL, or the path of a file of a mirror.
        part: the partial file; its folder exists. Beside it lies what the server said of the file.
        size: bytes that the whole has; 0: not known.
        transfer: what the downloads of one folder share.

    Raises:
        NotHadError: the place does not give the file.
        StoppedError: `transfer.stop` was set.
        OSError: `part` cannot be written.
    """
    if is_local(source):
        _copy(Path(source), part, size, transfer)
        return False
    host = urlsplit(source).netloc
    if _read_note(part).get("url") != source:  # begun from another place
        discard(part, transfer.advance)
    resumed, empty = False, 0
    while True:
        if transfer.stop.is_set():
            raise StoppedError
        if host in transfer.unreachable:
            raise NotHadError(transfer.unreachable[host])
        before = length(part)
        resumed |= before > 0
        try:
            _attempt(source, part, size, transfer)
            return resumed
        except (_AgainError, requests.RequestException, urllib3.exceptions.HTTPError) as error:
            empty = 0 if length(part) > before else empty + 1
            if empty == ATTEMPTS:
                why = transfer.unreachable.setdefault(host, _why(error)) if _no_way(error) else _why(error)
                raise NotHadError(why) from error
            pause = max(PAUSE * 2 ** max(empty - 1, 0), getattr(error, "pause", 0.0))
        transfer.stop.wait(min(pause, LONGEST))


def length(part: Path) -> int:
    """Return the bytes of a partial file, 0 where there is none."""
    return part.stat().st_size if part.exists() else 0


def discard(part: Path, advance: Callable[[int], None]) -> None:
    """Throw a partial file away."""
    advance(-length(part))
    forget(part)


def forget(part: Path) -> None:
    """Remove a partial file, and what is noted of it."""
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def _attempt(url: str, part: Path, size: int, transfer: Transfer) -> None:
    """Ask once, from the end of `part`, and write what comes."""
    have = length(part)
    if size and have > size:
        discard(part, transfer.advance)
        have = 0
    if size and have == size:
        return
    # Not compressed on the way: a range of a compressed answer is not a range of the file.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with transfer.session().get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        if answer.status_code == 416 and not size and _is_whole(answer, part, have):
            _refuse_pointer(part, transfer)
            return
        if answer.status_code == 416 or (answer.status_code == 206 and not _goes_on(answer, url, part, have)):
            discard(part, transfer.advance)  # another file than the one begun
            raise _AgainError("the file changed while it was downloaded")
        if answer.status_code in BUSY:
            asked = answer.headers.get("Retry-After", "")
            raise _AgainError(_status(answer), float(asked) if asked.isdigit() else 0.0)
        if answer.status_code not in (200, 206):
            raise NotHadError(_status(answer), absent=answer.status_code in (404, 410))
        total = _total(answer)
        if "text/html" in answer.headers.get("Content-Type", "") and part.suffix not in (".html", ".htm"):
            raise NotHadError("sends a web page in place of the file (a sign-in page, or a proxy on the way?)")
        if size and total and total != size:
            raise NotHadError(f"has a file of {total:,} bytes, not of {size:,}: another one, or cut on the way")
        if have and answer.status_code == 200:  # the server knows no ranges, so all of it comes again
            discard(part, transfer.advance)
        _note(part).write_text(json.dumps(_facts(answer, url)), "utf-8")
        with part.open("ab") as file:
            for chunk in answer.iter_content(CHUNK):
                if transfer.stop.is_set():
                    raise StoppedError
                file.write(chunk)
                transfer.advance(len(chunk))
    if total and length(part) != total:
        raise _AgainError(f"broke off after {length(part):,} of {total:,} bytes")
    _refuse_pointer(part, transfer)


def _goes_on(answer: requests.Response, url: str, part: Path, have: int) -> bool:
    """Return whether a partial answer begins where `part` ends, and is of the same version of the same file."""
    begins = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    facts = _facts(answer, url)
    return begins == str(have) and _read_note(part) == facts and facts["version"] != ""


def _is_whole(answer: requests.Response, part: Path, have: int) -> bool:
    """Return whether an answer that nothing follows says that `part` is all of the file, and of the same version."""
    version = _version(answer)
    ends = answer.headers.get("Content-Range", "") == f"bytes */{have}"
    return ends and version != "" and _read_note(part).get("version") == version


def _facts(answer: requests.Response, url: str) -> dict[str, object]:
    """Return what tells one version of a file from another."""
    return {"url": url, "version": _version(answer), "bytes": _total(answer)}


def _version(answer: requests.Response) -> str:
    """Return the words by which a server tells versions of a file apart, "" where it has none."""
    return answer.headers.get("ETag") or answer.headers.get("Last-Modified", "")


def _total(answer: requests.Response) -> int:
    """Return the bytes of the whole file, 0 where the server does not say."""
    text = answer.headers.get("Content-Length", "")
    if answer.status_code == 206:
        text = answer.headers.get("Content-Range", "").rpartition("/")[2]
    return int(text) if text.isdigit() else 0


def _status(answer: requests.Response) -> str:
    if answer.status_code in (404, 410):
        return f"has no such file ({answer.status_code})"
    if answer.status_code in (401, 403):
        return f"does not let it be downloaded ({answer.status_code})"
    return f"answers {answer.status_code} {answer.reason}".rstrip()


def _no_way(error: Exception) -> bool:
    """Return whether no connection to the host could be made at all."""
    if isinstance(error, requests.exceptions.ProxyError | requests.exceptions.SSLError | requests.ConnectTimeout):
        return True
    inner = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(inner, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ConnectTimeoutError)


def _why(error: Exception) -> str:
    """Return a few words on a connection that failed or broke."""
    if isinstance(error, _AgainError):
        return str(error)
    if isinstance(error, requests.exceptions.SSLError):
        return "shows a certificate that is not trusted (a proxy of your network? Let REQUESTS_CA_BUNDLE name its certificate)"
    if isinstance(error, requests.exceptions.ProxyError):
        return "cannot be reached through the proxy that HTTPS_PROXY names"
    if isinstance(error, requests.Timeout) or "timed out" in str(error):
        return "does not answer"
    if "resolve" in str(error):
        return "cannot be found (no network, or no such host)"
    if "refused" in str(error):
        return "refuses the connection"
    return "cannot be reached" if _no_way(error) else "breaks the connection"


def _refuse_pointer(part: Path, transfer: Transfer) -> None:
    with part.open("rb") as file:
        if file.read(len(POINTER)) != POINTER:
            return
    discard(part, transfer.advance)
    raise NotHadError("sends a git-lfs pointer in place of the file")


def _copy(source: Path, part: Path, size: int, transfer: Transfer) -> None:
    """Copy a file of a mirror that is a folder."""
    if not source.is_file():
        raise NotHadError("has no such file", absent=True)
    if size and source.stat().st_size != size:
        raise NotHadError(f"has a file of {source.stat().st_size:,} bytes, not of {size:,}: another one, or cut short")
    discard(part, transfer.advance)
    shutil.copyfile(source, part)
    transfer.advance(length(part))


def _note(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_note(part: Path) -> dict[str, object]:
    try:
        return dict(json.loads(_note(part).read_text("utf-8")))
    except (OSError, ValueError):
        return {}
