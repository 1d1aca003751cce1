"""`echolung data download`: into ECHOLUNG_HOME, with licence and citation; what is behind an agreement; what goes wrong."""

import importlib.util
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from echolung.downloads.data import POCUS_REVISION, SOURCES

spec = importlib.util.spec_from_file_location(
    "echolung_tests_downloads", Path(__file__).parents[1] / "downloads" / "conftest.py"
)
conftest = importlib.util.module_from_spec(spec)
spec.loader.exec_module(conftest)
loopback = conftest.loopback

HOME = f"raw.githubusercontent.com/jannisborn/covid19_ultrasound/{POCUS_REVISION}"
GATED = [name for name, source in SOURCES.items() if source.steps]
Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def small(loopback: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a server with a POCUS of three files, one of them without a kept digest, and one that may be absent."""
    import hashlib

    from echolung.downloads import data
    from echolung.downloads.remote import Remote

    contents = {"data/dataset_metadata.csv": b"a,b\n", "data/pocus_videos/convex/Cov_[x] é.mp4": b"video" * 1000}
    for path, content in contents.items():
        file = loopback.root / HOME / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    perhaps = sorted(SOURCES["pocus"].perhaps)[0]
    url = SOURCES["pocus"].places[0]
    digests = {path: hashlib.sha256(content).hexdigest() for path, content in contents.items() if "mp4" in path}
    files = [
        Remote(path, (url + data.quote(path),), digests.get(path, ""), len(contents[path]) if path in digests else 0)
        for path in contents
    ] + [Remote(perhaps, (url + perhaps,))]
    monkeypatch.setattr(data, "remotes", lambda name: files)
    return loopback


def test_into_the_home_with_licence_and_citation(small: Any, typed: Typed, echolung_home: Path) -> None:
    code, stdout, stderr = typed("data", "download", "pocus")
    folder = echolung_home / "data" / "pocus"
    assert code == 0
    assert SOURCES["pocus"].licence in stderr and SOURCES["pocus"].citation in stderr
    assert stderr.index("Licence") < stderr.index("3 files")
    assert "2 downloaded" in stdout and "echolung data check pocus" in stdout
    assert "Not checked" in stdout and "data/dataset_metadata.csv" in stdout
    assert "Not had" in stdout and sorted(SOURCES["pocus"].perhaps)[0] in stdout
    about = (folder / "ABOUT.txt").read_text("utf-8")
    assert SOURCES["pocus"].licence in about and SOURCES["pocus"].citation in about
    assert (folder / "citation.bib").read_text("utf-8") == SOURCES["pocus"].bibtex
    assert (folder / "data/pocus_videos/convex/Cov_[x] é.mp4").read_bytes() == b"video" * 1000

    asked = len(small.asked)
    code, stdout, _ = typed("data", "download", "pocus", "--yes", "--json")
    result = json.loads(stdout)
    assert code == 0 and not result["downloaded"] and not result["failed"]
    assert result["not_published"] == [sorted(SOURCES["pocus"].perhaps)[0]]
    assert len(small.asked) == asked + 1, "only the file that may be absent is asked for again"


def test_a_wrong_file_is_named_with_what_to_do(small: Any, typed: Typed, tmp_path: Path) -> None:
    bad = "data/pocus_videos/convex/Cov_[x] é.mp4"
    small.wrong = {f"{HOME}/{bad}"}
    folder = tmp_path / "my data"
    code, stdout, _ = typed("data", "download", "pocus", "--to", folder, "--parallel", 1)
    assert code == 1
    assert bad in stdout and "another file under this name" in stdout and "same command again" in stdout
    assert not (folder / bad).exists()
    small.wrong = set()
    code, stdout, _ = typed("data", "download", "pocus", "--to", folder)
    assert code == 0
    assert f"--data '{folder}'" in stdout

    (folder / bad).write_bytes(b"mine")
    code, stdout, _ = typed("data", "download", "pocus", "--to", folder)
    assert code == 1 and "--repair" in stdout
    assert typed("data", "download", "pocus", "--to", folder, "--repair")[0] == 0
    assert (folder / bad).read_bytes() == b"video" * 1000
    assert (folder / f"{bad}.wrong").read_bytes() == b"mine"


def test_where_no_place_has_the_files_running_again_is_not_advised(
    small: Any, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    (small.root / HOME / "data/dataset_metadata.csv").unlink()
    code, stdout, _ = typed("data", "download", "pocus")
    said = " ".join(stdout.split())
    assert code == 1 and "1 file missing or wrong" in said and "running this again will not help" in said
    assert "Complete the mirror http://127.0.0.1" in said and "same command again" not in said
    small.wrong = {f"{HOME}/data/pocus_videos/convex/Cov_[x] é.mp4"}
    assert "same command again" in " ".join(typed("data", "download", "pocus", "--to", small.root / "to")[1].split())


def test_no_network_is_one_paragraph(small: Any, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHOLUNG_MIRROR", "http://127.0.0.1:9")
    code, stdout, stderr = typed("data", "download", "pocus")
    assert code == 1 and not stdout
    assert stderr.count("Error:") == 1
    assert "ECHOLUNG_MIRROR" in stderr and "by hand" in stderr


def test_with_everything_there_no_network_is_needed(small: Any, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    assert typed("data", "download", "pocus")[0] == 0
    monkeypatch.setenv("ECHOLUNG_OFFLINE", "1")
    code, stdout, _ = typed("data", "download", "pocus")
    assert code == 0 and "2 were there" in stdout


def test_the_urls_are_printed_for_a_mirror(small: Any, typed: Typed, echolung_home: Path) -> None:
    code, stdout, _ = typed("data", "download", "pocus", "--urls")
    assert code == 0
    assert stdout.splitlines()[1] == f"https://{HOME}/data/pocus_videos/convex/Cov_%5Bx%5D%20%C3%A9.mp4"
    assert not small.asked and not any(echolung_home.iterdir())


def test_offline_is_refused_with_what_to_do(small: Any, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHOLUNG_OFFLINE", "1")
    code, _, stderr = typed("data", "download", "pocus")
    assert code == 2
    assert "ECHOLUNG_OFFLINE" in stderr and "ECHOLUNG_MIRROR" in stderr
    assert not small.asked


@pytest.mark.parametrize("name", GATED)
def test_behind_an_agreement_it_says_what_to_do(typed: Typed, echolung_home: Path, name: str) -> None:
    code, stdout, stderr = typed("data", "download", name)
    assert code == 2
    assert "Error" not in stderr
    for text in (SOURCES[name].home, str(echolung_home / "data" / name), f"echolung data check {name}"):
        assert text in stdout
    for step in SOURCES[name].steps:
        assert step in " ".join(stdout.split())
    assert SOURCES[name].citation in " ".join(stdout.split())
    assert not (echolung_home / "data").exists()
    code, stdout, _ = typed("data", "download", name, "--json")
    assert code == 2
    assert json.loads(stdout)["agreement"] is True


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pocu", "Did you mean 'pocus'?"),
        ("phantom-lung", "echolung data phantom --layout phantom-lung"),
        ("table", "your own videos"),
    ],
)
def test_other_names_lead_somewhere(typed: Typed, name: str, words: str) -> None:
    code, _, stderr = typed("data", "download", name)
    assert code == 2 and words in stderr


def test_of_files_that_may_be_missing_those_that_are_there_are_had(
    small: Any, typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from echolung.downloads import data
    from echolung.downloads.remote import Remote

    there, missing = sorted(SOURCES["pocus"].perhaps)[0], "data/more.csv"
    more = Remote(missing, (SOURCES["pocus"].places[0] + missing,))
    files = [*data.remotes("pocus"), more]
    monkeypatch.setattr(data, "remotes", lambda name: files)
    source = replace(SOURCES["pocus"], perhaps=frozenset({there, missing}))
    monkeypatch.setitem(SOURCES, "pocus", source)
    (small.root / HOME / there).parent.mkdir(parents=True, exist_ok=True)
    (small.root / HOME / there).write_bytes(b"optional")
    assert typed("data", "download", "pocus", "--to", tmp_path / "to")[0] == 0
    monkeypatch.setenv("ECHOLUNG_OFFLINE", "1")
    code, stdout, _ = typed("data", "download", "pocus", "--to", tmp_path / "to", "--json")
    assert code == 0
    assert json.loads(stdout)["not_published"] == [missing]


def test_files_of_their_own_called_as_licence_or_citation_are_left(small: Any, typed: Typed, tmp_path: Path) -> None:
    (tmp_path / "ABOUT.txt").write_bytes(b"\xff mine")
    code, stdout, stderr = typed("data", "download", "pocus", "--to", tmp_path)
    assert code == 0
    assert (tmp_path / "ABOUT.txt").read_bytes() == b"\xff mine"
    assert (tmp_path / "citation.bib").read_text("utf-8") == SOURCES["pocus"].bibtex
    assert " ".join(stderr.split()).endswith("as it says something else than licence and citation: ABOUT.txt.")
    assert "are in ABOUT.txt" not in stdout
    (tmp_path / "ABOUT.txt").unlink()
    for _ in range(2):
        code, stdout, stderr = typed("data", "download", "pocus", "--to", tmp_path)
        assert code == 0 and "Left as found" not in stderr and "are in ABOUT.txt" in stdout


@pytest.mark.parametrize("all_gone", [False, True])
def test_licence_and_citation_come_with_the_first_file(
    small: Any, typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, all_gone: bool
) -> None:
    small.status = {f"{HOME}/data/dataset_metadata.csv": 404}
    if all_gone:
        small.status[f"{HOME}/data/pocus_videos/convex/Cov_[x] é.mp4"] = 404
    assert typed("data", "download", "pocus", "--to", tmp_path / "to")[0] == 1
    assert (tmp_path / "to" / "ABOUT.txt").exists() == (not all_gone)
    monkeypatch.setenv("ECHOLUNG_MIRROR", "http://127.0.0.1:9")
    assert typed("data", "download", "pocus", "--to", tmp_path / "other")[0] == 1
    assert not (tmp_path / "other" / "ABOUT.txt").exists()
