"""What can be downloaded, and what is said of the rest; the real videos through a server that breaks."""

import hashlib
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from echolung.datasets import DATASETS, load_manifest
from echolung.downloads.data import POCUS_REVISION, SOURCES, remotes
from echolung.downloads.fetch import PARTIAL, fetch

POCUS_HOME = f"raw.githubusercontent.com/jannisborn/covid19_ultrasound/{POCUS_REVISION}"


def test_every_source_is_a_dataset_and_says_all() -> None:
    for name, source in SOURCES.items():
        assert name in DATASETS
        for text in (source.title, source.home, source.licence, source.citation):
            assert text
        assert source.home.startswith("https://")
        assert source.bibtex.startswith("@article{") and source.bibtex.count("{") == source.bibtex.count("}")
        assert bool(source.places) != bool(source.steps), "downloaded, or behind an agreement"
        assert bool(source.steps) == bool(source.layout)
    assert set(SOURCES) == {name for name in DATASETS if name != "table" and not name.startswith("phantom")}


@pytest.mark.parametrize("name", ["pocus", "covid-blues"])
def test_the_lists_are_whole(name: str) -> None:
    files = remotes(name)
    assert len({file.path for file in files}) == len(files)
    for file in files:
        assert bool(file.sha256) == bool(file.size)
        assert not file.sha256 or (len(file.sha256) == 64 and int(file.sha256, 16) >= 0)
        assert not file.path.startswith("/") and ".." not in file.path
        for url, place in zip(file.urls, SOURCES[name].places, strict=True):
            assert url.startswith(place)
            assert unquote(urlsplit(url).path).endswith(file.path)
            assert not set(" +()") & set(url), "a URL has these quoted"
    assert SOURCES[name].perhaps <= {file.path for file in files if not file.sha256}


def test_pocus_is_one_revision_and_its_videos_alone() -> None:
    files = {file.path: file for file in remotes("pocus")}
    videos = [path for path in files if path.startswith("data/pocus_videos/")]
    assert len(videos) == 135
    assert set(files) - set(videos) == {"data/README.md", "data/dataset_metadata.csv"}
    assert all(POCUS_REVISION in file.urls[0] for file in files.values())
    assert sum(not files[path].sha256 for path in videos) == 4


def test_the_published_pocus_videos_are_all_listed() -> None:
    from echolung.datasets.pocus import published_folds

    listed = {Path(file.path).stem for file in remotes("pocus") if "/convex/" in file.path}
    assert set(published_folds()) <= listed


def test_covid_blues_lists_what_severity_names(real_data: Path) -> None:
    import pandas as pd

    named = pd.read_csv(real_data / "COVID-BLUES" / "severity.csv")["video_file"]
    listed = [file.path for file in remotes("covid-blues") if file.path.startswith("lus_videos/")]
    assert listed == sorted(f"lus_videos/{name}.mp4" for name in named)
    assert len(listed) == 362


@pytest.mark.parametrize(("name", "folder"), [("pocus", "covid19_ultrasound"), ("covid-blues", "COVID-BLUES")])
def test_the_digests_are_those_of_the_videos(real_data: Path, name: str, folder: str) -> None:
    for file in remotes(name):
        if file.sha256 and (real_data / folder / file.path).stat().st_size < 200_000:
            content = (real_data / folder / file.path).read_bytes()
            assert (hashlib.sha256(content).hexdigest(), len(content)) == (file.sha256, file.size)


SCRIPT = """
import sys
from pathlib import Path
from echolung.downloads.data import remotes
from echolung.downloads.fetch import fetch
fetch(remotes("pocus"), Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_pocus_over_a_bad_line(loopback: Any, real_data: Path, echolung_home: Path) -> None:
    """All real POCUS files: killed, connections that break, one wrong file; every byte is right and comes once."""
    home = loopback.root / POCUS_HOME
    home.parent.mkdir(parents=True)
    home.symlink_to(real_data / "covid19_ultrasound")
    files = remotes("pocus")
    wrong = "data/pocus_videos/convex/Reg_pat1Image_133410.mpeg"
    loopback.wrong = {f"{POCUS_HOME}/{wrong}"}
    loopback.break_after, loopback.breaks = 300_000, 2
    folder = echolung_home / "data" / "pocus"

    loopback.delay = 0.01
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder)])
    while sum(loopback.sent.values()) < 20_000_000:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    loopback.delay = 0.0

    found = fetch(files, folder)
    assert set(found.failed) == {
        wrong,
        *SOURCES["pocus"].perhaps,
    }
    assert set(found.absent) == SOURCES["pocus"].perhaps
    assert not (folder / wrong).exists()

    loopback.wrong = set()
    needed = [file for file in files if file.path not in SOURCES["pocus"].perhaps]
    repaired = fetch(needed, folder)
    assert repaired.downloaded == (wrong,) and not repaired.failed
    for file in needed:
        assert (folder / file.path).read_bytes() == (real_data / "covid19_ultrasound" / file.path).read_bytes()
    assert not (folder / PARTIAL).exists()
    assert list(repaired.unverified) == ["data/dataset_metadata.csv"]

    # Each first byte of a file was asked for once: what had come, before the kill as well, was never sent again
    # (but for the wrong file, and for what was on the way at the kill).
    begun = Counter(path for path, start in loopback.asked if not start and path.startswith(POCUS_HOME))
    again = {path for path, count in begun.items() if count > 1} - {f"{POCUS_HOME}/{wrong}"}
    assert len(again) <= 4 + len(SOURCES["pocus"].perhaps)
    sizes = sum(file.size for file in needed)
    assert sum(loopback.sent.values()) < sizes * 1.1

    before = len(loopback.asked)
    assert not fetch(needed, folder).downloaded
    assert len(loopback.asked) == before
    assert len(load_manifest("pocus").videos) == 119
