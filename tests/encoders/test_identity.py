"""Naming an encoder without loading it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from echolung.encoders import default_encoder, digests, identify
from echolung.errors import InputError


@pytest.fixture
def checkpoints(echolung_home) -> Path:
    """Return the empty folder of checkpoints."""
    (echolung_home / "checkpoints").mkdir()
    return echolung_home / "checkpoints"


def test_naming_an_encoder_imports_no_torch(tmp_path):
    (tmp_path / "e.pt").write_bytes(b"weights")
    code = f"""if True:
        import sys
        from echolung.encoders import identify, default_encoder
        from echolung.encoders.identity import EncoderIdentity
        for spec in ("random:vit_large", "random:timm:resnet18@1", {str(tmp_path / "e.pt")!r}, "python:json:X"):
            identify(spec)
        identify("timm:resnet18@" + {str(tmp_path / "e.pt")!r})
        default_encoder()
        heavy = {{"torch", "timm", "safetensors.torch", "transformers"}} & set(sys.modules)
        assert not heavy, heavy
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_random_is_its_recipe():
    one, other = identify("random:vit_small"), identify("random:vit_small@1")
    assert identify("random:vit_small@0") == one
    assert (one.name, one.kind, one.path) == ("random:vit_small@0", "random", None)
    assert one.weights.startswith("sha256:")
    assert one.weights != other.weights != identify("random:vit_base@1").weights
    assert json.loads(json.dumps(one.config)) == one.config
    assert one.config["shape"]["heads"] == 6


def test_a_file_is_its_content(tmp_path):
    for name, content in {"a.pt": b"one", "b.pt": b"one", "c.pt": b"two"}.items():
        (tmp_path / name).write_bytes(content)
    a, b, c = (identify(tmp_path / name) for name in ("a.pt", "b.pt", "c.pt"))
    assert a.weights == b.weights == "sha256:7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    assert c.weights != a.weights
    assert (a.name, a.kind, a.path) == ("a", "checkpoint", tmp_path / "a.pt")
    assert a.config["branch"] == "target_encoder"
    assert identify(f"{tmp_path / 'a.pt'}#encoder").config["branch"] == "encoder"


def test_digest_is_remembered_until_the_file_changes(tmp_path, checkpoints, monkeypatch):
    path = tmp_path / "a.pt"
    path.write_bytes(b"one")
    first = identify(path).weights
    read = []
    real = digests.hashlib.file_digest
    monkeypatch.setattr(digests.hashlib, "file_digest", lambda *args: read.append(1) or real(*args))
    assert identify(path).weights == first
    assert not read
    path.write_bytes(b"two")
    os.utime(path, ns=(1, 1))
    assert identify(path).weights != first
    assert read
    assert [p.name for p in checkpoints.iterdir()] == ["digests.json"]


@pytest.mark.parametrize("memory", ["", "[1, 2]", '{"x": 3}', "\x00"])
def test_a_broken_memory_is_forgotten(tmp_path, checkpoints, memory):
    (checkpoints / "digests.json").write_text(memory)
    (tmp_path / "a.pt").write_bytes(b"one")
    assert identify(tmp_path / "a.pt").weights == identify(tmp_path / "a.pt").weights
    assert str(tmp_path / "a.pt") in json.loads((checkpoints / "digests.json").read_text())


