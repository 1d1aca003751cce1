"""Where a file is looked for: its URL, a mirror (ECHOLUNG_MIRROR), or nowhere out there (ECHOLUNG_OFFLINE)."""

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit


def source_of(url: str) -> str:
    """Return `url`, or where ECHOLUNG_MIRROR has it: https://host/a/b is its host/a/b, as `wget --force-directories` leaves it.

    The mirror is a URL (then the answer is one) or a folder (then the answer is a path).
    """
    mirror = os.environ.get("ECHOLUNG_MIRROR", "").strip()
    if not mirror:
        return url
    parts = urlsplit(url)
    inside = f"{parts.netloc}{parts.path}" + (f"?{parts.query}" if parts.query else "")
    if mirror.startswith(("http://", "https://")):
        return f"{mirror.rstrip('/')}/{inside}"
    folder = unquote(urlsplit(mirror).path) if mirror.startswith("file://") else mirror
    return str(Path(folder).expanduser().absolute() / unquote(inside))


def is_local(source: str) -> bool:
    """Return whether a source is a file of a mirror that is a folder."""
    return not source.startswith(("http://", "https://"))


def offline() -> bool:
    """Return whether ECHOLUNG_OFFLINE says that nothing may go out."""
    return os.environ.get("ECHOLUNG_OFFLINE", "").strip().lower() not in ("", "0", "false", "no", "off")
