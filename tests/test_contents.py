"""Files that are not what their name says."""

from pathlib import Path

import pytest
import torch

from echolung.clips.decode import decode
from echolung.contents import contents
from echolung.encoders.tensors import read_tensors
from echolung.errors import DecodeError, InputError

WRONG = {
    "empty": (b"", "empty (0 bytes)"),
    "page": (b"\n<!DOCTYPE html><html>Sign in</html>", "web page"),
    "answer": (b'{"error": "not found"}', "web page or an answer"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
    "macOS": (b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X", "leftover of macOS"),
    "zip": (b"PK\x03\x04" + bytes(60), "zip"),
    "zeros": (bytes(4096), "zeros only"),
    "PDF": (b"%PDF-1.7\n", "PDF"),
}


@pytest.mark.parametrize(("data", "said"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_a_video_that_is_none(data: bytes, said: str, suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"v{suffix}"
    file.write_bytes(data)
    with pytest.raises(DecodeError) as caught:
        decode(file)
    text = str(caught.value)
    assert text.startswith(f"v{suffix} cannot be decoded. ") and said in text
    assert "Invalid data" not in text and "Errno" not in text


@pytest.mark.parametrize(("data", "said"), [WRONG[name] for name in ("empty", "page", "pointer", "PDF")])
def test_a_checkpoint_that_is_none(data: bytes, said: str, tmp_path: Path) -> None:
    file = tmp_path / "w.pt"
    file.write_bytes(data)
    with pytest.raises(InputError, match=r"w\.pt is no checkpoint\. ") as caught:
        read_tensors(file)
    assert said in str(caught.value) and "operand" not in str(caught.value)


def test_a_real_one_says_nothing(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(2)}, tmp_path / "w.bin", _use_new_zipfile_serialization=False)
    assert contents(tmp_path / "w.bin") == "" and contents(tmp_path / "gone") == ""
