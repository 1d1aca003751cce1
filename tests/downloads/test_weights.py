"""Published weights: downloaded, checked, found by name, and the same to the last bit; and all that can go wrong."""

import importlib
import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from echolung.downloads.remote import Remote
from echolung.downloads.weights import BY_HAND, WEIGHTS, Source, Weights, weights_named
from echolung.downloads.weights_home import (
    BEGINS,
    DECLARED,
    KEPT,
    NOTHING,
    RECORDED,
    WAITING,
    bring,
    check,
    record_of,
)
from echolung.encoders import default_encoder, identify, load_encoder
from echolung.encoders.fits import fits
from echolung.encoders.networks import NETWORKS
from echolung.encoders.sizes import VITS
from echolung.encoders.vit import VisionTransformer
from echolung.errors import InputError, RunError


@pytest.fixture
def home(echolung_home):
    """Return the folder of checkpoints, not there yet."""
    return echolung_home / "checkpoints"


def left(home) -> list[str]:
    """Return what lies in the folder of checkpoints and in its waiting room, but for locks."""
    files = [*home.iterdir(), *(home / WAITING).iterdir()]
    no_matter = (home / "digests.json", home / WAITING)
    return sorted(str(path.relative_to(home)) for path in files if path not in no_matter and path.suffix != ".lock")


# ---- the table ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=lambda weights: weights.name)
def test_what_the_table_says_holds_together(weights: Weights):
    assert weights.architecture in {**VITS, **NETWORKS}
    assert weights.network in {"", *NETWORKS}
    assert weights.citation
    for source in weights.sources:
        assert source.licence
        for file in source.files:
            assert len(file.sha256) in (0, 64)
            assert file.path.split("/")[0] == source.place
            assert all(url.startswith("https://") for url in file.urls)
        assert source.begins == "" or (len(source.begins) == 8 and source.begins in source.files[0].urls[0])


@pytest.mark.parametrize("name", ["vjepa2-vitl", "vjepa2-vith", "vjepa2-vitg"])
def test_parameters_and_sizes_agree_with_the_network(name):
    """Hugging Face's file holds the encoder and the predictor of 22 million, as float32."""
    weights = WEIGHTS[name]
    model = VisionTransformer(VITS[weights.architecture], seed=None)
    assert sum(parameter.numel() for parameter in model.parameters()) == weights.parameters
    assert weights.source().size == pytest.approx(4 * (weights.parameters + 22.2e6), rel=0.005)


@pytest.mark.parametrize("name", ["r3d_18", "mc3_18", "r2plus1d_18"])
def test_torchvision_names_the_same_file(name):
    video = pytest.importorskip("torchvision.models.video")
    enum = {"r3d_18": "R3D_18", "mc3_18": "MC3_18", "r2plus1d_18": "R2Plus1D_18"}[name]
    assert getattr(video, f"{enum}_Weights").KINETICS400_V1.url == WEIGHTS[f"{name}_k400"].source().files[0].urls[0]


def test_names_that_are_none():
    with pytest.raises(InputError, match="Did you mean 'vjepa2-vitl'"):
        weights_named("vjepa-vitl")
    with pytest.raises(InputError, match="Of r2plus1d_18 there are r2plus1d_18_k400 and r2plus1d_18_echonet"):
        weights_named("r2plus1d_18")
    with pytest.raises(InputError, match=r"timm:resnet18@weights\.pth"):
        weights_named("timm:resnet18")
    with pytest.raises(InputError, match=r"not published at 'metta'.*huggingface or meta.*Did you mean 'meta'"):
        WEIGHTS["vjepa2-vitl"].source("metta")
    assert "uniformer_small@coreecho.pth" in BY_HAND["coreecho"]


