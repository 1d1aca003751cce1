"""Layouts of real datasets, written from phantoms once, and copies of them to mangle."""

import shutil
from pathlib import Path

import pytest

from echolung.datasets import camus_layout, echonet_layout, hmc_qu_layout, lvad_layout


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with both layouts of EchoNet, written once."""
    root = tmp_path_factory.mktemp("echonet")
    echonet_layout.write_dynamic(root / "dynamic", videos=10, size=32)
    echonet_layout.write_pediatric(root / "pediatric", videos=25, size=32)
    return root


@pytest.fixture(scope="session")
def camus_written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return ten patients of CAMUS's layout, written once."""
    root = tmp_path_factory.mktemp("camus")
    camus_layout.write(root, videos=20, frames=6, size=32)
    return root


@pytest.fixture(scope="session")
def hmc_qu_written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return six patients of HMC-QU's layout, written once."""
    root = tmp_path_factory.mktemp("hmc-qu")
    hmc_qu_layout.write(root, videos=12, size=32)
    return root


@pytest.fixture(scope="session")
def lvad_written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cohort of six folders of frames, written once."""
    root = tmp_path_factory.mktemp("lvad")
    lvad_layout.write(root, videos=6, frames=11, size=66)
    return root


@pytest.fixture
def dynamic(written: Path, tmp_path: Path) -> Path:
    """Return a copy to mangle."""
    return Path(shutil.copytree(written / "dynamic", tmp_path / "dynamic"))


@pytest.fixture
def pediatric(written: Path, tmp_path: Path) -> Path:
    """Return a copy to mangle."""
    return Path(shutil.copytree(written / "pediatric", tmp_path / "pediatric"))


@pytest.fixture
def camus(camus_written: Path, tmp_path: Path) -> Path:
    """Return a copy to mangle."""
    return Path(shutil.copytree(camus_written, tmp_path / "camus"))


@pytest.fixture
def hmc_qu(hmc_qu_written: Path, tmp_path: Path) -> Path:
    """Return a copy to mangle."""
    return Path(shutil.copytree(hmc_qu_written, tmp_path / "hmc-qu"))


@pytest.fixture
def lvad(lvad_written: Path, tmp_path: Path) -> Path:
    """Return a copy to mangle."""
    return Path(shutil.copytree(lvad_written, tmp_path / "lvad"))
