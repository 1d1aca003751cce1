"""`echolung leaderboard` as a person meets it, and the files it writes."""

import csv
import json
import re

import pandas as pd
import pytest

from echolung.cli import leaderboard as command


@pytest.fixture
def runs(write_run, echolung_home):
    """Return a folder of runs: good, bad and optimistic ones, other groups, and what is none."""
    folder = echolung_home / "runs"
    write_run(folder / "bad", "random:timm:net@0", 0.1, 2)
    write_run(folder / "good", "timm:net", 3.0, 1, hyper={"dropout": [0, 0.3]})
    write_run(folder / "best", "timm:net", 9.0, 3, protocol="seed")
    write_run(folder / "source", "a|b_*c*\\d", 1.0, 4, group="source", folds=4)
    write_run(folder / "curve", "timm:net", 1.0, 5)
    record = json.loads((folder / "curve" / "record.json").read_text())
    (folder / "curve" / "record.json").write_text(json.dumps({**record, "label_efficiency": []}))
    (folder / "20260101-compare-made-label").mkdir()
    return folder


def names(out):
    return [row["run"] for row in json.loads(out)["runs"]]


def test_best_first_but_honest_before_optimistic(typed, runs):
    code, out, err = typed("leaderboard", "--json")
    assert code == 0, err
    assert names(out) == ["good", "bad", "best", "source"]
    good = json.loads(out)["runs"][0]
    metrics = json.loads((runs / "good" / "record.json").read_text())["metrics"]
    assert (
        good["balanced_accuracy"] == metrics["mean"]["balanced_accuracy"]
        and good["accuracy_sd"] == metrics["sd"]["accuracy"]
    )
    assert [good["auroc_low"], good["auroc_high"]] == metrics["interval"]["auroc"]
    assert (good["patients"], good["videos"], good["probe"], good["protocol"]) == (
        24,
        48,
        "linear dropout=0/0.3",
        "nested, cv 3",
    )
    assert json.loads(out)["runs"][2]["optimistic"] is True


@pytest.mark.parametrize("width", [80, 120])
def test_it_fits_the_terminal(typed, runs, width, monkeypatch):
    from rich.console import Console

    monkeypatch.setattr(command, "out", lambda: Console(width=width))
    code, out, err = typed("leaderboard")
    assert code == 0, err
    assert max(map(len, out.splitlines())) <= width and "…" not in out
    assert out.index("folds by patient") < out.index("folds by source") and "(optimistic)" in out
    assert re.search(r"^ 1 +good$", out, re.M) and re.search(r"^ 4 +source$", out, re.M)


def test_one_dataset_or_task(typed, runs, write_run):
    write_run(runs / "other", "vit", 1.0, 6, dataset="elsewhere", task="severity")
    assert names(typed("leaderboard", "--dataset", "elsewhere", "--json")[1]) == ["other"]
    assert names(typed("leaderboard", "--task", "severity", "--json")[1]) == ["other"]
    write_run(runs / "across", "vit", 1.0, 7, dataset="learnt", test={"dataset": "scored"}, protocol="transfer")
    for name in ("learnt", "scored"):
        (row,) = json.loads(typed("leaderboard", "--dataset", name, "--json")[1])["runs"]
        assert row["dataset"] == "learnt → scored"
    code, _, err = typed("leaderboard", "--dataset", "pocus")
    assert code == 2 and "There is no run of dataset pocus" in err and "echolung probe --dataset pocus" in err


def test_what_cannot_be_read_is_named_and_passed_over(typed, runs, tmp_path):
    (runs / "broken").mkdir()
    (runs / "broken" / "record.json").write_text("{")
    (runs / "newer").mkdir()
    (runs / "newer" / "record.json").write_text('{"record_schema": 99}')
    (runs / "empty").mkdir()
    (runs / "empty" / "record.json").write_text('{"record_schema": 2}')
    code, out, err = typed("leaderboard", "--json")
    assert code == 0 and len(names(out)) == 4
    assert err.count("Passed over") == 3 and "schema 99" in err and "broken" in err
    assert len(json.loads(out)["passed_over"]) == 3
    code, _, err = typed("leaderboard", "--runs", tmp_path / "nowhere")
    assert code == 2 and "There is no folder" in err


def test_csv_keeps_every_digit(typed, runs, tmp_path):
    code, out, err = typed("leaderboard", "--csv", tmp_path / "board.csv", "--json")
    assert code == 0, err
    table = pd.read_csv(tmp_path / "board.csv")
    rows = json.loads(out)["runs"]
    assert list(table["run"]) == [row["run"] for row in rows] and list(table["encoder"]) == [
        row["encoder"] for row in rows
    ]
    for name in ("balanced_accuracy", "auroc_high", "accuracy_guess"):
        assert list(table[name]) == [row[name] for row in rows]
    with (tmp_path / "board.csv").open(newline="") as file:
        assert len({len(row) for row in csv.reader(file)}) == 1


def test_markdown_shows_names_as_they_are(typed, runs, tmp_path):
    code, out, err = typed("leaderboard", "--markdown", tmp_path / "board.md", "--json")
    assert code == 0, err
    text = (tmp_path / "board.md").read_text()
    tables = [block for block in text.split("\n\n") if block.startswith("|")]
    assert text.count("## made · label · folds by") == len(tables) == 2
    rows = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for table in tables for line in table.splitlines()
    ]
    assert len({len(row) for row in rows}) == 1
    shown = [re.sub(r"\\(.)", r"\1", row[0]) for row in rows if row[0] not in ("encoder", "---")]
    assert shown == [row["encoder"] for row in json.loads(out)["runs"]]
    first = json.loads(out)["runs"][0]
    assert rows[2][5] == f"{100 * first['balanced_accuracy']:.1f} ± {100 * first['balanced_accuracy_sd']:.1f}"
    assert "Guessing scores: balanced acc." in text and "nested, cv 3" in text and "seed, cv 3 (optimistic)" in text


def test_a_file_that_cannot_be_written(typed, runs, tmp_path):
    code, _, err = typed("leaderboard", "--csv", tmp_path / "no" / "board.csv")
    assert code == 2 and "there is no folder" in err
    code, _, err = typed("leaderboard", "--markdown", tmp_path)
    assert code == 2 and "is a folder" in err
