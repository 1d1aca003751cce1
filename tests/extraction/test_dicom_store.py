"""DICOM files through to a store: what its key says, and the crop that it was made with."""

from pathlib import Path

import numpy as np
import pydicom.examples
import pytest
from typer.testing import CliRunner

from echolung.cache import TokenStore
from echolung.cli.app import app
from echolung.extraction.predicting import find_videos

ECHO = Path(pydicom.examples.get_path("ybr_color"))


def extract(table: Path, store: Path, *options: str) -> str:
    """Extract with a tiny random encoder; return what was said."""
    sizes = ("--size", "32", "--frames", "4", "--segments", "1", "--workers", "1", "--device", "cpu")
    arguments = (
        "extract",
        "--dataset",
        str(table),
        "--encoder",
        "random:vit_tiny",
        "--store",
        str(store),
        *sizes,
        *options,
    )
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


@pytest.fixture
def table(tmp_path):
    """Return a table of the real clip."""
    path = tmp_path / "mine.csv"
    path.write_text(f"path\n{ECHO}\n")
    return path


def test_key_and_crop(table, tmp_path):
    said = extract(table, tmp_path / "a.zarr", "--fps", "10")
    assert "is taken of 1 video" in said and "--crop none" in said and "burned into 1 video" in said
    said = extract(table, tmp_path / "b.zarr", "--fps", "10", "--crop", "42,16,256,192")
    assert "burned" not in said and "is taken of" not in said
    a, b = (TokenStore.open(tmp_path / name) for name in ("a.zarr", "b.zarr"))
    assert a.key["decoder"]["dicom"] == f"pydicom {pydicom.__version__}"
    assert "box" not in a.key["clips"] and b.key["clips"]["box"] == "42,16,256,192"
    assert np.diff(a.array("frames")[:][0]).tolist() == [3, 3, 3]  # 30 frames a second, of which every third is taken
    assert (a.array("preview")[:] != b.array("preview")[:]).any()
    assert a.snapshot.videos["patient"].str.fullmatch("[0-9a-f]{12}").all()


def test_new_videos_are_found_without_a_suffix(tmp_path):
    (tmp_path / "IM0001").write_bytes(ECHO.read_bytes())
    (tmp_path / "notes").write_text("of somebody")
    assert find_videos([tmp_path]).videos["path"].tolist() == ["IM0001"]
