"""`echolung cache …` as a person meets it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

from echolung.cli import app, cache
from echolung.datasets import phantom_lung

EXTRACT = (
    "extract --dataset phantom-lung --encoder random:vit_tiny --frames 4 --size 32 --workers 1 --batch 4 "
    "--device cpu --data"
)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    phantom_lung.write(folder, videos=18, frames=8, size=48)
    return folder


@pytest.fixture(scope="module")
def extracted(phantoms, tmp_path_factory) -> Path:
    """Return an ECHOLUNG_HOME that holds a store of tokens."""
    home = tmp_path_factory.mktemp("extracted")
    command = [sys.executable, "-m", "echolung.cli", *EXTRACT.split(), str(phantoms)]
    subprocess.run(command, check=True, env={**os.environ, "ECHOLUNG_HOME": str(home)}, capture_output=True)
    return home


@pytest.fixture
def home(extracted, tmp_path, monkeypatch) -> Path:
    """Return a copy of that home, to break."""
    shutil.copytree(extracted, tmp_path / "home")
    monkeypatch.setenv("ECHOLUNG_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def store(home) -> Path:
    return next((home / "stores").glob("*.zarr"))


@pytest.fixture
def shell(monkeypatch, capsys):
    """Return a runner of echolung in this process: (exit code, stdout, stderr)."""

    def call(line: str, *more: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["echolung", *line.split(), *map(str, more)])
        monkeypatch.setattr(app, "_debug", False)
        with pytest.raises(SystemExit) as left:
            app.main()
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return int(left.value.code or 0), out, " ".join(err.split())

    return call


def arrays(path):
    group = zarr.open_group(path, mode="r")
    return {name: node[...] for name, node in group.members(max_depth=None) if isinstance(node, zarr.Array)}


def same(a, b):
    expected, found = arrays(a), arrays(b)
    assert expected.keys() == found.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    assert dict(zarr.open_group(a, mode="r").attrs) == dict(zarr.open_group(b, mode="r").attrs)


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


def test_verify_finds_and_repair_mends(shell, store, extracted, phantoms):
    code, out, err = shell("cache verify")
    assert code == 0, err
    assert "nothing is broken (36 of 36 clips complete" in out
    assert f"Store: {store.name}" in err
    flip(store / "tokens" / "c" / "7" / "0" / "0")
    (store / "tokens" / "c" / "20" / "0" / "0").unlink()
    flip(store / "frames" / "c" / "0" / "0")
    code, out, err = shell("cache verify", store.name)
    assert code == 1
    assert "3 things are broken" in out
    assert "tokens: the checksum does not match: bytes were altered (clip 7 of " in out
    assert "tokens: the file of a chunk is gone (clip 20 of " in out
    code, out, _ = shell("cache verify --json", store)
    assert code == 1
    assert [(d["array"], d["rows"]) for d in json.loads(out)["damages"] if d["array"] == "tokens"] == [
        ("tokens", [7]),
        ("tokens", [20]),
    ]
    code, out, err = shell("cache verify --repair --workers 1 --device cpu")
    assert code == 2
    assert "--data" in err or "phantom-lung" in err
    code, out, err = shell("cache verify --repair --workers 1 --device cpu --data", phantoms)
    assert code == 0, out + err
    assert "Encoding 2 clips again" in err
    assert "nothing is broken" in out
    same(extracted / "stores" / store.name, store)


def test_what_cannot_be_repaired(shell, store, phantoms):
    (store / "zarr.json").write_text("{ damaged")
    code, out, err = shell("cache verify", store)
    assert code == 1
    assert "zarr.json of the store is gone or cannot be read" in out
    code, out, err = shell("cache verify --repair --data", phantoms, store)
    assert code == 1
    assert "extract again" in err


def test_export_and_import(shell, home, store, phantoms, tmp_path, extracted):
    file = tmp_path / "a.h5"
    code, _, err = shell("cache export", file)
    assert code == 0, err
    assert f"{store.name} is in {file}" in err
    code, _, err = shell("cache export", file)
    assert code == 2 and "--force" in err
    code, _, err = shell("cache import", file)
    assert code == 2 and "There is something at" in err
    shutil.rmtree(store)
    code, _, err = shell("cache import", file)
    assert code == 0, err
    same(extracted / "stores" / store.name, store)
    code, _, err = shell(EXTRACT, phantoms)
    assert code == 0 and "is complete; nothing to do" in err
    code, out, err = shell("probe --cv 3 --probe knn --json")
    assert code == 0, err
    code, out, _ = shell("cache import --json --to", tmp_path / "b.zarr", file)
    assert json.loads(out)["store"] == str(tmp_path / "b.zarr")
    file.write_bytes(file.read_bytes()[:5000])
    code, _, err = shell("cache import --to", tmp_path / "c.zarr", file)
    assert code == 2 and "cut short" in err and not (tmp_path / "c.zarr").exists()


def test_a_store_at_a_url(shell, store, extracted, phantoms, tmp_path):
    url = "memory://bucket/stores/lungs.zarr"
    code, out, err = shell(EXTRACT, phantoms, "--store", url)
    assert code == 0, err
    assert f"nobody else writes {url}" in err
    code, _, err = shell(EXTRACT, phantoms, "--store", url)
    assert code == 0 and "lungs.zarr is complete; nothing to do" in err
    code, out, _ = shell("cache info --json", url)
    facts = json.loads(out)
    assert (facts["name"], facts["complete"]) == ("lungs.zarr", 36)
    size = sum(file.stat().st_size for file in store.rglob("*") if file.is_file())
    assert abs(facts["bytes"] - size) < 1000, "but for the command that each remembers"
    code, out, err = shell("cache verify", url)
    assert code == 0 and "nothing is broken (36 of 36" in out, err
    code, _, err = shell("cache export --store", url, tmp_path / "a.h5")
    assert code == 0, err
    code, _, err = shell("cache import --to", url, tmp_path / "a.h5")
    assert code == 2 and f"imported into a folder, not to {url}" in err
    code, _, err = shell("cache import --to", tmp_path / "b.zarr", tmp_path / "a.h5")
    assert code == 0, err
    found, expected = arrays(tmp_path / "b.zarr"), arrays(store)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    code, _, err = shell("cache remove --yes", url)
    assert code == 0 and "Removed lungs.zarr (36 clips," in err
    for line in ("cache info", "cache verify", "cache remove --yes"):
        code, _, err = shell(line, url)
        assert code == 2 and f"There is no token store at {url}" in err
    code, _, err = shell("cache info foo://bucket/a.zarr")
    assert code == 2 and "Protocol not known: foo" in err
    code, out, _ = shell("cache info --json", f"file://{store}")
    assert json.loads(out)["name"] == store.name


def test_import_where_somebody_writes(shell, store, tmp_path):
    from echolung.cache.locking import WriterLock, gate

    code, _, err = shell("cache export", tmp_path / "a.h5")
    assert code == 0, err
    place = tmp_path / "b.zarr"
    with WriterLock(place) as lock:
        with gate(place):
            lock.enter()
        code, _, err = shell("cache import --to", place, tmp_path / "a.h5")
        assert code == 2 and "Another process is writing b.zarr" in err and not place.exists()
    code, _, err = shell("cache import --to", place, tmp_path / "a.h5")
    assert code == 0, err


def test_list_fits_eighty_columns(shell, store, monkeypatch, phantoms):
    from rich.console import Console

    begun = store.with_name("begun.zarr")
    shutil.copytree(store, begun)
    group = zarr.open_group(begun)
    group.attrs["finished"] = False
    group["complete"][:] = np.arange(36) < 5
    code, _, err = shell(EXTRACT, phantoms, "--tokens", "none", "--store", store.with_name("pooled.zarr"))
    assert code == 0, err
    monkeypatch.setattr(cache, "out", lambda: Console(width=80))
    code, out, _ = shell("cache list")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80 and "…" not in out
    lines = {line.split()[0]: line for line in out.splitlines() if "×" in line}
    assert "5 of 36" in lines["begun"] and "unfinished" in out
    assert "pooled × 192" in lines["pooled"]
    assert "token_pool none" in out and "token_pool 1" in out
    assert "8 × 192" in lines[store.stem]
    code, out, _ = shell("cache list --json")
    size = {row["name"]: row["bytes"] for row in json.loads(out)}
    assert size[store.name] == sum(f.stat().st_size for f in store.rglob("*") if f.is_file())
    assert size["pooled.zarr"] < size[store.name]
    code, out, _ = shell("cache info pooled")
    assert "pooled rows only" in out
    code, _, err = shell("cache info")
    assert code == 2 and "several stores" in err
    code, _, err = shell("probe --dataset phantom-lung")
    assert code == 2 and "pooled.zarr (token_pool none)" in " ".join(err.split())


def test_remove(shell, home, store, tmp_path, monkeypatch):
    from echolung.cache.locking import WriterLock, gate

    foreign = tmp_path / "photos"
    foreign.mkdir()
    code, _, err = shell("cache remove --yes", store, foreign)
    assert code == 2 and "no token store" in err and store.exists()
    with WriterLock(store) as lock:
        with gate(store):
            lock.enter()
        code, _, err = shell("cache remove --yes", store.name)
        assert code == 2 and "Another process is writing" in err and store.exists()
    monkeypatch.setattr("typer.confirm", lambda *_, **__: False)
    code, _, err = shell("cache remove", store.name)
    assert code == 0 and "Kept" in err and store.exists()
    link = store.with_name("link.zarr")
    link.symlink_to(store)
    code, _, err = shell("cache remove --yes link")
    assert code == 0 and "the store stays at" in err and store.exists() and not link.is_symlink()
    (store / "zarr.json").write_text("{")  # damaged, and yet a store
    code, _, err = shell("cache remove --yes", store.stem)
    assert code == 0, err
    assert not list((home / "stores").iterdir())
    code, _, err = shell("cache remove --yes", store.name)
    assert code == 2 and "There is no token store at" in err