def test_a_home_that_cannot_be_written_to(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("ECHOLUNG_HOME", str(tmp_path / "file"))
    (tmp_path / "a.pt").write_bytes(b"one")
    assert identify(tmp_path / "a.pt").weights.startswith("sha256:")


def test_hugging_face_folder(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"one")
    first = identify(tmp_path)
    assert (first.name, first.path) == (tmp_path.name, tmp_path)
    assert identify(str(tmp_path / "model.safetensors")) == first  # the file alone lacks the number of heads
    (tmp_path / "README.md").write_text("no weights")
    assert identify(tmp_path) == first
    (tmp_path / "config.json").write_text('{"num_attention_heads": 2}')
    assert identify(tmp_path).weights != first.weights


@pytest.mark.parametrize(
    "name", ["vjepa2-vitl.pt", "vjepa2-vitl.safetensors", "vitl.pt", "vjepa2-vitl/", "vjepa2-vitl-fpc64-256/"]
)
def test_published_names_are_found_at_home(checkpoints, name):
    path = checkpoints / name
    if name.endswith("/"):
        path.mkdir()
        (path / "config.json").write_text("{}")
        (path / "model.safetensors").write_bytes(b"one")
    else:
        path.write_bytes(b"one")
    assert identify("vjepa2-vitl").path == path


def test_published_names_that_are_absent_say_where_to_get_them(echolung_home):
    with pytest.raises(InputError) as caught:
        identify("vjepa2-vitg")
    text = str(caught.value)
    assert str(echolung_home / "checkpoints" / "vjepa2-vitg.pt") in text
    assert "https://dl.fbaipublicfiles.com/vjepa2/vitg.pt" in text
    assert "https://huggingface.co/facebook/vjepa2-vitg-fpc64-256" in text


def test_own_names_are_found_at_home(checkpoints):
    (checkpoints / "cardiac.safetensors").write_bytes(b"one")
    assert identify("cardiac").path == checkpoints / "cardiac.safetensors"
    with pytest.raises(InputError, match="Did you mean 'cardiac'"):
        identify("cardiak")


def test_a_path_is_itself_even_where_home_has_its_name(tmp_path, checkpoints, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (checkpoints / "e.pt").write_bytes(b"one")
    assert identify("e.pt").path == checkpoints / "e.pt"
    (tmp_path / "e.pt").write_bytes(b"two")
    assert identify("e.pt").path == tmp_path / "e.pt"


def test_default_is_the_newest(checkpoints):
    assert default_encoder() is None
    for age, name in enumerate(["new.safetensors", "old.pt"], start=1):
        (checkpoints / name).write_bytes(b"one")
        os.utime(checkpoints / name, (1e9 - age, 1e9 - age))
    (checkpoints / "digests.json").write_text("{}")
    (checkpoints / ".new.safetensors-half").write_bytes(b"o")
    assert default_encoder() == str(checkpoints / "new.safetensors")


def test_python_class_is_its_source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    source = tmp_path / "my_own_encoder_a.py"
    source.write_text("class Mine: pass\n")
    first = identify("python:my_own_encoder_a:Mine")
    assert (first.kind, first.path) == ("python", source)
    source.write_text("class Mine: changed = True\n")
    assert identify("python:my_own_encoder_a:Mine").weights != first.weights


def test_timm_with_a_checkpoint(tmp_path):
    (tmp_path / "w@1.pth").write_bytes(b"one")
    found = identify(f"timm:resnet18@{tmp_path / 'w@1.pth'}")
    assert (found.name, found.kind, found.path) == ("timm:resnet18", "timm", tmp_path / "w@1.pth")
    assert set(found.config) == {"architecture", "timm", "reader"}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("random:vit_smal", "Did you mean 'vit_small'"),
        ("random:vit_small@-1", "whole number from 0 on"),
        ("random:vit_small@one", "whole number from 0 on"),
        ("random:", "no architecture ''"),
        ("random:timm:", "no architecture 'timm:'"),
        ("timm:resnet18", "names no weights.*timm:resnet18@/path.*random:timm:resnet18"),
        ("timm:resnet18@/absent.pth", "no checkpoint at /absent.pth"),
        ("python:my_encoder", "should read python:module:Class"),
        ("python:absent_module:X", "no Python file for the module 'absent_module'"),
        ("python:absent.module:X", "Cannot find the module.*absent"),
        ("vit_small", "Did you mean 'random:vit_small'"),
        ("vjepa2-vitL", "Did you mean 'vjepa2-vitl'"),
        ("/absent/e.pt", "no checkpoint at /absent/e.pt"),
        ("", "No encoder is called ''"),
    ],
)
def test_what_is_not_known(spec, message):
    with pytest.raises(InputError, match=message):
        identify(spec)


def test_folders_and_branches_that_are_none(tmp_path):
    with pytest.raises(InputError, match="no Hugging Face checkpoint"):
        identify(tmp_path)
    (tmp_path / "e.safetensors").write_bytes(b"one")
    with pytest.raises(InputError, match="holds a single encoder"):
        identify(f"{tmp_path / 'e.safetensors'}#encoder")
    with pytest.raises(InputError, match="no checkpoint at"):
        identify(tmp_path / "absent.pt")
