"""Phantoms in any layout: what they may replace, and that they are known for what they are."""

import shutil
from pathlib import Path

import pytest

from echolung.datasets import echonet_layout, load_manifest, phantom_heart, phantom_lung
from echolung.datasets.phantom_files import MARKER, holds_phantoms
from echolung.errors import InputError

INSIDE = Path("pediatric_echo_avi") / "pediatric_echo_avi"


def test_phantoms_from_the_command_line(tmp_path: Path, echolung_home: Path) -> None:
    from typer.testing import CliRunner

    from echolung.cli.data.commands import app

    runner, small = CliRunner(), ["--videos", "2", "--frames", "4", "--size", "32"]
    for layout in ("phantom-lung", "phantom-heart", "echonet-dynamic", "echonet-pediatric", "camus", "hmc-qu"):
        done = runner.invoke(app, ["phantom", "--layout", layout, *small])
        assert done.exit_code == 0, done.output
        both = {"view": "both"} if layout in ("camus", "hmc-qu") else {}
        assert len(load_manifest(layout, **both).videos) == 2, "at home, where the dataset is looked for"
    done = runner.invoke(app, ["phantom", "--layout", "lvad", *small])
    assert done.exit_code == 0, done.output
    assert len(load_manifest("table", echolung_home / "data" / "lvad" / "labels.csv").videos) == 2
    runner.invoke(app, ["phantom", str(tmp_path / "x"), "--layout", "echonet-dynamic", *small])
    assert len(load_manifest("echonet-dynamic", tmp_path / "x").videos) == 2
    wrong = runner.invoke(app, ["phantom", "--layout", "echonet-dynamik"])
    assert isinstance(wrong.exception, InputError) and "Did you mean 'echonet-dynamic'?" in str(wrong.exception)


# ---- phantoms never over what is real ---------------------------------------------------------------------------------

SMALL = {"videos": 2, "frames": 4, "size": 32}


@pytest.mark.parametrize(
    "layout", ["echonet-dynamic", "echonet-pediatric", "phantom-heart", "phantom-lung", "camus", "hmc-qu", "lvad"]
)
def test_phantoms_never_replace_a_real_dataset(layout: str, tmp_path: Path, echolung_home: Path) -> None:
    from typer.testing import CliRunner

    from echolung.cli.data.commands import app

    inside = {"echonet-dynamic": Path(), "echonet-pediatric": INSIDE / "A4C"}.get(layout, Path())
    real = echolung_home / "data" / layout
    (real / inside).mkdir(parents=True)
    (real / inside / "FileList.csv").write_text("of patients")
    line = ["phantom", "--layout", layout, "--videos", "2", "--frames", "4", "--size", "32"]
    refused = CliRunner().invoke(app, line)
    assert isinstance(refused.exception, InputError) and "did not write" in str(refused.exception)
    assert str(real) in str(refused.exception) and "empty folder" in str(refused.exception)
    assert [file.name for file in real.rglob("*") if file.is_file()] == ["FileList.csv"], "nothing was added"
    assert (real / inside / "FileList.csv").read_text() == "of patients"


def test_phantoms_replace_phantoms_until_something_else_is_put_over_them(tmp_path: Path) -> None:
    for write, table in ((echonet_layout.write_dynamic, "."), (echonet_layout.write_pediatric, INSIDE / "A4C")):
        root = tmp_path / write.__name__
        root.mkdir()  # empty will do
        write(root, **SMALL)
        first = (root / table / "FileList.csv").read_bytes()
        write(root, **SMALL, seed=1)
        assert (root / table / "FileList.csv").read_bytes() != first
        (root / table / "FileList.csv").write_text("of patients")
        with pytest.raises(InputError, match=r"FileList\.csv there is not the table that came with them"):
            write(root, **SMALL)
        assert (root / table / "FileList.csv").read_text() == "of patients"


def test_a_dataset_unpacked_over_an_interrupted_run_is_safe(tmp_path: Path) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        echonet_layout.write_dynamic(tmp_path, **SMALL, progress=interrupt)
    assert holds_phantoms(tmp_path)
    (tmp_path / "FileList.csv").write_text("of patients")
    assert not holds_phantoms(tmp_path)
    with pytest.raises(InputError, match="Nothing was touched"):
        echonet_layout.write_dynamic(tmp_path, **SMALL)


def test_a_folder_of_phantoms_without_a_marker_is_known_by_its_table(tmp_path: Path) -> None:
    for module in (phantom_heart, phantom_lung):
        root = tmp_path / module.__name__
        module.write(root, **SMALL)
        (root / MARKER).unlink()  # as written before there was one
        module.write(root, **SMALL)
        assert (root / MARKER).is_file() and len(module.load(root).videos) == 2


def test_what_is_phantoms_and_what_is_real(dynamic: Path, pediatric: Path, tmp_path: Path) -> None:
    assert holds_phantoms(dynamic) and holds_phantoms(pediatric)
    assert holds_phantoms(pediatric.parent), "from above"
    moved = tmp_path / "elsewhere"
    shutil.copytree(pediatric / INSIDE, moved / "new")
    assert not holds_phantoms(moved), "no marker came along"
    shutil.copytree(pediatric / INSIDE / "A4C", pediatric / "A4C")
    assert not holds_phantoms(pediatric), "a second copy beside them, which no marker knows"
    (dynamic / MARKER).unlink()
    assert not holds_phantoms(dynamic)
    assert not holds_phantoms(tmp_path / "nowhere")


def test_fewer_videos_leave_no_table_of_the_other_view(tmp_path: Path) -> None:
    echonet_layout.write_pediatric(tmp_path, **SMALL)
    echonet_layout.write_pediatric(tmp_path, **{**SMALL, "videos": 1})
    assert len(load_manifest("echonet-pediatric", tmp_path).videos) == 1
