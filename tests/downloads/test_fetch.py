"""Files from elsewhere: resumed, checked, never twice, never under their name before they are whole and right."""

import hashlib
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from echolung.downloads import fetch as module
from echolung.downloads import resume
from echolung.downloads.fetch import PARTIAL, RECORD, Remote, fetch, source_of
from echolung.errors import InputError, RunError

HOST = "example.org"


def body(size: int = 300_000, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def put(loopback: Any, path: str, content: bytes, host: str = HOST) -> None:
    file = loopback.root / host / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def remote(path: str, content: bytes | None, *hosts: str) -> Remote:
    urls = tuple(f"https://{host}/{path}" for host in hosts or (HOST,))
    if content is None:
        return Remote(path, urls)
    return Remote(path, urls, hashlib.sha256(content).hexdigest(), len(content))


def starts(loopback: Any, path: str, host: str = HOST) -> list[int]:
    """Return the first bytes that were asked for."""
    return [start for asked, start in loopback.asked if asked == f"{host}/{path}"]


def visible(folder: Path) -> set[str]:
    """Return the files of a folder that are not hidden."""
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and not str(path.relative_to(folder)).startswith(".")
    }


def test_what_comes_is_what_was_there_and_comes_once(loopback: Any, tmp_path: Path) -> None:
    contents = {f"a b/ü{i} +(1).mp4": body(1000 * i + 1, i) for i in range(9)}
    for path, content in contents.items():
        put(loopback, path, content)
    files = [remote(path, content) for path, content in contents.items()]
    counted: list[int] = []
    first = fetch(files, tmp_path / "data", advance=counted.append)
    assert first.downloaded == tuple(contents)
    assert not first.failed and not first.present and not first.unverified
    assert {path: (tmp_path / "data" / path).read_bytes() for path in contents} == contents
    assert visible(tmp_path / "data") == set(contents)
    assert sum(counted) == sum(map(len, contents.values()))
    assert not (tmp_path / "data" / PARTIAL).exists()

    again = fetch(files, tmp_path / "data", advance=counted.append)
    assert again.present == tuple(contents) and not again.downloaded
    assert len(loopback.asked) == len(contents)
    assert sum(counted) == 2 * sum(map(len, contents.values()))


def test_broken_connections_go_on_where_they_broke(loopback: Any, tmp_path: Path) -> None:
    content = body(500_000)
    put(loopback, "x.bin", content)
    loopback.break_after = 150_000
    counted: list[int] = []
    found = fetch([remote("x.bin", content)], tmp_path / "data", advance=counted.append)
    assert found.downloaded == ("x.bin",)
    assert (tmp_path / "data" / "x.bin").read_bytes() == content
    asked = starts(loopback, "x.bin")
    assert asked[0] == 0 and len(asked) >= 4 and asked == sorted(set(asked))
    assert sum(counted) == len(content)


def test_a_server_without_ranges_is_asked_for_the_whole_again(loopback: Any, tmp_path: Path) -> None:
    content = body(500_000)
    put(loopback, "x.bin", content)
    loopback.ranges, loopback.break_after, loopback.breaks = False, 200_000, 2
    counted: list[int] = []
    found = fetch([remote("x.bin", content)], tmp_path / "data", advance=counted.append)
    assert found.downloaded == ("x.bin",)
    assert (tmp_path / "data" / "x.bin").read_bytes() == content
    assert sum(counted) == len(content)


def test_a_connection_that_always_breaks_is_given_up_and_its_bytes_are_kept(loopback: Any, tmp_path: Path) -> None:
    content = body()
    put(loopback, "x.bin", content)
    loopback.ranges, loopback.break_after = False, 200_000
    found = fetch([remote("x.bin", content)], tmp_path / "data")
    assert "broke" in found.failed["x.bin"] or "breaks" in found.failed["x.bin"]
    assert not visible(tmp_path / "data")
    loopback.ranges, loopback.break_after = True, 0
    assert fetch([remote("x.bin", content)], tmp_path / "data").downloaded == ("x.bin",)
    assert starts(loopback, "x.bin")[-1] > 0


