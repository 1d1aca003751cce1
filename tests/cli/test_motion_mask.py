"""`echolung data motion-mask`, what it says, and that its table goes straight into `extract`."""

import json

import pytest
from typer.testing import CliRunner

from echolung.cache import TokenStore
from echolung.cli.app import app
from echolung.datasets import lvad_layout
from echolung.errors import InputError


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lvad")
    lvad_layout.write(folder, videos=2, frames=6, size=132)
    return folder / "labels.csv"


def ask(*arguments):
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    return done, " ".join(done.output.split())


def test_masked_and_extracted(cohort, tmp_path):
    out = tmp_path / "masked"
    command = ("data", "motion-mask", "--dataset", cohort, "--out", out, "--pictures", 1, "--workers", 1)
    done, said = ask(*command)
    assert done.exit_code == 0, said
    assert "2 videos:" in said and "Kept of the picture: median" in said
    assert "Burned-in text was removed from 2 videos." in said and "is likely inside" not in said
    assert f"Next: echolung extract --dataset {out / 'videos.csv'}" in said
    assert len(list((out / "pictures").iterdir())) == 1

    done, said = ask(*command)
    assert "2 videos (0 videos now, the rest before)" in said
    done, _ = ask(*command, "--json")
    facts = json.loads(done.stdout)
    assert [video["video_id"] for video in facts["videos"]] == ["lvad_01", "lvad_02"] and facts["new"] == 0
    assert facts["extract"] == ["--dataset", str(out / "videos.csv")]

    arguments = (
        "--encoder",
        "random:vit_tiny",
        "--frames",
        4,
        "--size",
        32,
        "--segments",
        1,
        "--device",
        "cpu",
        "--json",
    )
    done, said = ask("extract", *facts["extract"], *arguments, "--workers", 1)
    assert done.exit_code == 0 and json.loads(done.stdout)["complete"] == 2, said


def test_text_that_stays_is_said(cohort, tmp_path):
    """With a threshold that nothing reaches all is kept, and so is the text."""
    arguments = ("--method", "published", "--threshold", 80, "--workers", 1)
    done, said = ask("data", "motion-mask", "--dataset", cohort, "--out", tmp_path / "a", *arguments)
    assert done.exit_code == 0
    assert "kept whole 2, nothing moves as much as the threshold: lvad_01, lvad_02" in said
    assert said.count("burned-in text is likely inside what was kept") == 2


def test_wrong_options(cohort, tmp_path):
    for arguments, text in (
        (("--method", "flow"), "no motion mask 'flow'"),
        (("--quantile", 0.5), "does not read"),
        (("--format", "mp4"), "--format mp4 must be one of"),
    ):
        done, _ = ask("data", "motion-mask", "--dataset", cohort, "--out", tmp_path / "a", *arguments)
        assert isinstance(done.exception, InputError) and text in str(done.exception)


def test_extract_with_a_mask(cohort):
    arguments = (
        "--encoder",
        "random:vit_tiny",
        "--frames",
        4,
        "--size",
        32,
        "--segments",
        1,
        "--device",
        "cpu",
        "--json",
    )
    stores = []
    for mask in ((), ("--motion-mask", "adaptive")):
        done, said = ask("extract", "--dataset", cohort, *arguments, "--workers", 1, *mask)
        assert done.exit_code == 0, said
        stores.append(TokenStore.open(json.loads(done.stdout)["store"]))
    bare, masked = stores
    assert bare.path != masked.path and "mask" not in bare.key["clips"] and "flow" not in bare.key
    assert masked.key["clips"]["mask"]["method"] == "adaptive" and masked.key["flow"].startswith("opencv 5")
    assert (masked.previews([0]) == 0).mean() > (bare.previews([0]) == 0).mean()
    done, _ = ask("extract", "--dataset", cohort, *arguments, "--motion-mask", "none")
    assert isinstance(done.exception, InputError) and "no motion mask 'none'" in str(done.exception)
