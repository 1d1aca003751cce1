import subprocess
import sys

import pandas as pd
import pytest

from echolung.datasets import DATASETS, Manifest, Task, load_manifest
from echolung.errors import InputError


def videos(**columns):
    base = {"video_id": ["a", "b"], "path": ["a.mp4", "b.mp4"], "patient": ["1", "2"], "source": ["", ""]}
    return pd.DataFrame({**base, **columns})


def test_task_survives_json():
    task = Task("classification", "severity", ("0", "1", "2", "3"), level="patient", ordinal=True)
    assert Task.from_json(task.to_json()) == task
    assert task.to_json()["classes"] == ["0", "1", "2", "3"]


def test_manifest_checks_itself(tmp_path):
    task = {"x": Task("regression", "x")}
    assert Manifest("m", tmp_path, videos(x=[1.0, 2.0]), task).file(1) == tmp_path / "b.mp4"
    with pytest.raises(InputError, match=r"has no column patient"):
        Manifest("m", tmp_path, videos().drop(columns="patient"), {})
    with pytest.raises(InputError, match="holds no video"):
        Manifest("m", tmp_path, videos().iloc[:0], {})
    with pytest.raises(InputError, match="share a video_id: 'a'"):
        Manifest("m", tmp_path, videos(video_id=["a", "a"]), {})
    with pytest.raises(InputError, match="Task 'x' of m needs the column 'x'"):
        Manifest("m", tmp_path, videos(), task)


def test_first_task_is_the_default(tmp_path):
    tasks = {"x": Task("regression", "x"), "y": Task("regression", "y")}
    manifest = Manifest("m", tmp_path, videos(x=[1.0, 2.0], y=[0.0, 1.0]), tasks)
    assert manifest.task() == ("x", tasks["x"]) and manifest.task("y") == ("y", tasks["y"])
    with pytest.raises(InputError, match="no task 'z'; it has x, y"):
        manifest.task("z")


def test_unknown_dataset_and_option(tmp_path):
    with pytest.raises(InputError, match=r"no dataset 'pocsu'.*Did you mean 'pocus'"):
        load_manifest("pocsu", tmp_path)
    with pytest.raises(InputError, match=r"covid-blues has no option 'transducer' \(it takes: none\)"):
        load_manifest("covid-blues", tmp_path, transducer="linear")


@pytest.mark.parametrize("name", ["pocus", "covid-blues"])
def test_default_root_lies_in_the_home(name, echolung_home):
    with pytest.raises(InputError, match=f"There is no folder {echolung_home.resolve() / 'data' / name}"):
        load_manifest(name)


@pytest.mark.parametrize("name", ["pocus", "covid-blues"])
def test_catalogue_names_the_tasks_that_come(name, real_data):
    root = real_data / {"pocus": "covid19_ultrasound", "covid-blues": "COVID-BLUES"}[name]
    assert tuple(load_manifest(name, root).tasks) == DATASETS[name].tasks


def test_import_is_light():
    code = "import echolung.datasets, sys; print({'torch', 'sklearn', 'av', 'decord'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
