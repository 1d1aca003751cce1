"""A run folder read back is the run that was saved, or an error that says what is wrong with it."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from echolung.errors import InputError
from echolung.evaluation import cross_validate
from echolung.evaluation.checks.finding import Finding
from echolung.evaluation.summary import summarise
from echolung.report.record import save_run
from echolung.report.run import Twin, check_videos, read_run

FINDING = Finding("EL999", "a check", "warning", "something", "it matters", "do this", {"accuracy": 0.5})


@pytest.fixture(scope="module")
def made(write_classes):
    store = write_classes()
    result = cross_validate(store, cv=3, epochs=3)
    other = cross_validate(store, cv=3, epochs=3, seed=7, diagnose=False)
    return store, result, Twin("random:x@0", "x.zarr", other, summarise(other))


@pytest.fixture
def folder(made, tmp_path):
    store, result, twin = made
    return save_run(
        result, summarise(result), store, 1.0, tmp_path / "run", [twin], [FINDING], {"permutation": {"p": 0.1}}
    )


def test_what_is_read_is_what_was_saved(made, folder):
    _, result, twin = made
    run = read_run(folder)
    table = result.predictions.sort_values(["fold", "video_id"]).reset_index(drop=True)
    pd.testing.assert_frame_equal(run.result.predictions, table, check_dtype=False, rtol=1e-6)
    assert run.result.chosen == result.chosen and run.result.temperatures == result.temperatures
    for name in ("inner", "curves", "looks"):
        pd.testing.assert_frame_equal(getattr(run.result, name), getattr(result, name), check_dtype=False, rtol=1e-6)
    assert run.result.folds["guess"].tolist() == result.folds["guess"].tolist()
    assert run.summary.mean == pytest.approx(summarise(result).mean, rel=1e-6)
    assert run.findings == (FINDING,) and run.record["permutation"] == {"p": 0.1}
    assert run.twins[0].encoder == twin.encoder
    np.testing.assert_allclose(run.twins[0].summary.mean["accuracy"], twin.summary.mean["accuracy"])
    assert set(run.result.probe.arrays) == set(result.probe.arrays)
    assert run.record["command"].startswith("echolung")


def test_numbers_too(write_classes, tmp_path):
    store = write_classes()
    result = cross_validate(store, task="number", cv=3, epochs=3)
    run = read_run(save_run(result, summarise(result), store, 1.0, tmp_path / "run"))
    assert run.summary.mean == pytest.approx(summarise(result).mean, rel=1e-5) and run.twins == ()


@pytest.mark.parametrize("name", ["predictions.csv", "probe.safetensors", "inner.csv", "twins.csv"])
def test_a_file_that_is_missing_or_edited_is_named(folder, name):
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data + b"1")
    with pytest.raises(InputError, match=f"{name} is not what the run wrote"):
        read_run(folder)
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"not whole: {name} missing"):
        read_run(folder)


def test_a_newer_schema_a_damaged_record_and_no_run(folder, tmp_path):
    record = json.loads((folder / "record.json").read_text())
    (folder / "record.json").write_text(json.dumps({**record, "record_schema": 99}))
    with pytest.raises(InputError, match=r"schema 99.*Update echolung"):
        read_run(folder)
    (folder / "record.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        read_run(folder)
    with pytest.raises(InputError, match="no folder of a run"):
        read_run(tmp_path)
    with pytest.raises(InputError, match="not there"):
        read_run(tmp_path / "nowhere")
    (folder / "record.json").write_text(json.dumps({**record, "label_efficiency": []}))
    with pytest.raises(InputError, match="label efficiency"):
        read_run(folder)


def test_predictions_of_videos_or_folds_the_run_has_not(folder):
    record = json.loads((folder / "record.json").read_text())
    record["files"] = {}
    (folder / "record.json").write_text(json.dumps(record))
    table = pd.read_csv(folder / "predictions.csv", dtype=str)
    table.assign(fold="9").to_csv(folder / "predictions.csv", index=False)
    with pytest.raises(InputError, match="fold 9"):
        read_run(folder)
    table.iloc[1:].to_csv(folder / "predictions.csv", index=False)
    with pytest.raises(InputError, match="47 rows, and the run scored 48"):
        read_run(folder)


def test_a_damaged_record_is_said_whatever_is_wrong(folder):
    record = json.loads((folder / "record.json").read_text())
    for spoil in ({"task": None}, {"folds": 3}, {"findings": [{"code": 1}]}, {"settings": []}):
        (folder / "record.json").write_text(json.dumps({**record, **spoil}))
        with pytest.raises(InputError, match="damaged"):
            read_run(folder)


def test_predictions_of_unknown_videos(made, folder):
    store, *_ = made
    run = read_run(folder)
    check_videos(run, store)
    table = run.result.predictions.replace({"video_id": {"v000": "ghost"}})
    with pytest.raises(InputError, match="ghost, a video that"):
        check_videos(replace(run, result=replace(run.result, predictions=table)), store)
    table = pd.read_csv(folder / "predictions.csv", dtype=str)
    record = json.loads((folder / "record.json").read_text())
    (folder / "record.json").write_text(json.dumps({**record, "files": {}, "videos": len(table) + 1}))
    pd.concat([table, table.iloc[:1]]).to_csv(folder / "predictions.csv", index=False)
    with pytest.raises(InputError, match="several predictions of"):
        read_run(folder)
    (folder / "record.json").write_text(json.dumps({**record, "files": {}}))
    table.assign(truth="classX").to_csv(folder / "predictions.csv", index=False)
    with pytest.raises(InputError, match="the class 'classX'"):
        read_run(folder)
