"""The whole of the doctor, and what it says where something is wrong."""

import json
import os
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from filelock import FileLock, Timeout

from echolung import machine
from echolung.doctor import decoders, device, downloading, examine, files, installation, space, threads
from echolung.doctor.finding import Finding
from echolung.errors import DecodeError
from echolung.report.run import RECORD_SCHEMA


def levels(findings):
    return {finding.name: finding.level for finding in findings}


def test_a_check_that_breaks_is_a_finding(monkeypatch):
    def broken():
        raise RuntimeError("libc is gone")

    heard = []
    monkeypatch.setattr(examine, "GROUPS", {"one": broken, "two": lambda: [Finding("x", "pass", "fine")]})
    found = examine.examine(heard.append)
    assert heard == ["one", "two"]
    assert found["two"] == [Finding("x", "pass", "fine")]
    assert found["one"][0].level == "fail" and "RuntimeError: libc is gone" in found["one"][0].what


# ---- installation ----------------------------------------------------------------------------------------------------


def test_this_installation_is_as_pyproject_has_it():
    assert levels(installation.check_installation()) == {"Python": "pass", "libraries": "pass"}


def test_libraries_missing_and_too_old(monkeypatch):
    def version(name):
        if name == "zarr":
            raise PackageNotFoundError(name)
        return "0.1" if name == "torch" else "99"

    monkeypatch.setattr(installation, "requires", lambda name: ["zarr>=3.1,<4", "torch>=2.8,<3", 's3fs; extra == "s3"'])
    monkeypatch.setattr(installation, "version", version)
    found = installation._libraries()
    assert found.level == "fail"
    assert found.what == "missing: zarr; other versions: torch 0.1 (wanted <3,>=2.8)"
    assert found.fix == "pip install --upgrade 'zarr<4,>=3.1' 'torch<3,>=2.8'"


def test_two_packages_of_one_module(monkeypatch):
    names = [SimpleNamespace(metadata={"Name": name}) for name in ("decord", "eva_decord", "opencv-python-headless")]
    monkeypatch.setattr(installation, "distributions", lambda: names)
    (found,) = installation._twice()
    assert found.name == "decord" and found.level == "warn"
    assert found.fix == "pip uninstall decord eva-decord, then pip install decord"


def test_a_python_that_is_too_new(monkeypatch):
    monkeypatch.setattr(installation.platform, "python_version", lambda: "3.15.0")
    assert installation._python().level == "fail"


# ---- device ----------------------------------------------------------------------------------------------------------


def test_a_cpu_is_told_what_a_large_encoder_would_take(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device, "_driver", lambda: None)
    monkeypatch.setattr(device, "speed", lambda: device.VIT_LARGE / device.EFFICIENCY / 12)
    found = device.check_device()[-1]
    assert found.level == "warn" and "about 3 h for 1,000 clips of a ViT-L (12 s each)" in found.what


@pytest.mark.parametrize(
    "build, cuda, expected",
    [
        (None, "12.4", "this torch is built for CPUs alone"),
        ("13.2", "12.4", "the driver 550.54 goes up to CUDA 12.4, and torch is built for 13.2"),
        ("12.4", "12.8", "torch cannot use it"),
    ],
)
def test_a_gpu_that_torch_does_not_see(monkeypatch, build, cuda, expected):
    monkeypatch.setattr(device, "_driver", lambda: ("NVIDIA A100", "550.54", cuda))
    monkeypatch.setattr(torch.version, "cuda", build)
    (found,) = device._lost_gpu()
    assert (found.level, found.what) == ("warn", f"NVIDIA A100 is there, but {expected}")
    assert found.fix


# ---- decoders --------------------------------------------------------------------------------------------------------


def test_every_format_is_decoded():
    found = decoders.check_decoders()
    assert [finding.name for finding in found] == ["MP4", "AVI", "GIF", "MPEG", "MOV", "DICOM"]
    assert {finding.name: finding.what for finding in found if finding.level != "pass"} == {}
    assert "PyAV" in next(finding.what for finding in found if finding.name == "GIF")
    assert "pydicom" in found[-1].what


def test_wrong_frames_are_seen(monkeypatch):
    right = decoders.picture()
    shown = []
    monkeypatch.setattr(decoders, "decode", lambda file, decoder: shown.pop())
    shown.append(right)
    assert decoders._look(Path("x")) == ""
    shown.append(right[:-1])
    assert decoders._look(Path("x")) == "11 frames of 12"
    shown.append(np.roll(right, 1, axis=0))
    assert "grey levels off" in decoders._look(Path("x"))
    shown.append(right[..., ::-1].copy())
    assert decoders._look(Path("x")) == "frame 0 is 120 grey levels off"


