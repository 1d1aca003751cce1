"""The notebooks run from top to bottom, and stand in the repository as somebody left them who had run them."""

import os
import sys
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs" / "notebooks").glob("*.ipynb"))


def kinds(notebook) -> list[set[str]]:
    """Return of each cell of code what it shows: "stream", "image/png", "text/html", …"""
    return [
        {kind for output in cell.outputs for kind in (output.get("data") or {output.output_type: ""})}
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_runs_and_shows_what_the_kept_one_shows(file, tmp_path, monkeypatch):
    from nbclient import NotebookClient

    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    kept = nbformat.read(file, as_version=4)
    fresh = nbformat.read(file, as_version=4)
    NotebookClient(fresh, timeout=600, resources={"metadata": {"path": tmp_path}}).execute()
    assert kinds(fresh) == kinds(kept)


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_kept_notebook_is_small_and_says_nothing_of_whoever_ran_it(file):
    text = file.read_text(encoding="utf-8")
    assert len(text) < 300_000
    assert not [
        folder for folder in ("/tmp/", "/home/", "/Users/", str(Path.home()), "C:\\\\", "Traceback") if folder in text
    ]
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
