"""What tests of downloads share: the internet, as far as this machine has it."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def loopback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a running server of an empty folder that ECHOLUNG_MIRROR names, without pauses between attempts."""
    from echolung.downloads import resume

    name = "echolung_tests_loopback"
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("loopback.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    root = tmp_path / "internet"
    root.mkdir()
    with module.serve(root) as state:
        monkeypatch.setenv("ECHOLUNG_MIRROR", state.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(resume, "PAUSE", 0.0)
        yield state


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the module that makes small published weights; what it puts in the table leaves it after the test."""
    from echolung.downloads import weights

    name = "echolung_tests_published"
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("published.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def offer(root: Path, kept: bool = True) -> Any:
        entry = module.table(root, kept)
        monkeypatch.setitem(weights.WEIGHTS, entry.name, entry)
        return entry

    module.offer = offer
    return module
