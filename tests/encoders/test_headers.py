"""What a safetensors file says of itself."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from echolung.encoders import load_model, save_encoder
from echolung.encoders.headers import numbers_in, own_description


def test_numbers_are_counted_whatever_they_are_kept_as(tmp_path: Path) -> None:
    model, _ = load_model("random:vit_tiny")
    tensors = model.state_dict()
    for name, dtype in (("a", torch.float32), ("b", torch.bfloat16)):
        save_file({key: tensor.to(dtype).contiguous() for key, tensor in tensors.items()}, tmp_path / name)
        assert numbers_in(tmp_path / name) == sum(tensor.numel() for tensor in tensors.values())


def test_a_file_that_is_none_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    save_encoder(path, load_model("random:vit_tiny")[0])
    assert own_description(path)["config"]["dim"] == 192 and numbers_in(path) > 5e6
    whole = path.read_bytes()
    other_json = (len(text).to_bytes(8, "little") + text for text in (b"[]", b'{"a": 1}', b"{"))
    for content in (b"", b"\x05", whole[:500], b"\xff" * 8 + whole[8:], *other_json):
        path.write_bytes(content)
        assert own_description(path) == {} and numbers_in(path) == 0
