"""What the settings say about the network; nothing is asked of it."""

import os
from pathlib import Path

from echolung.doctor.finding import Finding
from echolung.downloads.places import is_local, offline, source_of


def check_downloads() -> list[Finding]:
    """Check the mirror and the offline setting."""
    mirror = os.environ.get("ECHOLUNG_MIRROR", "").strip()
    where = source_of("")
    found = []
    if mirror and is_local(where) and not Path(where).is_dir():
        fix = "Name an existing folder or a URL, or unset ECHOLUNG_MIRROR."
        found.append(Finding("mirror", "fail", f"ECHOLUNG_MIRROR is {mirror}, and there is no such folder", fix))
    elif mirror:
        found.append(Finding("mirror", "pass", f"ECHOLUNG_MIRROR: {mirror}"))
    what = "ECHOLUNG_OFFLINE is set: nothing is downloaded" if offline() else "only by data and encoders download"
    return [*found, Finding("network", "pass", what)]