@pytest.mark.parametrize("tags", [True, False])
def test_a_file_that_changed_meanwhile_is_not_glued_together(loopback: Any, tmp_path: Path, tags: bool) -> None:
    old, new = body(300_000, 1), body(300_000, 2)
    put(loopback, "x.bin", old)
    loopback.tags, loopback.break_after, loopback.ranges = tags, 100_000, False
    assert fetch([remote("x.bin", new)], tmp_path / "data").failed
    put(loopback, "x.bin", new)
    loopback.break_after, loopback.ranges = 0, True
    assert fetch([remote("x.bin", new)], tmp_path / "data").downloaded == ("x.bin",)
    assert (tmp_path / "data" / "x.bin").read_bytes() == new


@pytest.mark.parametrize("tags", [True, False])
def test_without_a_known_digest_a_changed_file_is_not_glued_either(loopback: Any, tmp_path: Path, tags: bool) -> None:
    old, new = body(300_000, 1), body(300_000, 2)
    put(loopback, "x.bin", old)
    loopback.tags, loopback.break_after, loopback.ranges = tags, 100_000, False
    assert fetch([remote("x.bin", None)], tmp_path / "data").failed
    put(loopback, "x.bin", new)
    loopback.break_after, loopback.ranges = 0, True
    fetch([remote("x.bin", None)], tmp_path / "data")
    assert (tmp_path / "data" / "x.bin").read_bytes() == new


@pytest.mark.parametrize("seed", range(12))
def test_whatever_a_server_does_a_file_is_right_or_not_there(loopback: Any, tmp_path: Path, seed: int) -> None:
    """Two runs against a server that misbehaves at random, then one against a good one."""
    random = np.random.default_rng(seed)
    contents = {f"{i}.bin": body(int(random.integers(1, 400_000)), i) for i in range(6)}
    files = [remote(path, content if random.random() < 0.7 else None) for path, content in contents.items()]
    for path, content in contents.items():
        put(loopback, path, content)
    for _ in range(2):
        loopback.ranges, loopback.tags = bool(random.random() < 0.7), bool(random.random() < 0.7)
        loopback.break_after, loopback.breaks = int(random.integers(1, 300_000)), int(random.integers(-1, 4))
        loopback.wrong = {f"{HOST}/{file.path}" for file in files if file.sha256 and random.random() < 0.3}
        loopback.status = {f"{HOST}/{path}": 500 for path in contents if random.random() < 0.2}
        counted: list[int] = []
        found = fetch(files, tmp_path / "data", parallel=int(random.integers(1, 5)), advance=counted.append)
        assert {*found.present, *found.downloaded} == visible(tmp_path / "data") - {RECORD}
        assert not {*found.present, *found.downloaded} & set(found.failed)
        for path in visible(tmp_path / "data") - {RECORD}:
            assert (tmp_path / "data" / path).read_bytes() == contents[path]
    loopback.ranges = loopback.tags = True
    loopback.break_after, loopback.wrong, loopback.status = 0, set(), {}
    counted = []
    assert not fetch(files, tmp_path / "data", advance=counted.append).failed
    assert sum(counted) == sum(map(len, contents.values()))
    assert not (tmp_path / "data" / PARTIAL).exists()


def test_a_wrong_file_is_not_kept_and_the_next_place_is_asked(loopback: Any, tmp_path: Path) -> None:
    content = body()
    put(loopback, "x.bin", content)
    put(loopback, "x.bin", content, "mirror.example.org")
    loopback.wrong = {f"{HOST}/x.bin"}
    alone = fetch([remote("x.bin", content)], tmp_path / "alone")
    assert "another file under this name" in alone.failed["x.bin"]
    assert not visible(tmp_path / "alone")
    assert len(starts(loopback, "x.bin")) == 1
    both = fetch([remote("x.bin", content, HOST, "mirror.example.org")], tmp_path / "both")
    assert both.downloaded == ("x.bin",)
    assert (tmp_path / "both" / "x.bin").read_bytes() == content


