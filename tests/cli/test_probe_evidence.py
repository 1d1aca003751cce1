"""`echolung probe` and the evidence beside its number: checks, permutations, pairs left out, another dataset, the report."""

import json

import numpy as np
import pandas as pd
import pytest

from echolung.datasets.manifest import Task
from echolung.report.run import read_run

FAST = ("--epochs", 3, "--cv", 3)


@pytest.fixture
def store(write_classes):
    return write_classes(patients=18, classes=2).path


def test_a_run_ends_with_checks_and_a_report(typed, store, tmp_path):
    code, out, err = typed("probe", store, *FAST, "--out", tmp_path / "run")
    assert code == 0, err
    assert "looks a fold) it would be called" in out and "checks warn" in out and "sensitivity" in " ".join(out.split())
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000 and "Report:" in err
    run = read_run(tmp_path / "run")
    assert {finding.code for finding in run.findings} >= {"EL101", "EL201", "EL307"}
    assert run.record["command"].startswith("echolung probe") and run.record["files"]["predictions.csv"]


def test_a_muted_check_stays_quiet_and_an_unknown_code_is_refused_at_once(typed, store, tmp_path):
    code, out, _ = typed("probe", store, *FAST, "--out", tmp_path / "run", "--no-report", "--mute", "EL110")
    assert code == 0 and "EL110" not in out and "1 muted" in out
    assert not (tmp_path / "run" / "report.html").exists()
    code, out, err = typed("probe", store, "--mute", "EL999")
    assert code == 2 and "EL999" in err and "fold" not in out


def test_chance_and_pairs_are_recorded_and_told(typed, store, tmp_path):
    code, out, err = typed(
        "probe", store, *FAST, "--permutations", 5, "--leave-pair-out", 4, "--no-report", "--out", tmp_path / "run"
    )
    assert code == 0, err
    assert "(5 reruns of the whole procedure)" in out and "(4 pairs of patients)" in out
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert record["permutation"]["p"] >= 1 / 6 and 0 <= record["leave_pair_out"]["auroc"] <= 1


def test_repeats_have_a_line_each(typed, store, tmp_path):
    code, out, err = typed("probe", store, *FAST, "--repeats", 2, "--out", tmp_path / "run")
    assert code == 0, err
    assert "repeat 0" in out and "repeat 1" in out and "once in each of 2 repeats" in out
    assert len(read_run(tmp_path / "run").result.folds) == 6


def test_what_was_to_be_chosen_from_is_said_in_words(typed, store, tmp_path):
    given = ("--set", "lr=0.001,0.003", "--set", "dropout=0.5", "--no-report")
    code, out, err = typed("probe", store, *FAST, *given, "--out", tmp_path / "run")
    assert code == 0, err
    assert "linear probe (lr 0.001 or 0.003, dropout 0.5)" in out


def test_numbers_over_folds_stand_beside_the_interval_of_the_same(typed, write_store, tmp_path):
    """R² of all predictions, as its interval is: the mean over folds of four patients lies far outside it."""
    random = np.random.default_rng(0)
    ef = random.uniform(20, 75, 24)
    names = [f"v{i:02d}" for i in range(24)]
    videos = pd.DataFrame({"video_id": names, "patient": names, "source": "s", "ef": ef})
    hearts = write_store(random.normal(size=(24, 1, 1, 1, 6)), videos, {"ef": Task("regression", "ef")})
    code, out, err = typed("probe", hearts.path, "--epochs", 3, "--cv", 6, "--no-report", "--out", tmp_path / "run")
    assert code == 0, err
    found = pd.read_csv(tmp_path / "run" / "predictions.csv")
    r2 = 1 - ((found["truth"] - found["prediction"]) ** 2).sum() / ((found["truth"] - found["truth"].mean()) ** 2).sum()
    assert f"here of all predictions together: R² (1 − SSE/SST) {r2:.3f} (" in out
    assert "AUROC of the number for EF, mean over folds, below 35" in out


def test_another_dataset_is_predicted_once(typed, store, write_classes, tmp_path):
    other = write_classes(patients=12, classes=3, seed=1, dataset="other").path
    mapping = ("--map", "class0=class2,class1=class1")
    code, out, err = typed("probe", store, "--test", other, *mapping, "--epochs", 3, "--out", tmp_path / "run")
    assert code == 0, err
    assert "synthetic · label → other · label" in out and "have no label" not in out
    run = read_run(tmp_path / "run")
    assert set(run.result.predictions["truth"]) == {"class1", "class2"} and len(run.result.folds) == 1
    np.testing.assert_allclose(run.result.scores.sum(1), 1, atol=1e-5)


def test_what_was_learnt_is_not_tested(typed, store):
    code, _, err = typed("probe", store, "--test", store, "--epochs", 2)
    assert code == 2 and "what was learnt would be tested" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--map", "a=b"), "name it with --test"),
        (("--test", "x.zarr", "--repeats", 2), "does not go with"),
        (("--test", "nowhere.zarr"), "nowhere.zarr"),
        (("--label-fractions", "0.5", "--permutations", 3), "nothing that repeats"),
        (("--leave-pair-out", 3, "--task", "number"), "two classes"),
        (("--leave-pair-out", 3, "--group", "video"), "leaves out patients"),
        (("--permutations", 3, "--split", "60/20/20"), "goes with no other"),
        (("--only-fold", 1), "--protocol seed"),
        (("--store", "other.zarr"), "given twice"),
    ],
)
def test_what_does_not_go_together(typed, store, words, said):
    code, _, err = typed("probe", store, *words)
    assert code == 2 and said in " ".join(err.split())


def test_names_with_square_brackets_are_names(typed, write_store, tmp_path):
    """Rich takes [/low] for the end of a style: it must neither vanish nor cost the run."""
    random, names = np.random.default_rng(0), [f"v[b]{i:02d}" for i in range(24)]
    classes = ["mild [/low]", "mild [red]"]
    videos = pd.DataFrame(
        {"video_id": names, "patient": names, "source": "s", "a [/b]": [classes[i % 2] for i in range(24)]}
    )
    values = random.normal(size=(24, 1, 1, 1, 6))
    tasks = {"a [/b]": Task("classification", "a [/b]", tuple(classes))}
    store = write_store(values, videos, tasks, dataset="d[/x]").path
    for more in ([], ["--label-fractions", "0.5,1", "--label-seeds", 1]):
        code, out, err = typed("probe", store, *FAST, "--out", tmp_path / f"run{len(more)}", *more)
        assert code == 0 and "could not be shown" not in err, err
        assert "d[/x] · a [/b]" in out
    assert (tmp_path / "run0" / "record.json").is_file()
    code, out, err = typed("probe", store, *FAST, "--out", tmp_path / "run1", "--no-report")
    assert "mild [/low] 12, mild [red] 12" in out and "Of 'mild [red]', mean ± sd" in out
    code, out, err = typed("predict", tmp_path / "run1", store)
    assert code == 0 and "d[/x] · a [/b]" in out, err
    code, out, err = typed("leaderboard", "--runs", tmp_path)
    assert code == 0 and "d[/x] · a [/b]" in out, err


def test_what_cannot_be_shown_is_saved(typed, store, tmp_path, monkeypatch):
    from echolung.cli.probing import table

    monkeypatch.setattr(table, "_fold_table", lambda *_: 1 / 0)
    code, _, err = typed("probe", store, *FAST, "--no-report", "--out", tmp_path / "run")
    assert code == 0 and "could not be shown (ZeroDivisionError" in err
    assert (tmp_path / "run" / "predictions.csv").is_file()
