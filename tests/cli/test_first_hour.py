"""What somebody meets in the first hour: each mistake ends in a paragraph that says what to do, and in no traceback."""

import errno
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Typed = Callable[..., tuple[int, str, str]]
TINY = ("--size", "32", "--frames", "2", "--segments", "1", "--workers", "1")


def refused(typed: Typed, *words: object, code: int = 2) -> str:
    """Return what a command says that is refused: a paragraph, without a traceback or a library's name for it."""
    left, _, err = typed(*words)
    assert left == code, err
    assert "Error" in err and not any(word in err for word in ("Traceback", "Errno", "unexpected went wrong"))
    return " ".join(err.split())


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Return a folder with four "videos", folders of two frames, and no table."""
    for name in "abcd":
        (tmp_path / "own" / name).mkdir(parents=True)
        for frame in range(2):
            grey = np.full((32, 32), 40 * frame + ord(name), np.uint8)
            Image.fromarray(grey).save(tmp_path / "own" / name / f"{frame}.png")
    return tmp_path / "own"


def table(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    (folder / "videos.csv").write_bytes(text.encode(encoding))
    return folder / "videos.csv"


# ---- tables ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "row", "encoding"),
    [
        ("path;label;age", "{};{};4{},5", "utf-8"),  # a spreadsheet set to a language with decimal commas
        ("path\tlabel\tage", "{}\t{}\t4{},5", "utf-16"),  # "Unicode text"
        ("PATH , label,age", "{} , {} ,4{}.5", "utf-8-sig"),
    ],
)
def test_tables_as_spreadsheets_write_them_are_read(
    typed: Typed, own: Path, head: str, row: str, encoding: str
) -> None:
    lines = [head, *(row.format(name, "xy"[i % 2], i) for i, name in enumerate("abcd"))]
    code, out, err = typed("data", "check", table(own, "\n".join(lines), encoding))
    assert code == 0, err
    assert "label" in out and "age: 4 videos, 40.5 to 43.5" in out


BAD = {
    "Latin-1": (
        b"path,label\na,M\xfcller\n",
        r"not UTF-8 text (line 2). Save it as CSV in UTF-8 (in Excel: Save as, CSV UTF-8)",
    ),
    "no header": (b"a/v.mp4,x\nb/v.mp4,y\n", "add a first line such as `path,label`"),
    "file": (b"File,label\na,x\nb,y\n", "Rename the column 'File' to 'path'"),
    "quotes": (b'path,label\n"a,x\nb,y\n', "must end with one"),
    "backslash": (b"path,label\nsub\\a,x\nb,y\n", "Write / between folders"),
    "drive": (b"path,label\nC:\\data\\a,x\nb,y\n", "They are paths of Windows"),
    "typo": (b"path,label\na,x\nbb,y\n", "Did you mean 'b'?"),
    "workbook": (b"PK\x03\x04\x14\x00", "a spreadsheet or a zip by its content"),
    "one class": (b"path,label\na,x\nb,x\n", "one value only (x): nothing to learn"),
    "thousands": (b'path,n\na,"1,234"\nb,"2,345"\n', "a decimal comma or as thousands"),
    "empty": (b"", "is empty. It needs a header with `path`"),
}


@pytest.mark.parametrize(("data", "said"), BAD.values(), ids=BAD)
def test_tables_that_cannot_be_read(typed: Typed, own: Path, data: bytes, said: str) -> None:
    (own / "videos.csv").write_bytes(data)
    assert said in refused(typed, "data", "check", own / "videos.csv")


def test_classes_that_differ_in_capitals_are_pointed_out(typed: Typed, own: Path) -> None:
    code, out, _ = typed("data", "check", table(own, "path,label\na,Covid\nb,covid\nc,other\nd,other\n"))
    assert code == 0 and "'Covid' and 'covid'. Write them alike" in " ".join(out.split())


def test_what_is_named_instead_of_a_table(typed: Typed, own: Path) -> None:
    (own / "videos.xlsx").touch()
    assert "save videos.xlsx as CSV" in refused(typed, "data", "check", own / "videos.xlsx")
    assert "is a spreadsheet, not a CSV" in refused(typed, "data", "check", "table", "--data", own / "videos.xlsx")
    assert "the folder with --data" in refused(typed, "data", "check", own)
    table(own, "path\n")
    assert "Did you mean 'videos.csv'?" in refused(typed, "data", "check", own / "video.csv")


# ---- folders -----------------------------------------------------------------------------------------------------------


def test_a_dataset_that_is_still_packed(typed: Typed, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "EchoNet-Dynamic.zip", "w") as archive:
        archive.writestr("x", "x")
    for given in (tmp_path / "EchoNet-Dynamic.zip", tmp_path):
        assert f"unzip {tmp_path / 'EchoNet-Dynamic.zip'} -d" in refused(
            typed, "extract", "--dataset", "echonet-dynamic", "--data", given, "--encoder", "random:vit_tiny"
        )


def test_a_broken_link(typed: Typed, own: Path) -> None:
    (own / "v.mp4").symlink_to("/nowhere/v.mp4")
    assert "v.mp4 is a link to /nowhere/v.mp4, which is not there" in refused(
        typed, "data", "check", table(own, "path,label\nv.mp4,x\na,y\n")
    )


# ---- words -------------------------------------------------------------------------------------------------------------

TYPOS = {
    ("extract", "--dataset", "pocsu", "--encoder", "random:vit_tiny"): "Did you mean 'pocus'?",
    ("extract", "--dataset", "Camus", "--encoder", "random:vit_tiny"): "Did you mean 'camus'?",
    ("extrat",): "Did you mean 'extract'?",
    ("data", "chek", "pocus"): "Did you mean 'check'?",
    ("probe", "--tasks", "x"): "--task",
    ("probe",): "echolung extract --dataset NAME --encoder ENCODER",
    ("probe", "--dataset", "pocus"): "echolung extract --dataset pocus --encoder ENCODER",
    ("probe", "--store", "nix"): "`echolung cache list` names those there are",
    ("predict", "nix", "a.mp4"): "give that run's folder",
    ("data", "check", "table"): "`echolung data index FOLDER` begins one",
    ("report",): "Make one with echolung probe",
    ("compare", "a", "b"): "echolung leaderboard lists them",
    ("leaderboard",): "Runs are made by echolung probe",
    ("finetune",): "echolung extract --dataset NAME",
}


def test_a_csv_that_is_not_there_is_named_with_the_one_beside_it(typed: Typed, own: Path) -> None:
    there = table(own, "path,label\na,x\n")
    said = refused(typed, "probe", "--dataset", own / "video.csv")
    assert f"no file {own / 'video.csv'}" in said and f"Did you mean '{there.name}'?" in said
    assert f"echolung extract --dataset {there} --encoder ENCODER" in refused(typed, "probe", "--dataset", there)


@pytest.mark.parametrize(("words", "said"), TYPOS.items(), ids=map(" ".join, TYPOS))
def test_words_and_their_order(typed: Typed, words: tuple[str, ...], said: str) -> None:
    assert said in refused(typed, *words)


def test_options_of_extract(typed: Typed, own: Path) -> None:
    csv = table(own, "path,label\na,x\nb,y\n")
    extract = ("extract", "--dataset", csv, *TINY)
    assert "--encoder random:vit_small" in refused(typed, *extract)
    assert "Did you mean 'vit_tiny'?" in refused(typed, *extract, "--encoder", "random:vit_tinny")
    assert "Leave --view out" in refused(typed, *extract, "--encoder", "random:vit_tiny", "--view", "A4C")
    assert "float32" in refused(typed, *extract, "--encoder", "random:vit_tiny", "--precision", "fp16")


# ---- the machine -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "a smaller --batch"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory"),
            "a smaller --batch",
        ),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), "a smaller --batch"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/x/y"), "The disk is full (/x/y). Free some space"),
        (OSError(errno.EROFS, os.strerror(errno.EROFS), "/x/y"), "Set ECHOLUNG_HOME"),
        (OSError(errno.EFBIG, os.strerror(errno.EFBIG), "/x/y"), "larger than the disk or the account allows (/x/y)"),
    ],
    ids=["memory", "torch", "ENOMEM", "full", "read-only", "too large"],
)
def test_what_the_machine_lacks(
    typed: Typed, own: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("echolung.extraction.run.extract", fail)
    words = ("extract", "--dataset", table(own, "path,label\na,x\nb,y\n"), "--encoder", "random:vit_tiny", *TINY)
    code, _, err = typed(*words)
    assert code in (1, 2) and said in " ".join(err.split()) and "unexpected" not in err


def test_a_gpu_that_is_full(typed: Typed, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")

    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr("echolung.extraction.run.extract", fail)
    words = ("extract", "--dataset", table(own, "path,label\na,x\nb,y\n"), "--encoder", "random:vit_tiny", *TINY)
    assert "a smaller --batch" in refused(typed, *words, code=1)


def test_a_home_that_cannot_be_made(typed: Typed, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own / "file").touch()
    monkeypatch.setenv("ECHOLUNG_HOME", str(own / "file"))
    words = ("extract", "--dataset", table(own, "path,label\na,x\nb,y\n"), "--encoder", "random:vit_tiny", *TINY)
    assert "set the environment variable ECHOLUNG_HOME" in refused(typed, *words)


def test_no_other_dataset_is_offered_for_one_that_is_missing(typed: Typed, tmp_path: Path) -> None:
    (Path(os.environ["ECHOLUNG_HOME"]) / "data" / "camus").mkdir(parents=True)
    said = refused(typed, "data", "check", "pocus")
    assert "echolung data download pocus" in said and "Did you mean" not in said


def test_checkpoints_that_cannot_be(typed: Typed, own: Path) -> None:
    videos = table(own, "path,label\na,x\nb,y\n")
    (own / "n.onnx").write_bytes(b"\x08\x07\x12\x07pytorch")
    said = {r"C:\models\x.pt": "is a path of Windows", str(own / "n.onnx"): "is an ONNX model"}
    for encoder, words in said.items():
        assert words in refused(typed, "extract", "--dataset", videos, "--encoder", encoder, *TINY)


def test_labels_that_are_not_there(own: Path) -> None:
    from echolung.datasets.labels import read_rows
    from echolung.errors import InputError

    table(own, "path,label\na,x\n")
    with pytest.raises(InputError, match=r"own has videos\.csv"):
        read_rows(own / "hundred-things-q.csv", "video_id")


def test_a_column_that_never_changes_is_no_label(own: Path) -> None:
    from echolung.datasets import load_manifest

    manifest = load_manifest("table", table(own, "path,label,fps\na,x,20\nb,y,20.0\n"))
    assert list(manifest.tasks) == ["label"]
    assert any("fps says 20 on every row" in note for note in manifest.notes)
