"""Room on the disk, of things that are not there yet as well."""

import shutil
from pathlib import Path

from echolung.machine import free_disk, nearest_folder


def test_what_is_not_there_yet_will_be_on_the_disk_of_the_folder_above(tmp_path: Path, monkeypatch) -> None:
    assert nearest_folder(tmp_path) == tmp_path
    assert nearest_folder(tmp_path / "a" / "b.zarr") == tmp_path
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path)
    assert nearest_folder(Path("a/b/c")) == tmp_path / "a"
    total = shutil.disk_usage(tmp_path).total
    assert 0 < free_disk(tmp_path / "a" / "b" / "c") <= total
