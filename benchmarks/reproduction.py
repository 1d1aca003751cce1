"""The published tables, asked again: the published protocol beside an honest one, grouped by patient and by source.

    uv run python benchmarks/reproduction.py --data path/to/data --work folder            # ViT-S, depth 1, a CPU
    uv run python benchmarks/reproduction.py … --encoder random:vit_large --depth 4 --device cuda --only-fold 0

`--work` keeps stores and every answer: what is there is not asked again, so that a run may be stopped, or parted by folds.
Prints the tables of docs/reproduction.md.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

# mean ± sd of the published study: its first version, and the later one; per cent of videos.
PUBLISHED = {
    ("pocus", "pretrained"): "89.2 ± 13.4 (later 97.5 ± 2.3)",
    ("pocus", "random"): "73.3 ± 7.6",
    ("covid-blues", "pretrained"): "74.6 ± 4.1 (75.2 ± 5.3)",
    ("covid-blues", "random"): "62.5 ± 3.8 (63.3 ± 4.2)",
}
SINGLE = {"pocus diagnosis": "100 / 66.7", "covid-blues covid": "76.4 / 53.9", "covid-blues severity": "36.1 / 7.9"}
"""Validation / test of the published single division 60/20/20; its test probes were in all likelihood untrained."""

FOLDERS = {"pocus": "covid19_ultrasound", "covid-blues": "COVID-BLUES"}
"""Dataset -> its folder under --data, where it is not called after the dataset, as `echolung data download` does."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of both, such as ECHOLUNG_HOME/data")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--encoder", default="random:vit_small")
    parser.add_argument("--pretrained", help="an encoder to put beside it; its weights, where you have them")
    parser.add_argument("--depth", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--only-fold", type=int, help="of the published protocol, for a machine that is lent by the minute"
    )
    arguments = parser.parse_args()
    os.environ.setdefault("ECHOLUNG_HOME", str(arguments.work.resolve()))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for arm, encoder in (("random", arguments.encoder), ("pretrained", arguments.pretrained)):
        if encoder:
            stores = {name: make_store(name, encoder, arguments) for name in FOLDERS}
            for question in questions(arguments):
                answer(stores[question["dataset"]], arm, question, arguments)
    print(tables(arguments))


def questions(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Return what is asked of each arm, the quick first."""
    attentive = {"probe": "attentive", "hyper": {"depth": arguments.depth}}
    pocus, blues = {"dataset": "pocus"}, {"dataset": "covid-blues", "task": "covid"}
    folds = [{"only_fold": fold} for fold in (range(5) if arguments.only_fold is None else [arguments.only_fold])]
    asked: list[dict[str, Any]] = []
    for probe in ({"probe": "linear"}, attentive):
        asked += [{**pocus, **probe}, {**pocus, **probe, "group": "source"}, {**blues, **probe, "cv": 3}]
        severity = {"dataset": "covid-blues", "task": "severity"}
        asked += [{**about, **probe, "split": "60/20/20"} for about in (pocus, blues, severity)]
        asked += [{**pocus, **probe, "protocol": "seed", **fold} for fold in folds]
    return asked


def make_store(dataset: str, encoder: str, arguments: argparse.Namespace) -> Any:
    """Return the store of a dataset by an encoder, made where it is not there."""
    from echolung.clips.plan import ClipPlan
    from echolung.datasets import load_manifest
    from echolung.encoders.identity import identify
    from echolung.extraction import make_plan
    from echolung.extraction.run import extract
    from echolung.extraction.sources import finished_store

    cloned = arguments.data / FOLDERS[dataset]
    manifest = load_manifest(dataset, cloned if cloned.exists() else arguments.data / dataset)
    precision = "bfloat16" if arguments.device == "cuda" else "float32"
    plan = make_plan(manifest, identify(encoder), ClipPlan(), precision=precision)
    return finished_store(plan) or extract(plan, device=arguments.device)


def answer(store: Any, arm: str, question: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Ask one question and keep what came of it, unless it has been asked before."""
    from echolung.errors import InputError
    from echolung.evaluation import cross_validate
    from echolung.evaluation.summary import summarise

    file = arguments.work / "answers" / f"{arm}-{'-'.join(_flat(question))}.json"
    if file.exists():
        return
    asked = {key: value for key, value in question.items() if key != "dataset"}
    # What the nested protocol would leave for a report is not needed here, and costs a third more.
    asked |= {"diagnose": False, "tell": lambda text: print(text, flush=True)}
    began = time.perf_counter()
    try:
        result = cross_validate(store, device=arguments.device, precision="auto", **asked)
    except InputError as error:
        found: dict[str, Any] = {"refused": str(error)}
    else:
        summary = summarise(result)
        found = {
            "mean": summary.mean, "sd": summary.sd, "interval": summary.interval, "guess": summary.guess,
            "folds": summary.folds["accuracy"].tolist(), "videos": len(result.predictions), "inner": _inner(result),
        }  # fmt: skip
    found |= {"arm": arm, "question": question, "seconds": round(time.perf_counter() - began, 1)}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(found, indent=2, default=float) + "\n")
    print(f"{file.stem}: {found['seconds']} s", flush=True)


