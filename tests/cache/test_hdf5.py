"""A store through one HDF5 file and back is the same store; a file that is damaged gives none."""

import shutil

import h5py
import numpy as np
import pytest
import zarr

from echolung.cache import TokenStore
from echolung.cache.hdf5 import export_store, import_store, stored_name
from echolung.cache.verify import verify
from echolung.errors import InputError, RunError

KEY = {"encoder": {"weights": "sha256:1", "größe": 0.1}, "clips": {"size": 32, "fps": None}}


def everything(path):
    """Return every array and every attribute of a store."""
    group = zarr.open_group(path, mode="r")
    arrays = {name: node[...] for name, node in group.members(max_depth=None) if isinstance(node, zarr.Array)}
    return arrays, {"": dict(group.attrs), **{name: dict(group[name].attrs) for name in ("rows", "manifest")}}


def same(a, b):
    (arrays, attributes), (others, other_attributes) = everything(a), everything(b)
    assert attributes == other_attributes
    assert arrays.keys() == others.keys()
    for name in arrays:
        assert arrays[name].dtype == others[name].dtype, name
        np.testing.assert_array_equal(arrays[name], others[name], err_msg=name)  # NaN equals NaN


@pytest.fixture(params=["plain", "sharded", "no preview", "pooled only"])
def made(request, create, block, tmp_path):
    """Return a finished store of each kind: 10 clips in blocks of 4; clips 6 and 7 are of an unreadable video."""
    options = {
        "sharded": {"sharded": True},
        "no preview": {"preview": False},
        "pooled only": {"tokens": 0, "grid": (0, 0, 0)},
    }
    store = create(tmp_path / "a.zarr", key=KEY, **options.get(request.param, {}))
    for start, count in ((0, 4), (4, 4), (8, 2)):
        store.write(block(start, count, errors=["", "", "nö frames", "nö frames"] if start == 4 else None))
    store.finish()
    return store


def test_round_trip(made, tmp_path):
    counted = []
    export_store(made.path, tmp_path / "a.h5", advance=counted.append)
    assert sum(counted) == 10
    imported = import_store(tmp_path / "a.h5", tmp_path / "home" / "b.zarr")
    same(made.path, imported.path)
    assert imported.key == KEY and imported.finished
    assert stored_name(tmp_path / "a.h5") == "a.zarr"
    assert not verify(imported.path).damages
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5", "a.zarr", "home"]
    assert [p.name for p in (tmp_path / "home").iterdir()] == ["b.zarr"]
    export_store(imported.path, tmp_path / "b.h5")
    same(import_store(tmp_path / "b.h5", tmp_path / "c.zarr").path, made.path)


def test_any_program_that_reads_hdf5_reads_it(store, tmp_path):
    export_store(store.path, tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file["tokens"][3], store.tokens([3])[0])
        assert file["tokens"].chunks == (1, 4, 6) and file["tokens"].fletcher32
        assert np.isnan(file["tokens"][6]).all()
        assert file["rows/video_id"].asstr()[:].tolist() == store.rows["video_id"].tolist()


def test_a_flipped_byte_gives_an_error_or_the_same_store(store, tmp_path):
    file = tmp_path / "a.h5"
    export_store(store.path, file)
    content, random = file.read_bytes(), np.random.default_rng(0)
    with h5py.File(file) as source:  # data; the rest at random
        data = [
            source["tokens"].id.get_chunk_info(3).byte_offset + 5,
            source["pooled"].id.get_chunk_info(0).byte_offset,
        ]
    found = 0
    for at in [*data, *random.integers(0, len(content), 40)]:
        flipped = bytearray(content)
        flipped[at] ^= 1 << int(random.integers(8))
        file.write_bytes(flipped)
        try:
            imported = import_store(file, tmp_path / "b.zarr")
        except InputError:
            found += 1
            assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5", "a.zarr"]
        else:
            same(store.path, imported.path)
            shutil.rmtree(imported.path)
    assert found >= 2


def test_files_that_cannot_be_imported(store, tmp_path):
    file, to = tmp_path / "a.h5", tmp_path / "b.zarr"
    with pytest.raises(InputError, match="There is no file"):
        import_store(file, to)
    file.write_text("no HDF5")
    with pytest.raises(InputError, match="is no HDF5 file, or it was cut short"):
        import_store(file, to)
    with h5py.File(file, "w") as foreign:
        foreign["x"] = [1, 2]
    with pytest.raises(InputError, match="none that `echolung cache export` wrote"):
        import_store(file, to)
    file.unlink()
    export_store(store.path, file)
    content = file.read_bytes()
    for length in (100, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(InputError, match="cut short"):
            import_store(file, to)
    file.write_bytes(content)
    with pytest.raises(InputError, match="There is something at"):
        import_store(file, store.path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5", "a.zarr"]


def test_stores_that_are_not_exported(store, create, tmp_path):
    file = tmp_path / "a.h5"
    with pytest.raises(InputError, match="its extraction was stopped half-way"):
        export_store(create(tmp_path / "begun.zarr").path, file)
    file.write_text("mine")
    with pytest.raises(InputError, match="--force"):
        export_store(store.path, file)
    assert file.read_text() == "mine"
    export_store(store.path, file, force=True)
    same(import_store(file, tmp_path / "b.zarr").path, store.path)
    chunk = store.path / "tokens" / "c" / "3" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"x")
    before = file.read_bytes()
    with pytest.raises(RunError, match=r"is damaged \(tokens: "):
        export_store(store.path, file, force=True)
    assert file.read_bytes() == before
    with pytest.raises(InputError, match="There is no folder"):
        export_store(TokenStore.open(tmp_path / "b.zarr").path, tmp_path / "nowhere" / "a.h5")
