"""All checks, group by group."""

from collections.abc import Callable

from echolung.doctor.decoders import check_decoders
from echolung.doctor.device import check_device
from echolung.doctor.downloading import check_downloads
from echolung.doctor.files import check_files
from echolung.doctor.finding import Finding
from echolung.doctor.installation import check_installation
from echolung.doctor.space import check_space
from echolung.doctor.threads import check_threads

GROUPS: dict[str, Callable[[], list[Finding]]] = {
    "installation": check_installation,
    "device": check_device,
    "decoders": check_decoders,
    "space": check_space,
    "threads": check_threads,
    "files": check_files,
    "downloads": check_downloads,
}


def examine(begin: Callable[[str], None] = lambda group: None) -> dict[str, list[Finding]]:
    """Return group -> findings; `begin` hears of each group before it is looked at.

    A check that itself breaks is a finding: what is to be found out must not depend on everything else being well.
    """
    found = {}
    for group, check in GROUPS.items():
        begin(group)
        try:
            found[group] = check()
        except Exception as error:  # whatever a broken installation raises
            what = f"could not be checked: {type(error).__name__}: {str(error)[:200]}"
            found[group] = [Finding(group, "fail", what, "Install echolung anew, into an empty environment.")]
    return found
