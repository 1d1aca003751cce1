"""The folder of a comparison: its numbers as JSON and CSV, a figure, a page."""

import json
import math
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from echolung.evaluation.comparison import Comparison, Contrast
from echolung.evaluation.statistics.resampled import WHY_THEY_DIFFER
from echolung.provenance import machine, versions
from echolung.report.comparison_figure import draw_gain
from echolung.report.comparison_page import write_page
from echolung.report.record import new_folder
from echolung.report.run import Run, digest_of
from echolung.settings import home, make_folder

COMPARISON_SCHEMA = 1


def save_comparison(found: Comparison, runs: list[Run], command: str = "", folder: Path | None = None) -> Path:
    """Write comparison.json, comparison.csv, folds.csv, gain.png and comparison.html; return the folder.

    Args:
        found: what was found.
        runs: from which runs.
        command: the command line that repeats it.
        folder: where; default a new one under `ECHOLUNG_HOME/runs`.
    """
    if folder is None:
        name = f"{datetime.now():%Y%m%d-%H%M%S}-compare-{found.about['dataset'].split()[-1]}-{found.about['task']}"
        folder = new_folder(home() / "runs", name)
    # Written beside its place and moved there whole: a folder is complete or not there.
    partial = make_folder(folder.with_name(folder.name + ".partial"))
    record = {
        "comparison_schema": COMPARISON_SCHEMA,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        **comparison_json(found),
        "runs": [
            {
                "name": run.folder.resolve().name,
                "encoder": run.record["encoder"],
                "predictions": digest_of(run.folder / "predictions.csv"),
                **({"continuity": run.record["continuity"]} if run.record.get("continuity") else {}),
            }
            for run in runs
        ],
        "versions": versions(),
        "machine": machine(),
    }
    (partial / "comparison.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", "utf-8")
    gains_table(found).to_csv(partial / "comparison.csv", index=False, lineterminator="\n")
    folds_table(found).to_csv(partial / "folds.csv", index=False, lineterminator="\n")
    draw_gain(found, partial / "gain.png")
    write_page(found, record, partial / "gain.png", partial / "comparison.html")
    if folder.is_dir():
        folder.rmdir()  # an empty one is welcome, anything else an error
    return partial.rename(folder)


def comparison_json(found: Comparison) -> dict[str, Any]:
    """Return all that was found as plain values; NaN becomes None."""
    return _plain(
        {
            "about": found.about,
            "optimistic": found.optimistic,
            "metric": found.metric,
            "arms": found.names,
            "what_differs": found.differing,
            "per_run": found.per_run,
            "contrasts": [_contrast_json(found.a, contrast) for contrast in found.contrasts],
            "why_the_tests_differ": WHY_THEY_DIFFER,
            "notes": list(found.notes),
        }
    )


def _contrast_json(a: str, contrast: Contrast) -> dict[str, Any]:
    tests = contrast.tests
    return {
        "a": a,
        "b": contrast.b,
        "gains": {name: asdict(gain) for name, gain in contrast.gains.items()},
        "p_holm": contrast.p_holm,
        "dz_over_patients": contrast.dz,
        "smallest_gain_80_percent_power": contrast.smallest,
        "fold_by_fold": None
        if tests is None
        else {
            "paired_t": tests.naive._asdict(),
            "corrected_resampled_t": tests.corrected._asdict(),
            "wilcoxon_p": tests.wilcoxon,
            "dz_over_folds": tests.dz,
        },
        "auroc_delong": None if contrast.delong is None else contrast.delong._asdict(),
        "folds": contrast.folds.to_dict("records"),
    }


def gains_table(found: Comparison) -> pd.DataFrame:
    """Return one row a contrast and metric; numbers unrounded."""
    return pd.DataFrame(
        [
            {
                "a_arm": found.a,
                "b_arm": contrast.b,
                "metric": name,
                **asdict(gain),
                "p_holm": contrast.p_holm if name == found.metric else None,
                "optimistic": found.optimistic,
            }
            for contrast in found.contrasts
            for name, gain in contrast.gains.items()
        ]
    )


def folds_table(found: Comparison) -> pd.DataFrame:
    """Return one row a contrast, fold and metric: b_arm, fold, metric, a, b, gain; no row where folds differ."""
    tables = [contrast.folds.assign(b_arm=contrast.b) for contrast in found.contrasts if len(contrast.folds)]
    columns = ["b_arm", "fold", "metric", "a", "b", "gain"]
    return pd.concat(tables)[columns] if tables else pd.DataFrame(columns=columns)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