def _flat(question: dict[str, Any]) -> list[str]:
    return [str(v).replace("/", "_") if not isinstance(v, dict) else f"depth{v['depth']}" for v in question.values()]


def _inner(result: Any) -> float | None:
    """Return the accuracy of held-out inner (validation) predictions, where there are any; the part of everything left out."""
    if result.inner is None:
        return None
    table = result.inner[result.inner["part"] >= 0]
    p = table[[f"p_{name}" for name in result.task.classes]].to_numpy()
    return float((np.array(result.task.classes)[p.argmax(1)] == table["truth"]).mean())


def tables(arguments: argparse.Namespace) -> str:
    """Return the tables as Markdown."""
    files = sorted((arguments.work / "answers").glob("*.json"))
    answers = [json.loads(file.read_text()) for file in files]
    return "\n\n".join([_protocols(answers), _splits(answers)])


def _protocols(answers: list[dict[str, Any]]) -> str:
    lines = [
        "| data | arm | probe | published | seed protocol (optimistic) | nested, by patient | nested, by source | majority |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for dataset in FOLDERS:
        for arm, probe in (("pretrained", "attentive"), ("random", "attentive"), ("random", "linear")):
            own = [a for a in answers if _of(a, dataset, arm, probe) and "split" not in a["question"]]
            seed = [a for a in own if a["question"].get("protocol") == "seed"]
            by = {a["question"].get("group", "patient"): a for a in own if a not in seed}
            published = PUBLISHED[dataset, arm] if probe == "attentive" else ""
            cells = [_pooled(seed), _cell(by.get("patient")), _cell(by.get("source"))]
            if not own:
                why = "not rerun: weights not available here" if arm == "pretrained" else "not yet measured"
                cells = [why, "—", "—"]
            guess = by["patient"]["guess"]["accuracy"] if "guess" in by.get("patient", {}) else float("nan")
            majority = f"{100 * guess:.1f}" if guess == guess else "—"
            lines.append(f"| {dataset} | {arm} | {probe} | {published} | {' | '.join(cells)} | {majority} |")
    return "\n".join(lines)


def _splits(answers: list[dict[str, Any]]) -> str:
    lines = ["| task | probe | published val / test | here val / test | majority |", "|---|---|---|---|---|"]
    for a in answers:
        question = a["question"]
        if "split" in question and a["arm"] == "random":
            name = f"{question['dataset']} {question.get('task', 'diagnosis')}"
            if "refused" in a:
                lines.append(f"| {name} | {question['probe']} | {SINGLE[name]} | refused: {a['refused']} | |")
                continue
            guess = 100 * a["guess"]["accuracy"]
            here = f"{100 * a['inner']:.1f} / {100 * a['mean']['accuracy']:.1f}"
            lines.append(f"| {name} | {question['probe']} | {SINGLE[name]} | {here} | {guess:.1f} |")
    return "\n".join(lines)


def _of(found: dict[str, Any], dataset: str, arm: str, probe: str) -> bool:
    question = found["question"]
    return question["dataset"] == dataset and found["arm"] == arm and question["probe"] == probe


def _cell(found: dict[str, Any] | None) -> str:
    if found is None or "refused" in found:
        return "—"
    low, high = found["interval"]["accuracy"]
    return f"{100 * found['mean']['accuracy']:.1f} ± {100 * found['sd']['accuracy']:.1f} [{100 * low:.0f}, {100 * high:.0f}]"


def _pooled(folds: list[dict[str, Any]]) -> str:
    """Return mean ± sd over folds that were run one by one."""
    values = [100 * value for found in folds for value in found.get("folds", [])]
    if not values:
        return "—"
    part = "" if len(values) == 5 else f" ({len(values)} of 5 folds)"
    spread = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{np.mean(values):.1f}{spread}{part}"


if __name__ == "__main__":
    main()
