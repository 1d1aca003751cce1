"""`echolung encoders` as typed, on small weights in the published layouts that a folder serves as mirror."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

DOWNLOADS = Path(__file__).parents[1] / "downloads"


@pytest.fixture
def published(tmp_path, monkeypatch) -> Any:
    """Return the module that makes small published weights; tiny-jepa is in the table, its files in the mirror."""
    from echolung.downloads.weights import WEIGHTS

    spec = importlib.util.spec_from_file_location("echolung_tests_published", DOWNLOADS / "published.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(WEIGHTS, "tiny-jepa", module.table(tmp_path / "mirror"))
    monkeypatch.setenv("ECHOLUNG_MIRROR", str(tmp_path / "mirror"))
    return module


def test_the_list(typed):
    code, shown, said = typed("encoders", "list")
    assert code == 0
    assert "vjepa2-vitl" in shown
    assert "1.30 GB" in shown
    assert "drive.google.com" in shown
    assert "echolung encoders download NAME" in said


def test_the_list_for_programs(typed, published, echolung_home):
    (echolung_home / "checkpoints").mkdir()
    (echolung_home / "checkpoints" / "cardiac.safetensors").write_bytes(b"12345")
    typed("encoders", "download", "tiny-jepa")
    found = json.loads(typed("encoders", "list", "--json")[1])
    rows = {row["name"]: row for row in found["published"]}
    assert rows["tiny-jepa"]["at_home"] == [str(echolung_home / "checkpoints" / "tiny-jepa")]
    assert rows["vjepa2-vitl"]["at_home"] == []
    kept = {source["source"]: source["digest_kept"] for source in rows["vjepa2-vitl"]["sources"]}
    assert kept == {"huggingface": True, "meta": False}
    assert found["own"] == {str(echolung_home / "checkpoints" / "cardiac.safetensors"): 5}
    assert "random:vit_tiny" in found["random"]


@pytest.mark.parametrize("source", ["huggingface", "meta"])
def test_from_download_to_tokens(typed, published, echolung_home, source):
    code, shown, said = typed("encoders", "download", "tiny-jepa", "--from", source, "--yes")
    assert code == 0, said
    assert "Licence: MIT" in said
    assert "Cite: Nobody, 2026" in said
    assert "Next: echolung extract" in shown
    assert typed("data", "phantom", "--videos", "2", "--frames", "8", "--size", "48")[0] == 0
    dataset = next((echolung_home / "data").iterdir()).name
    words = ("--size", "32", "--frames", "4", "--segments", "1", "--device", "cpu", "--workers", "1")
    code, shown, said = typed("extract", "--dataset", dataset, "--encoder", "tiny-jepa", *words)
    assert code == 0, said

    from echolung.cache import TokenStore
    from echolung.encoders import save_encoder

    save_encoder(echolung_home / "source.safetensors", published.tiny())
    code, _, said = typed(
        "extract", "--dataset", dataset, "--encoder", str(echolung_home / "source.safetensors"), *words
    )
    assert code == 0, said
    stores = [TokenStore.open(path) for path in sorted((echolung_home / "stores").glob("*.zarr"))]
    assert len(stores) == 2
    ours, theirs = (store.tokens(range(2)) for store in stores)
    assert np.array_equal(ours, theirs)


def test_downloaded_twice(typed, published):
    typed("encoders", "download", "tiny-jepa")
    code, shown, _ = typed("encoders", "download", "tiny-jepa", "--json")
    assert code == 0
    (found,) = json.loads(shown)["weights"]
    assert found["downloaded"] is False
    assert found["checked_against"] == "the digest that echolung keeps"
    assert json.loads(Path(found["record"]).read_text())["licence"] == "MIT"


def test_checking(typed, published, echolung_home):
    assert typed("encoders", "check")[0] == 2
    assert "echolung encoders download tiny-jepa" in typed("encoders", "check", "tiny-jepa")[2]
    typed("encoders", "download", "tiny-jepa")
    code, shown, _ = typed("encoders", "check")
    assert code == 0
    assert "tensors, width 192" in shown
    file = echolung_home / "checkpoints" / "tiny-jepa" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    code, shown, _ = typed("encoders", "check", "tiny-jepa")
    assert code == 1
    assert "WRONG tiny-jepa" in shown
    assert "cut short" in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("download", "vjepa-vitl"), "Did you mean 'vjepa2-vitl'"),
        (("download", "coreecho"), "drive.google.com"),
        (("download", "vjepa2-vitl", "--from", "metta"), "Did you mean 'meta'"),
        (("check", "nothing"), "No published weights are called 'nothing'"),
    ],
)
def test_errors_say_what_to_do(typed, words, message):
    code, _, said = typed("encoders", *words)
    assert code == 2
    assert message in " ".join(said.split())


def test_an_encoder_that_was_not_downloaded(typed, published):
    typed("data", "phantom", "--videos", "2", "--frames", "8", "--size", "48")
    code, _, said = typed("extract", "--dataset", "phantom-lung", "--encoder", "vjepa2-vitl")
    said = " ".join(said.split())
    assert code == 2
    assert "echolung encoders download vjepa2-vitl" in said
    assert "1.30 GB, from huggingface, licence MIT" in said