# ---- downloading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["huggingface", "meta"])
def test_downloaded_weights_are_found_by_name_and_give_the_same_tokens(loopback, published, home, host):
    weights = published.offer(loopback.root)
    source = weights.source(host)
    found = bring(weights, source, fits)
    assert found.fetched
    assert found.against == (KEPT if host == "huggingface" else NOTHING)
    assert left(home) == [source.place, f"{source.place}.json"]
    frames = torch.randn(1, 3, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    encoder = load_encoder("tiny-jepa")
    assert torch.equal(encoder.model(frames), published.tiny()(frames))
    assert identify("tiny-jepa").path == home / source.place
    assert default_encoder() == str(home / source.place)

    record = json.loads(record_of(source).read_text())
    assert (record["source"], record["licence"], record["citation"]) == (host, "MIT", "Nobody, 2026")
    assert {path: file["sha256"] for path, file in record["files"].items()} == found.digests

    asked = len(loopback.asked)
    again = bring(weights, source, fits)
    assert len(loopback.asked) == asked
    assert not again.fetched
    assert again.against == (KEPT if host == "huggingface" else RECORDED)


def test_a_folder_serves_as_mirror_without_a_network(published, home, tmp_path, monkeypatch):
    monkeypatch.setenv("ECHOLUNG_MIRROR", str(tmp_path / "stick"))
    monkeypatch.setenv("ECHOLUNG_OFFLINE", "1")
    weights = published.offer(tmp_path / "stick")
    assert bring(weights, weights.source(), fits).against == KEPT


def test_a_broken_connection_goes_on_where_it_stopped(loopback, published, home):
    weights = published.offer(loopback.root)
    path = f"{published.HF}/model.safetensors"
    loopback.break_after, loopback.breaks = 300_000, -1
    loopback.ranges = False  # no progress: given up
    with pytest.raises(RunError, match=r"could not be downloaded.*Run the same command again.*--from meta"):
        bring(weights, weights.source(), fits)
    assert not (home / "tiny-jepa" / "model.safetensors").exists()
    with pytest.raises(InputError, match="echolung encoders download tiny-jepa"):
        identify("tiny-jepa")
    loopback.ranges = True
    assert bring(weights, weights.source(), fits).fetched
    assert max(start for asked, start in loopback.asked if asked == path) > 0


def test_two_at_once_take_turns(loopback, published, home):
    """The first is held up while it reads what came, until the second has said that it waits, or reads, too."""
    weights = published.offer(loopback.root)
    read, go, said = threading.Event(), threading.Event(), []

    def held_up(network, path):
        read.set()
        assert go.wait(30)
        return fits(network, path)

    def log(text):
        said.append(text)
        go.set()

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(bring, weights, weights.source(), held_up)
        assert read.wait(30)

        def late(network, path):
            go.set()
            first.result(30)
            return fits(network, path)

        second = bring(weights, weights.source(), late, log=log)
    assert first.result().fetched
    assert not second.fetched
    assert second.digests == first.result().digests
    assert said == ["Another echolung is downloading tiny-jepa; waiting until it is done."]
    assert len(loopback.asked) == 2
    assert left(home) == ["tiny-jepa", "tiny-jepa.json"]


def test_a_wrong_file_does_not_get_the_name(loopback, published, home):
    weights = published.offer(loopback.root)
    loopback.wrong.add(f"{published.HF}/model.safetensors")
    with pytest.raises(RunError, match=r"another file under this name.*--from meta"):
        bring(weights, weights.source(), fits)
    assert left(home) == [".incoming/tiny-jepa"]


def test_nothing_goes_out_offline(published, home, tmp_path, monkeypatch):
    weights = published.offer(tmp_path)
    monkeypatch.setenv("ECHOLUNG_OFFLINE", "1")
    with pytest.raises(InputError) as caught:
        bring(weights, weights.source(), fits)
    assert str(home / "tiny-jepa" / "config.json") in str(caught.value)
    assert ".incoming" not in str(caught.value)


def test_the_other_source_beside_the_first(loopback, published, home):
    weights = published.offer(loopback.root)
    for source in weights.sources:
        bring(weights, source, fits)
    assert identify("tiny-jepa").path == home / "tiny-jepa"


# ---- where no digest is kept ----------------------------------------------------------------------------------------------


def declare(digest: str) -> None:
    """Let the server answer HEAD as Hugging Face does for files in LFS."""

    def do_head(self) -> None:
        self.send_response(302)
        if self.path.endswith(".safetensors"):
            self.send_header("X-Linked-Etag", f'"{digest}"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    sys.modules["echolung_tests_loopback"].Handler.do_HEAD = do_head


def test_the_host_s_own_digest_is_compared(loopback, published, home):
    weights = published.offer(loopback.root, kept=False)
    declare(published.sha256(loopback.root / published.HF / "model.safetensors"))
    assert bring(weights, weights.source(), fits).against == DECLARED


def test_another_file_than_the_host_declares(loopback, published, home):
    weights = published.offer(loopback.root, kept=False)
    declare("0" * 64)
    with pytest.raises(RunError, match="another file under this name"):
        bring(weights, weights.source(), fits)
    assert not (home / "tiny-jepa" / "model.safetensors").exists()


def test_what_was_published_has_changed_since(loopback, published, home):
    weights = published.offer(loopback.root, kept=False)
    source = weights.source("meta")
    bring(weights, source, fits)
    (home / "tiny-jepa.pt").unlink()
    published.as_meta(published.tiny(5), loopback.root / published.META / "tiny.pt")
    with pytest.raises(RunError, match="another file under this name"):
        bring(weights, source, fits)
    record_of(source).unlink()  # whoever trusts the new file forgets the old
    assert bring(weights, source, fits).against == NOTHING


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<html>Please sign in</html>", "it is a web page"),
        (b"PK\x03\x04 and then nothing", "truncated"),
        ("other", "hold.*another architecture|no part of|do not fit"),
    ],
)
def test_what_comes_is_no_such_weights(loopback, published, home, content, reason):
    weights = published.offer(loopback.root)
    file = loopback.root / published.META / "tiny.pt"
    if content == "other":
        torch.save({"target_encoder": {"conv.weight": torch.zeros(3, 3)}}, file)
    else:
        file.write_bytes(content)
    with pytest.raises(RunError, match=f"thrown away.*({reason})"):
        bring(weights, weights.source("meta"), fits)
    assert left(home) == []


