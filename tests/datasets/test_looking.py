"""What is said of a folder that is not the dataset: what lies there, and a path or a command that helps."""

import zipfile
from pathlib import Path

import pytest

from echolung.datasets import DATASETS, load_manifest
from echolung.datasets.echonet_layout import write_dynamic
from echolung.datasets.looking import given_path, nearest
from echolung.errors import InputError

FOLDERS = [name for name in DATASETS if name != "table"]


@pytest.fixture
def far(tmp_path: Path) -> Path:
    """Return an empty folder with nothing near it."""
    folder = tmp_path / "a" / "b" / "c"
    folder.mkdir(parents=True)
    return folder


def message(name: str, root: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_manifest(name, root)
    return str(caught.value)


@pytest.mark.parametrize("name", FOLDERS)
def test_an_archive_in_the_folder_is_named_with_the_command_that_unpacks_it(name: str, far: Path) -> None:
    with zipfile.ZipFile(far / "the data.zip", "w") as archive:
        archive.writestr("x/readme.txt", "hello")
    text = message(name, far)
    assert "It holds the data.zip: unpack it first: " in text
    command = text.partition("unpack it first: ")[2].partition(". Then")[0]
    if command.startswith("unzip"):
        assert f"'{far / 'the data.zip'}'" in command  # a blank in it: quoted


@pytest.mark.parametrize(("file", "command"), [("e.zip", "unzip "), ("e.tar.gz", "tar xf "), ("e.7z", "7z x ")])
@pytest.mark.parametrize("name", ["pocus", "covid-blues", "camus", "echonet-dynamic", "hmc-qu"])
def test_an_archive_given_as_the_folder(name: str, file: str, command: str, far: Path) -> None:
    (far / file).write_bytes(b"PK\3\4")
    text = message(name, far / file)
    assert "is an archive, not a folder" in text and command in text and f"{far / 'e'}" in text


def test_one_level_off_is_said_with_the_path_that_works(far: Path) -> None:
    home = far / "EchoNet"
    write_dynamic(home, videos=2, frames=4, size=32)
    assert f"takes the folder of the dataset echonet-dynamic. Give the folder: --data {home}." in message(
        "echonet-dynamic", home / "FileList.csv"
    )
    video = next((home / "Videos").iterdir())
    assert f"Give the folder: --data {home}." in message("echonet-dynamic", video)
    (far / "other").mkdir()
    assert f"{home} would work: give it with --data {home}" in message("echonet-dynamic", far / "other")


def test_another_dataset_is_named(far: Path) -> None:
    write_dynamic(far, videos=2, frames=4, size=32)
    text = message("pocus", far)
    assert (
        f"looks like the dataset echonet-dynamic: name that one, as in: echolung data check echonet-dynamic --data {far}"
        in text
    )


@pytest.mark.parametrize("name", FOLDERS)
def test_where_nothing_helps_it_says_how_to_get_the_dataset(name: str, far: Path) -> None:
    assert any(
        word in message(name, far) for word in ("download", "agreement", "registration", "Kaggle", "data phantom")
    )


def test_a_pasted_path_is_read_as_meant(far: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = far / "my data"
    there.mkdir()
    monkeypatch.setenv("HOME", str(far))
    for text in (f'"{there}"', f"'{there}'", f" {there} ", f"\u201c{there}\u201d", f"file://{there}", "~/my data"):
        assert given_path(text) == there
    assert given_path(str(there).replace(" ", "\\ ")) == there
    odd = far / "'odd'"
    odd.mkdir()
    assert given_path(odd) == odd  # what is there is taken as it is


def test_a_path_that_is_not_there_is_compared_with_what_is(far: Path) -> None:
    (far / "CAMUS").mkdir()
    assert nearest(far / "CAMSU") == "Did you mean 'CAMUS'? "
    assert nearest(far / "CAMUSS" / "database_nifti").startswith(f"{far} is there, and has no 'CAMUSS'. Did you mean")
    assert nearest(Path(r"C:\Users\anna\CAMUS")).endswith("Under WSL the drive C: is /mnt/c: /mnt/c/Users/anna/CAMUS. ")
    (far / "link").symlink_to(far / "gone")
    assert "link" in (text := nearest(far / "link")) and f"a link to {far / 'gone'}, which is not there" in text