def test_the_library_is_named_that_fails(tmp_path):
    found = decoders._judge("AVI", tmp_path / "a.gif", "11 frames of 12")
    assert found.level == "fail" and found.what.startswith("PyAV ") and "wrongly: 11 frames of 12" in found.what
    assert found.fix == "Install it anew: uv sync --reinstall-package av, or pip install --force-reinstall av."


def test_a_broken_decord_is_found_though_pyav_could_step_in(monkeypatch, tmp_path):
    pytest.importorskip("decord")
    decoders._video("libx264")(tmp_path / "a.mp4")
    assert decoders._look(tmp_path / "a.mp4") == ""
    monkeypatch.setitem(sys.modules["echolung.clips.decode"].READERS, "decord", lambda path: 1 / 0)
    with pytest.raises(DecodeError):
        decoders._look(tmp_path / "a.mp4")


# ---- space -----------------------------------------------------------------------------------------------------------


def test_a_home_that_cannot_be_written_to(monkeypatch, tmp_path):
    def refused(*args, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(space.tempfile, "TemporaryDirectory", refused)
    found = space._writable()
    assert found.level == "fail" and "Permission denied; ECHOLUNG_HOME" in found.what and "ECHOLUNG_HOME" in found.fix


def test_trying_leaves_nothing(echolung_home):
    assert set(levels(space.check_space())) == {"home", "file system", "disk", "memory"}
    assert list(echolung_home.iterdir()) == []


def test_network_file_systems_and_locks(monkeypatch, tmp_path, echolung_home):
    mounts = tmp_path / "mounts"
    mounts.write_text(f"none / ext4 rw 0 0\nserver:/home {echolung_home} nfs4 rw 0 0\n")
    monkeypatch.setattr(space, "MOUNTS", mounts)
    assert space.file_system(echolung_home / "stores") == "nfs4" and space.file_system(tmp_path) == "ext4"
    found = space._locks()
    assert found.level == "warn" and found.what == "nfs4, over a network; locks work" and "--shard 64" in found.fix

    class Refused:
        def __init__(self, *args, **options):
            pass

        def __enter__(self):
            raise Timeout("lock")

        def __exit__(self, *error):
            pass

    monkeypatch.setattr(space, "FileLock", Refused)
    assert "files cannot be locked" in space._locks().what


def test_little_disk_and_memory(monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10**9))
    monkeypatch.setattr(space, "free_memory", lambda: 10**9)
    assert (space._disk().level, space._memory().level) == ("warn", "warn")
    assert space._disk().what == "1.00 GB free" and "--dry-run" in space._disk().fix


# ---- threads ---------------------------------------------------------------------------------------------------------