def test_a_tensor_of_another_shape_is_seen_without_reading_it(published, tmp_path):
    model = published.tiny()
    folder = published.as_hugging_face(model, tmp_path / "hf")
    assert fits("", folder).startswith("Loaded hf (Hugging Face)")
    model.norm.weight = torch.nn.Parameter(torch.ones(100))
    published.as_hugging_face(model, folder)
    with pytest.raises(InputError, match=r"norm\.weight has shape \[100\] for \[192\]"):
        fits("", folder)


def network_weights(published, root, begins: str = "") -> Weights:
    """Write torchvision's smallest network as its own file, with a classifier, and return its entry."""
    video = importlib.import_module("torchvision.models.video")
    file = root / "torch.test" / "net.pth"
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(video.mc3_18(weights=None).state_dict(), file)
    remote = Remote("net-12345678.pth", ("https://torch.test/net.pth",))
    source = Source("pytorch", "https://torch.test", remote.path, (remote,), "BSD", "net.pth", 0, begins)
    return Weights("mc3_18_test", "mc3_18", "mc3_18", 11_490_240, "noise", "Nobody", (source,))


def test_a_video_network_by_name(loopback, published, home, monkeypatch):
    weights = network_weights(published, loopback.root)
    digest = published.sha256(loopback.root / "torch.test" / "net.pth")
    weights = replace(weights, sources=(replace(weights.source(), begins=digest[:8]),))
    monkeypatch.setitem(WEIGHTS, weights.name, weights)
    with pytest.raises(InputError, match="echolung encoders download mc3_18_test"):
        identify("mc3_18_test")
    assert bring(weights, weights.source(), fits).against == BEGINS
    named = identify("mc3_18_test")
    assert named == identify(f"mc3_18@{home / 'net-12345678.pth'}")
    assert identify("mc3_18_test#echonet").config["statistics"] == "echonet"
    assert default_encoder() == "mc3_18_test"


def test_digits_in_the_name_that_do_not_agree(loopback, published, home):
    weights = network_weights(published, loopback.root, begins="12345678")
    with pytest.raises(RunError, match="the name of the file promises 12345678"):
        bring(weights, weights.source(), fits)
    assert left(home) == []


# ---- looking again --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("host", "whence"), [("huggingface", "was published"), ("meta", "was recorded")])
def test_a_file_that_changed_on_disk(loopback, published, home, host, whence):
    weights = published.offer(loopback.root)
    source = weights.source(host)
    bring(weights, source, fits)
    with (home / source.files[-1].path).open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    for act in (check, bring):
        with pytest.raises(InputError, match=f"not the file that {whence}.*--from {host}"):
            act(weights, source, fits)


def test_weights_put_in_place_by_hand(published, home, tmp_path):
    weights = published.offer(tmp_path)
    published.as_meta(published.tiny(), home / "tiny-jepa.pt")
    source = weights.source("meta")
    assert check(weights, source, fits).against == NOTHING
    assert not record_of(source).exists()
    bring(weights, source, fits)
    assert check(weights, source, fits).against == RECORDED