def test_a_file_of_another_size_is_not_even_downloaded(loopback: Any, tmp_path: Path) -> None:
    put(loopback, "x.bin", body(200_000))
    found = fetch([remote("x.bin", body(300_000))], tmp_path / "data")
    assert "200,000 bytes, not of 300,000" in found.failed["x.bin"]


def test_a_web_page_or_a_pointer_is_no_file(loopback: Any, tmp_path: Path) -> None:
    put(loopback, "x.bin", body())
    put(loopback, "y.bin", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    loopback.page = {f"{HOST}/x.bin"}
    found = fetch([remote("x.bin", None), remote("y.bin", None)], tmp_path / "data")
    assert "web page" in found.failed["x.bin"]
    assert "git-lfs pointer" in found.failed["y.bin"]
    assert not visible(tmp_path / "data")


def test_statuses_are_told_apart(loopback: Any, tmp_path: Path) -> None:
    content = body(10)
    for name in ("busy", "forbidden", "down", "gone"):
        put(loopback, name, content)
    loopback.busy = {f"{HOST}/busy": 2}
    loopback.status = {f"{HOST}/forbidden": 403, f"{HOST}/down": 500, f"{HOST}/gone": 404}
    files = [remote(name, content) for name in ("busy", "forbidden", "down", "gone", "never")]
    found = fetch(files, tmp_path / "data")
    assert found.downloaded == ("busy",)
    assert found.absent == ("gone", "never")
    assert "no such file (404)" in found.failed["gone"]
    assert "does not let it be downloaded (403)" in found.failed["forbidden"]
    assert "answers 500" in found.failed["down"]
    assert len(starts(loopback, "down")) == resume.ATTEMPTS
    assert len(starts(loopback, "forbidden")) == 1


def test_a_present_file_that_is_wrong_is_named_and_left(loopback: Any, tmp_path: Path) -> None:
    content = body(1000)
    put(loopback, "x.bin", content)
    (tmp_path / "x.bin").write_bytes(b"mine")
    found = fetch([remote("x.bin", content)], tmp_path)
    assert "left as it is" in found.failed["x.bin"]
    assert (tmp_path / "x.bin").read_bytes() == b"mine"
    assert not loopback.asked
    repaired = fetch([remote("x.bin", content)], tmp_path, repair=True)
    assert repaired.downloaded == ("x.bin",)
    assert (tmp_path / "x.bin").read_bytes() == content
    assert (tmp_path / "x.bin.wrong").read_bytes() == b"mine"


def test_digests_not_kept_here_are_written_down_and_compared(loopback: Any, tmp_path: Path) -> None:
    content = body(1000)
    put(loopback, "a/x.bin", content)
    files = [remote("a/x.bin", None)]
    digest = hashlib.sha256(content).hexdigest()
    assert fetch(files, tmp_path).unverified == {"a/x.bin": digest}
    assert (tmp_path / RECORD).read_text() == f"{digest}  a/x.bin\n"
    assert fetch(files, tmp_path).present == ("a/x.bin",)
    (tmp_path / "a/x.bin").write_bytes(b"cut")
    assert "downloaded first" in fetch(files, tmp_path).failed["a/x.bin"]
    (tmp_path / "a/x.bin").unlink()
    put(loopback, "a/x.bin", body(1000, 5))
    assert "another file" in fetch(files, tmp_path).failed["a/x.bin"]
    put(loopback, "a/x.bin", content)
    assert fetch(files, tmp_path).downloaded == ("a/x.bin",)


def test_the_mirror_is_laid_out_as_wget_leaves_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ECHOLUNG_MIRROR", raising=False)
    url = "https://host.org/a/b%20c%2B.mp4"
    assert source_of(url) == url
    monkeypatch.setenv("ECHOLUNG_MIRROR", "http://intern:8080/copy/")
    assert source_of(url) == "http://intern:8080/copy/host.org/a/b%20c%2B.mp4"
    for mirror in (str(tmp_path), tmp_path.as_uri()):
        monkeypatch.setenv("ECHOLUNG_MIRROR", mirror)
        assert source_of(url) == str(tmp_path / "host.org/a/b c+.mp4")


def test_a_mirror_that_is_a_folder_serves_offline(
    loopback: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    content = body(1000)
    put(loopback, "x y.bin", content)
    file = Remote("x y.bin", (f"https://{HOST}/x%20y.bin",), hashlib.sha256(content).hexdigest(), 1000)
    monkeypatch.setenv("ECHOLUNG_MIRROR", str(loopback.root))
    monkeypatch.setenv("ECHOLUNG_OFFLINE", "1")
    found = fetch([file, remote("z", body(5))], tmp_path / "data")
    assert found.downloaded == ("x y.bin",) and found.absent == ("z",)
    assert (tmp_path / "data" / "x y.bin").read_bytes() == content
    assert not loopback.asked


def test_offline_says_what_is_missing_and_where_it_belongs(
    loopback: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    content = body(10)
    monkeypatch.setenv("ECHOLUNG_OFFLINE", "1")
    with pytest.raises(InputError) as error:
        fetch([remote("deep/x.bin", content)], tmp_path)
    for word in (
        "ECHOLUNG_OFFLINE",
        "ECHOLUNG_MIRROR",
        "deep/x.bin",
        str(tmp_path / "deep/x.bin"),
        f"https://{HOST}/deep/x.bin",
    ):
        assert word in str(error.value)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/x.bin").write_bytes(content)
    assert fetch([remote("deep/x.bin", content)], tmp_path).present == ("deep/x.bin",)
    assert not loopback.asked


def test_no_network_is_one_message(monkeypatch: pytest.MonkeyPatch, loopback: Any, tmp_path: Path) -> None:
    monkeypatch.setenv("ECHOLUNG_MIRROR", "http://127.0.0.1:9")  # the discard port: nobody listens
    with pytest.raises(RunError) as error:
        fetch([remote(f"{i}", body(10)) for i in range(50)], tmp_path)
    for word in ("refuses the connection", "ECHOLUNG_MIRROR", str(tmp_path / "0"), "50 files"):
        assert word in str(error.value)


def test_no_room_is_said_before_anything_is_downloaded(
    loopback: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(loopback, "x.bin", body(1000))
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: SimpleNamespace(free=999))
    with pytest.raises(InputError, match=r"1,000 bytes.*999 free"):
        fetch([remote("x.bin", body(1000))], tmp_path)
    assert not loopback.asked


def test_two_at_once_take_turns(loopback: Any, tmp_path: Path) -> None:
    contents = {f"{i}.bin": body(100_000, i) for i in range(6)}
    for path, content in contents.items():
        put(loopback, path, content)
    loopback.delay = 0.02
    said: list[str] = []
    results: list[Any] = []
    files = [remote(path, content) for path, content in contents.items()]
    both = [threading.Thread(target=lambda: results.append(fetch(files, tmp_path, log=said.append))) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert sorted(len(result.downloaded) for result in results) == [0, 6]
    assert len(loopback.asked) == 6
    assert len(said) == 1 and "waiting" in said[0]


def test_a_server_that_stalls_is_given_up(loopback: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(loopback, "x.bin", body(1000))
    loopback.delay = 5.0
    monkeypatch.setattr(resume, "TIMEOUT", (1.0, 0.05))
    found = fetch([remote("x.bin", body(1000))], tmp_path / "data")
    assert "does not answer" in found.failed["x.bin"]
    assert len(starts(loopback, "x.bin")) == resume.ATTEMPTS


SCRIPT = """
import json, signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in a shell's background ignores it
from echolung.downloads.fetch import fetch, Remote
files = [Remote(*row) for row in json.loads(sys.argv[2])]
try:
    fetch(files, Path(sys.argv[1]), parallel=2)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_in_the_middle_it_goes_on(loopback: Any, tmp_path: Path, how: signal.Signals) -> None:
    contents = {f"{i}.bin": body(400_000, i) for i in range(5)}
    for path, content in contents.items():
        put(loopback, path, content)
    files = [remote(path, content) for path, content in contents.items()]
    rows = json.dumps([[file.path, file.urls, file.sha256, file.size] for file in files])
    loopback.delay, loopback.crawl_after = 0.02, 1_000_000
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path), rows])
    while sum(loopback.sent.values()) < 1_000_000:
        time.sleep(0.01)
    process.send_signal(how)
    assert process.wait() == (130 if how == signal.SIGINT else -signal.SIGKILL)
    whole = {path for path in contents if (tmp_path / path).exists()}
    assert whole < set(contents)
    assert all((tmp_path / path).read_bytes() == contents[path] for path in whole)
    loopback.delay, loopback.crawl_after = 0.0, 0
    loopback.asked.clear()
    counted: list[int] = []
    found = fetch(files, tmp_path, advance=counted.append)
    assert set(found.present) == whole and set(found.downloaded) == set(contents) - whole
    assert all((tmp_path / path).read_bytes() == content for path, content in contents.items())
    assert any(start > 0 for _, start in loopback.asked)
    assert not {path for path, _ in loopback.asked} & {f"{HOST}/{path}" for path in whole}
    assert sum(counted) == 2_000_000
    assert visible(tmp_path) - {"internet"} >= set(contents)


def test_an_error_of_the_disk_stops_everything(loopback: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(loopback, "x.bin", body(1000))

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.Job, "get", full)
    with pytest.raises(OSError, match="No space left"):
        fetch([remote("x.bin", body(1000))], tmp_path / "data")


@pytest.mark.parametrize(("tags", "changed"), [(True, False), (True, True), (False, False)])
def test_whole_but_killed_before_it_was_checked_it_does_not_come_again(
    loopback: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tags: bool, changed: bool
) -> None:
    content = body(300_000, 1)
    put(loopback, "x.bin", content)
    loopback.tags = tags
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("echolung.downloads.job.check", interrupted)
        fetch([remote("x.bin", None)], tmp_path / "data")
    if changed:
        content = body(300_000, 2)
        put(loopback, "x.bin", content)
    counted: list[int] = []
    found = fetch([remote("x.bin", None)], tmp_path / "data", advance=counted.append)
    assert found.downloaded == ("x.bin",)
    assert (tmp_path / "data" / "x.bin").read_bytes() == content
    assert sum(counted) == len(content)
    again = [0] if changed or not tags else []
    assert starts(loopback, "x.bin") == [0, len(content), *again]


def interrupted(*args: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("known", [True, False])
def test_a_folder_in_the_place_of_a_file_is_no_file(loopback: Any, tmp_path: Path, known: bool) -> None:
    content = body(1000)
    put(loopback, "x.bin", content)
    files = [remote("x.bin", content if known else None)]
    (tmp_path / "x.bin").mkdir()
    found = fetch(files, tmp_path)
    assert found.failed == {"x.bin": "A folder lies where the file belongs. It was left as it is."}
    assert not found.present and not found.unverified and not (tmp_path / RECORD).exists()
    assert fetch(files, tmp_path, repair=True).downloaded == ("x.bin",)
    assert (tmp_path / "x.bin.wrong").is_dir()


def test_a_record_that_says_a_folder_is_not_compared_with(loopback: Any, tmp_path: Path) -> None:
    put(loopback, "x.bin", body(1000))
    (tmp_path / RECORD).write_text("a folder  x.bin\n")
    assert fetch([remote("x.bin", None)], tmp_path).downloaded == ("x.bin",)
