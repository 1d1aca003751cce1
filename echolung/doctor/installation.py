"""Python, and the libraries that echolung was made for."""

import platform
import sys
from importlib.metadata import PackageNotFoundError, distributions, metadata, requires, version

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from echolung import __version__
from echolung.doctor.finding import Finding
from echolung.text import listed

SAME = {
    "decord": ("decord", "decord2", "eva-decord"),
    "cv2": ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"),
}
"""Packages that install the same module, so that whichever came last has overwritten the others."""

TOGETHER = {"torch": "torchvision"}


def check_installation() -> list[Finding]:
    """Check Python, versions, and packages that overwrite each other."""
    return [_python(), _libraries(), *_twice()]


def _python() -> Finding:
    wanted = metadata("echolung")["Requires-Python"] or ""
    here = platform.python_version()
    if SpecifierSet(wanted).contains(here, prereleases=True):
        return Finding("Python", "pass", f"{here} ({sys.prefix})")
    return Finding("Python", "fail", f"{here}; echolung {__version__} is for {wanted}", f"Use a Python {wanted}.")


def _libraries() -> Finding:
    needed = [Requirement(text) for text in requires("echolung") or []]
    needed = [item for item in needed if item.marker is None or item.marker.evaluate({"extra": ""})]
    missing, outside = [], []
    for item in needed:
        try:
            held = version(item.name)
        except PackageNotFoundError:
            missing.append(item.name)
            continue
        if not item.specifier.contains(held, prereleases=True):
            outside.append(f"{item.name} {held} (wanted {item.specifier})")
    if not missing and not outside:
        return Finding("libraries", "pass", f"echolung {__version__}, its {len(needed)} libraries as it wants them")
    what = [f"missing: {listed(missing)}"] * bool(missing) + [f"other versions: {listed(outside)}"] * bool(outside)
    fix = f"pip install --upgrade {' '.join(repr(str(item)) for item in _wanted(needed, missing, outside))}"
    return Finding("libraries", "fail" if missing else "warn", "; ".join(what), fix)


def _wanted(needed: list[Requirement], missing: list[str], outside: list[str]) -> list[str]:
    names = {*missing, *(text.partition(" ")[0] for text in outside)}
    return [f"{item.name}{item.specifier}" for item in needed if item.name in names]


def _twice() -> list[Finding]:
    installed = {str(d.metadata["Name"]).lower().replace("_", "-") for d in distributions()}
    found = []
    for module, packages in SAME.items():
        there = [name for name in packages if name in installed]
        if len(there) > 1:
            keep = packages[0] if module == "decord" else "opencv-python-headless"
            found.append(
                Finding(
                    module,
                    "warn",
                    f"{listed(there)} all install {module}: the last one has overwritten the others",
                    f"pip uninstall {' '.join(there)}, then pip install {keep}",
                )
            )
    return found
