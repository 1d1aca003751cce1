"""The page: whole in itself, its numbers those of the run, and the words that belong beside them."""

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from echolung.datasets.manifest import Task
from echolung.errors import InputError
from echolung.report.html import images, write_report
from echolung.report.html.images import Drawn
from echolung.report.html.page import render
from echolung.report.html.section import Material
from echolung.report.html.tables import number
from echolung.report.run import read_run

VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """What a page holds; a tag that closes another than the last opened is a mistake."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.images, self.links, self.tables, self.text = [], [], [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        about = dict(attrs)
        self.ids += [about["id"]] if "id" in about else []
        for name in ("src", "href", "srcset", "poster", "action"):
            if name in about and tag != "img":
                self.links.append(about[name])
        if tag == "img":
            self.images.append(about)
        if tag == "table":
            self.tables.append({"heads": 0, "cells": []})
        if tag == "th":
            self.tables[-1]["heads"] += 1
        if tag == "tr":
            self.tables[-1]["cells"].append([])
        if tag == "td":
            self.tables[-1]["cells"][-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "td" in self.open and "small" not in self.open:
            self.tables[-1]["cells"][-1][-1] += data
        if not {"style", "script"} & set(self.open):
            self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())

    def table(self, first):
        """Return the rows of the table whose first row begins with a text."""
        return next(t["cells"] for t in self.tables if any(row and row[0] == first for row in t["cells"]))


def words_of(run, store=None):
    """Return a page without figures, which take longer."""
    return Page(render(Material(run, store, Drawn({}, {}))))


@pytest.fixture
def few_figures(monkeypatch):
    """Draw one figure alone, which is quicker."""
    monkeypatch.setattr(images, "PLOTS", {"confusion": images.PLOTS["confusion"]})


def test_the_page_is_whole_in_itself(page):
    found = Page(page.read_text())
    assert all(link.startswith("#") or link == "data:," for link in found.links)
    assert len(found.ids) == len(set(found.ids))
    assert {link[1:] for link in found.links if link.startswith("#")} <= set(found.ids)
    assert not re.search(r"url\(|@import|fetch\(|XMLHttp|import\(", page.read_text().replace("data:image", ""))
    assert "default-src 'none'" in page.read_text()


def test_every_image_is_inside_and_opens(page):
    found = Page(page.read_text())
    assert len(found.images) >= 12
    for image in found.images:
        kind, data = re.fullmatch(r"data:image/(png|webp|gif);base64,(.+)", image["src"]).groups()
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            picture.load()
            assert picture.format.lower() == kind
            wide, high = int(image["width"]), int(image["height"])
            assert picture.height / picture.width == pytest.approx(high / wide, rel=0.02)
        assert len(image["alt"]) > 5


def test_every_section_is_there_in_the_order_of_a_sceptic(page):
    wanted = "top checks folds confusion roc reliability training twins inner groups mistakes map attention samples"
    assert Page(page.read_text()).ids == [*wanted.split(), "protocol", "rerun"]
    files = {file.name for file in (page.parent / "figures").iterdir()}
    assert {"confusion.png", "roc-pr.png", "reliability.png", "twins.png", "sources.png", "mistakes.png"} <= files
    assert not list(page.parent.glob("*.partial"))


def test_every_table_has_heads_for_its_columns(page):
    for table in Page(page.read_text()).tables:
        assert table["heads"] > 1 and {len(row) for row in table["cells"] if row} == {table["heads"]}


def test_the_numbers_are_those_of_the_run(run, store):
    found, summary = words_of(run, store), run.summary
    mean, (low, high) = summary.mean["balanced_accuracy"], summary.interval["balanced_accuracy"]
    assert f"balanced accuracy {100 * mean:.1f} % 95 % interval {100 * low:.1f} – {100 * high:.1f} %" in found.words
    rows = {row[0]: row for row in found.table("this run") if row}
    assert rows["this run"][1] == f"{100 * mean:.1f} ± {100 * summary.sd['balanced_accuracy']:.1f}"
    assert rows["one prediction a patient"][1] == number("balanced_accuracy", summary.patient["balanced_accuracy"])
    assert rows["majority class"][1] == number("balanced_accuracy", summary.guess["balanced_accuracy"])
    assert rows["a forest that saw no pixel"][2:3] == ["62.5"]
    assert rows["random twins"][1] == f"{100 * mean:.1f} ± 0.0"
    assert rows["random twin @1"][1] == rows["this run"][1]
    folds = [row for row in found.table("mean ± sd") if row]
    shown = [row[-4] for row in folds[:-1]]  # accuracy, balanced accuracy, AUROC, twins
    assert shown == [number("balanced_accuracy", value) for value in summary.folds["balanced_accuracy"]]
    assert "24 patients (class0: 8, class1: 8, class2: 8)" in found.words and "0 patients shared" in found.words


def test_checks_that_warn_come_first_the_rest_is_folded(run):
    text = render(Material(run, None, Drawn({}, {})))
    warns, folded = text.index("Why it matters"), text.index("1 not applicable")
    assert text.index("EL107") < warns < text.index("1 fine") < folded < text.index("1 muted")
    assert text.count('<article class="finding">') == 1 and "1 of 4 checks warn" in Page(text).words


def test_an_optimistic_number_is_called_so_wherever_it_shows(make_run, store, run):
    seed = words_of(make_run(store, protocol="seed"), store)
    assert "Optimistic. Setting and epoch of each fold were chosen on the very videos" in seed.words
    titles = re.findall(r"<h2>(.*?)</h2>", render(Material(run, None, Drawn({}, {}))))
    assert not any("optimistic" in title for title in titles)
    flat = replace(run.result, settings={**run.result.settings, "protocol": "flat"})
    text = render(Material(replace(run, result=flat), None, Drawn({}, {})))
    marked = [title for title in re.findall(r"<h2>(.*?)</h2>", text) if "optimistic" in title]
    assert len(marked) == len(
        [k for k in ("folds", "reliability", "inner", "groups", "mistakes") if f'id="{k}"' in text]
    )
    assert 'class="banner"' in text and "(optimistic) · echolung</title>" in text
    rows = [row[0] for row in Page(text).table("this run (optimistic)") if row]
    assert [name for name in rows if "optimistic" not in name] == ["a forest that saw no pixel", "majority class"]


def test_numbers_have_a_page_too(make_run, store):
    run = make_run(store, task="number")
    path = write_report(run)
    found = Page(path.read_text())
    assert "scatter" in found.ids and not {"confusion", "roc", "reliability"} & set(found.ids)
    assert f"MAE {run.summary.mean['mae']:.3f}" in found.words
    error = (run.result.predictions["prediction"] - run.result.predictions["truth"]).abs()
    worst = [row for row in found.table(run.result.predictions["video_id"][error.argmax()]) if row]
    assert worst[0][0] == run.result.predictions["video_id"][error.argmax()]


def test_one_split_and_many_repeats(make_run, store):
    split = words_of(make_run(store, split="60/20/20"), store)
    assert (
        "scored once" in split.words and "over folds</p>" not in split.words and "one division" in split.words.lower()
    )
    many = make_run(store, repeats=2)
    found = words_of(many, store)
    assert "3 folds × 2 repeats" in found.words
    assert f"± {100 * many.summary.sd_repeats['balanced_accuracy']:.1f} % over repeats" in found.words
    patients = next(t["cells"] for t in found.tables if any(row[:1] == ["p0"] for row in t["cells"]))
    assert len([row for row in patients if row]) == 24


def test_across_datasets(store, make_run, write_classes):
    from echolung.evaluation.summary import summarise
    from echolung.evaluation.transfer import transfer
    from echolung.report.record import save_run

    result = transfer(store, write_classes(seed=1, dataset="other"), epochs=2)
    folder = make_run(store).folder.parent / "across"
    run = read_run(save_run(result, summarise(result), store, 1.0, folder))
    found = words_of(run, store)
    assert "synthetic · label → other · label" in found.words and "learnt from one dataset" in found.words
    assert "chosen and trained on all of one dataset" in found.words and "mean ± sd" not in found.words


def test_permutations_are_told(make_run, store):
    told = {"kind": "whole procedure", "permutations": 99, "metric": "balanced_accuracy", "observed": 0.8, "p": 0.01}
    run = make_run(store, extra={"permutation": {**told, "null_mean": 0.33, "null_95": 0.4, "redrawn": 0}})
    assert (
        "p = 0.01 by 99 permutations (whole procedure): balanced accuracy 80.0 % against 33.0 %" in words_of(run).words
    )


def test_without_the_store_it_says_what_is_left_out(run, tmp_path, few_figures):
    path = write_report(run, None, tmp_path / "elsewhere" / "page.html")
    found = Page(path.read_text())
    assert "left-out" in found.ids and not {"map", "attention", "samples"} & set(found.ids)
    assert "framed.zarr" in found.words and "--store PATH" in found.words and "By what is known" not in found.words
    assert (tmp_path / "elsewhere" / "page-figures" / "confusion.png").is_file()
    first = path.read_bytes()
    assert write_report(run, None, path).read_bytes() == first


def test_by_sex_and_age_where_known(run, store, write_classes):
    rows = [row for row in words_of(run, store).table("sex") if row]
    assert [(row[0], row[1]) for row in rows][:2] == [("sex", "female"), ("sex", "male")]
    assert {row[0] for row in rows} == {"sex", "age"}
    unknown = words_of(run, write_classes())
    assert "By what is known" not in unknown.words


def test_a_run_of_the_first_schema(make_run, store):
    folder = make_run(store).folder
    record = json.loads((folder / "record.json").read_text())
    twin = {**record["metrics"], "mean": {**record["metrics"]["mean"], "balanced_accuracy": 0.4321, "auroc": None}}
    for name in ("files", "command", "findings", "twins"):
        del record[name]
    record["folds"] = [{k: v for k, v in fold.items() if k != "temperature"} for fold in record["folds"]]
    (folder / "record.json").write_text(json.dumps({**record, "record_schema": 1, "random_twin": twin}))
    for name in ("inner", "curves", "looks"):
        (folder / f"{name}.csv").unlink(missing_ok=True)
    found = Page(write_report(read_run(folder)).read_text())
    assert "made without checks" in found.words and "not recorded" in found.words
    row = next(row for row in found.table("this run") if row and row[0] == "random twin")
    assert row[1].startswith("43.2 ±") and row[3] == "—"


def test_figures_of_a_study_are_embedded(make_run, store, few_figures):
    run = make_run(store)
    for name in ("history", "parallel", "importance"):
        Image.new("RGB", (320, 160), "white").save(run.folder / f"{name}.png", dpi=(160, 160))
    images = [image for image in Page(write_report(run).read_text()).images if image["alt"].startswith("The search")]
    assert [(image["alt"], image["width"]) for image in images] == [
        (f"The search: {name}", "192") for name in ("history", "parallel", "importance")
    ]


def test_names_cannot_break_the_page(write_store, make_run):
    random = np.random.default_rng(0)
    names = ("<script>alert(1)</script>", 'a "quoted" & <b>')
    label = np.arange(40) % 2
    videos = pd.DataFrame(
        {
            "video_id": [f"</td><i>{i}" for i in range(40)],
            "patient": [f"<p{i}>" for i in range(40)],
            "source": "'\"",
            "label": [names[i] for i in label],
        }
    )
    values = random.normal(size=(40, 1, 1, 2, 4)) + label[:, None, None, None, None]
    store = write_store(values, videos, {"label": Task("classification", "label", names)})
    found = words_of(make_run(store), store)
    assert names[0] in found.words and "<p0>" in {row[0] for t in found.tables for row in t["cells"] if row}


def test_a_damaged_store_costs_only_what_shows_it(run, store, monkeypatch):
    def damaged(run, store, folder):
        raise InputError("preview/c/0 is damaged.")

    monkeypatch.setattr(images, "PLOTS", {})
    monkeypatch.setattr(images, "PICTURES", {"map": damaged})
    found = Page(write_report(run, store, run.folder.parent / "other.html").read_text())
    assert "map" in found.ids and "preview/c/0 is damaged." in found.words


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("accuracy", 0.12345, "12.3"),
        ("kappa", -0.25, "−0.250"),
        ("mae", 12.34, "12.3"),
        ("auroc", float("nan"), "—"),
        ("auroc", None, "—"),
    ],
)
def test_numbers_as_tables_write_them(metric, value, text):
    assert number(metric, value) == text