def test_a_containers_limit_of_processors(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "CGROUPS", tmp_path)
    monkeypatch.setattr(machine, "OWN_CGROUPS", tmp_path / "own")
    (tmp_path / "own").write_text("0::/job/step\n")
    (tmp_path / "job" / "step").mkdir(parents=True)
    (tmp_path / "job" / "step" / "cpu.max").write_text("max 100000\n")
    assert machine.processor_limit() is None
    (tmp_path / "job" / "cpu.max").write_text("250000 100000\n")
    assert machine.processor_limit() == 2.5
    (tmp_path / "own").write_text("3:cpu,cpuacct:/docker\n")
    (tmp_path / "cpu" / "docker").mkdir(parents=True)
    (tmp_path / "cpu" / "docker" / "cpu.cfs_quota_us").write_text("400000\n")
    (tmp_path / "cpu" / "docker" / "cpu.cfs_period_us").write_text("100000\n")
    assert machine.processor_limit() == 4
    monkeypatch.setattr(threads.os, "cpu_count", lambda: 64)
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda process: set(range(64)))
    found = threads._processors()
    assert found.level == "pass" and found.what.startswith("4 of the machine's 64")
    assert machine.cores_each() == 4
    for processes, each in (("2", 2), ("8", 1)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
        assert machine.cores_each() == each


def test_one_thread_of_many(monkeypatch):
    monkeypatch.setattr(threads, "cores", lambda: 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in threads.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert threads._torch_threads().level == "pass"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert threads._torch_threads() == Finding(
        "threads", "warn", "torch uses 1 (OMP_NUM_THREADS=1) of 8 processors", "Unset OMP_NUM_THREADS."
    )


# ---- files -----------------------------------------------------------------------------------------------------------


def test_stores_at_home(echolung_home, write_classes, monkeypatch):
    import shutil

    store = write_classes(patients=4, each=1)
    target = echolung_home / "stores" / "a.zarr"
    shutil.copytree(store.path, target)
    assert levels(files.check_files()) == {"stores": "pass", "runs": "pass"}
    document = json.loads((target / "zarr.json").read_text())
    for change, level, what in (
        ({"finished": False}, "warn", "a.zarr holds 8 of 8 clips"),
        ({"schema_version": 7}, "fail", "schema version 7"),
    ):
        changed = {**document, "attributes": {**document["attributes"], **change}}
        (target / "zarr.json").write_text(json.dumps(changed))
        found = files.check_files()[0]
        assert (found.name, found.level) == ("store", level) and what in found.what


def test_what_was_begun_and_nobody_works_on(echolung_home):
    for folder in ("finetuning/1f", "finetuning/2a", "checkpoints/.incoming/vjepa2-vitl"):
        (echolung_home / folder).mkdir(parents=True)
        (echolung_home / folder / "frames").write_bytes(bytes(3_000_000))
    (echolung_home / "finetuning" / "1f.lock").touch()
    with FileLock(echolung_home / "finetuning" / "2a.lock"):
        tuning, download = files.check_files()[-2:]
    assert (tuning.level, tuning.what) == ("warn", "1 fine-tuning not finished, 3 MB") and "finetuning/1f" in tuning.fix
    assert download.what == "1 download not finished, 3 MB" and "goes on with it" in download.fix
    assert files.check_files()[-2].what == "2 fine-tunings not finished, 6 MB"


def test_runs_at_home(echolung_home):
    def run(name, text):
        (echolung_home / "runs" / name).mkdir(parents=True)
        (echolung_home / "runs" / name / "record.json").write_text(text)

    run("good", json.dumps({"record_schema": RECORD_SCHEMA}))
    run("old", json.dumps({"record_schema": 1}))
    assert [(f.level, f.what) for f in files._runs(echolung_home / "runs")] == [
        ("pass", "2 readable"),
        ("pass", "1 of an older version, which can still be read: old"),
    ]
    run("new", json.dumps({"record_schema": RECORD_SCHEMA + 1}))
    run("cut", "{")
    run("lost", json.dumps({"record_schema": RECORD_SCHEMA, "files": {"predictions.csv": "1f"}}))
    (echolung_home / "runs" / "half.partial").mkdir()
    os.utime(echolung_home / "runs" / "half.partial", (0, 0))
    (echolung_home / "runs" / "now.partial").mkdir()  # may be being saved
    said = " | ".join(f"{f.level} {f.what}" for f in files._runs(echolung_home / "runs"))
    for text in (
        "new: made by a newer version",
        "cut: record.json is damaged",
        "lost: predictions.csv missing",
        "warn 1 that were stopped while they were saved",
    ):
        assert text in said


def test_the_schema_is_that_of_reports():
    assert files.RECORD_SCHEMA == RECORD_SCHEMA


def test_pretraining_that_was_stopped(echolung_home):
    for name in ("done", "stopped"):
        (echolung_home / "pretraining" / name).mkdir(parents=True)
        (echolung_home / "pretraining" / name / "recipe.toml").write_text("")
    (echolung_home / "checkpoints").mkdir()
    (echolung_home / "checkpoints" / "done.safetensors").write_text("")
    found = files.check_files()[-1]
    assert found.level == "warn" and found.what == "not finished: stopped"
    assert found.fix.startswith("echolung pretrain --resume stopped goes on")


# ---- downloads -------------------------------------------------------------------------------------------------------


def test_mirror_and_offline(monkeypatch, tmp_path):
    monkeypatch.delenv("ECHOLUNG_MIRROR", raising=False)
    monkeypatch.delenv("ECHOLUNG_OFFLINE", raising=False)
    assert levels(downloading.check_downloads()) == {"network": "pass"}
    monkeypatch.setenv("ECHOLUNG_OFFLINE", "1")
    monkeypatch.setenv("ECHOLUNG_MIRROR", str(tmp_path))
    found = downloading.check_downloads()
    assert levels(found) == {"mirror": "pass", "network": "pass"} and "nothing is downloaded" in found[1].what
    monkeypatch.setenv("ECHOLUNG_MIRROR", str(tmp_path / "gone"))
    assert levels(downloading.check_downloads())["mirror"] == "fail"
