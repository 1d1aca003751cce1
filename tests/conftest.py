"""Fixtures shared by every test: the real videos where they are, a home of its own for each test."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real videos, or skip."""
    folder = Path(os.environ.get("ECHOLUNG_TEST_DATA") or REPOSITORY.parent / "shared" / "data")
    if not (folder / "covid19_ultrasound").is_dir():
        pytest.skip(f"no real videos at {folder} (set ECHOLUNG_TEST_DATA)")
    return folder


@pytest.fixture(autouse=True)
def echolung_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test an empty ECHOLUNG_HOME."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("ECHOLUNG_HOME", str(home))
    return home
