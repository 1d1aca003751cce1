"""EchoNet's layouts, written from phantoms."""

import shutil
from pathlib import Path

import pytest

from echolung.datasets import echonet_layout


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with both layouts, written once."""
    root = tmp_path_factory.mktemp("echonet")
    echonet_layout.write_dynamic(root / "dynamic", videos=10, size=32)
    echonet_layout.write_pediatric(root / "pediatric", videos=25, size=32)
    return root


@pytest.fixture
def dynamic(written: Path, tmp_path: Path) -> Path:
    """Return a copy to mangle."""
    return Path(shutil.copytree(written / "dynamic", tmp_path / "dynamic"))


@pytest.fixture
def pediatric(written: Path, tmp_path: Path) -> Path:
    """Return a copy to mangle."""
    return Path(shutil.copytree(written / "pediatric", tmp_path / "pediatric"))
