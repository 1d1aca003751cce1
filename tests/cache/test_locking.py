"""Who may write beside whom."""

import subprocess
import sys

import pytest

from echolung.cache.locking import WriterLock, gate, writers
from echolung.errors import InputError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a[1].zarr"


def test_parts_of_one_number_go_together(path):
    first, second = WriterLock(path, 1, 3), WriterLock(path, 2, 3)
    with gate(path):
        assert first.enter() and not second.enter()
        assert writers(path) == ["1-of-3", "2-of-3"]
    with gate(path):
        assert not first.leave()
        assert second.leave()
        assert writers(path) == []
    assert [p.name for p in path.parent.iterdir()] == ["a[1].zarr.lock"]


@pytest.mark.parametrize(
    ("held", "asked", "named"),
    [
        ((1, 1), (1, 1), "writing a[1].zarr. Wait"),
        ((1, 2), (1, 2), "writing a[1].zarr (part 1/2). Wait"),
        ((1, 2), (1, 3), "writing a[1].zarr (part 1/2). Wait"),
        ((1, 2), (1, 1), "writing a[1].zarr (part 1/2). Wait"),
        ((1, 1), (2, 2), "writing a[1].zarr. Wait"),
        ((1, 2), (1, 12), "writing a[1].zarr (part 1/2). Wait"),
    ],
)
def test_what_would_share_blocks_is_refused(path, held, asked, named):
    with WriterLock(path, *held) as one, WriterLock(path, *asked) as two:
        assert one.enter()
        with pytest.raises(InputError) as caught:
            two.enter()
        assert named in str(caught.value)
        assert one.leave() and two.enter()


def test_a_lock_goes_with_its_process(path):
    script = (
        "import sys\nfrom pathlib import Path\nfrom echolung.cache.locking import WriterLock\n"
        "lock = WriterLock(Path(sys.argv[1]), 1, 2)\nlock.enter()\nprint('in', flush=True)\nsys.stdin.read()"
    )
    process = subprocess.Popen([sys.executable, "-c", script, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"in\n"
    assert writers(path) == ["1-of-2"]
    process.kill()
    process.communicate()
    assert writers(path) == []
    with WriterLock(path, 1, 2) as lock:
        assert lock.enter()


def test_the_gate_waits_or_refuses(path):
    with gate(path):
        with pytest.raises(InputError, match=r"Another process is writing a\[1\]\.zarr\. Wait for it"), gate(path):
            pass
        script = (
            "import sys\nfrom pathlib import Path\nfrom echolung.cache.locking import gate\n"
            "with gate(Path(sys.argv[1]), wait=True, log=lambda text: print(text, flush=True)):\n    print('through')"
        )
        process = subprocess.Popen([sys.executable, "-c", script, path], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "Waiting for another process that opens or finishes a[1].zarr.\n"
    assert process.communicate(timeout=30)[0] == "through\n"
