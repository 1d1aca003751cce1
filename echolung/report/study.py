"""What a study leaves in its run folder: every trial, what was chosen, which hyper-parameters mattered, and three figures."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from echolung.evaluation.studies import StudyResult
from echolung.evaluation.studies.final import is_finite
from echolung.evaluation.studies.storage import quiet
from echolung.report.study_figures import draw_history, draw_importance, draw_parallel

FEWEST = 10
"""Finished trials below which nothing is said about importance."""


def save_study(found: StudyResult, folder: Path) -> None:
    """Write trials.csv, study.json, history.png, parallel.png and importance.png into the folder of a run.

    importance.png is left out where no part has enough trials for it.
    """
    table = trials_table(found.trials)
    table.to_csv(folder / "trials.csv", index=False, float_format="%.8g", lineterminator="\n")
    space = found.result.settings["study"]["space"]
    weights = importances(found.trials, list(space))
    about = {
        **found.result.settings["study"],
        "chosen": {part: {**choice.setting, "epoch": choice.epoch} for part, choice in found.choices.items()},
        "importance": weights,
    }
    (folder / "study.json").write_text(json.dumps(about, indent=2) + "\n")
    title, loss = _title(found), "log-loss" if found.result.task.classes else "squared error"
    draw_history(table, title, f"inner {loss}", folder / "history.png")
    whole = table[(table["study"] == "all") & (table["state"] == "complete") & np.isfinite(table["value"])]
    draw_parallel(whole, space, title, loss, folder / "parallel.png")
    if weights:
        draw_importance(weights, title, folder / "importance.png")


def trials_table(trials: Mapping[str, Sequence[FrozenTrial]]) -> pd.DataFrame:
    """Return one row a trial that was trained: study, number, state, value, epoch, its hyper-parameters, seconds, worker.

    The value is that of a finished trial; of a pruned one the last it reported.
    """
    rows = []
    for name, of_study in trials.items():
        for trial in of_study:
            if trial.state == TrialState.WAITING or "surplus" in trial.user_attrs:
                continue
            rows.append(
                {
                    "study": name,
                    "number": trial.number,
                    "state": trial.state.name.lower(),
                    "value": math.nan if trial.value is None else trial.value,
                    "epoch": trial.user_attrs.get("epoch"),
                    **trial.params,
                    "seconds": None if trial.duration is None else round(trial.duration.total_seconds(), 3),
                    "worker": trial.user_attrs.get("worker"),
                    "retry_of": trial.user_attrs.get("retry_of"),
                }
            )
    return pd.DataFrame(rows).astype({"epoch": "Int64", "retry_of": "Int64"})


def importances(trials: Mapping[str, Sequence[FrozenTrial]], names: list[str]) -> dict[str, dict[str, float]]:
    """Return study -> hyper-parameter -> its share of importance (PED-ANOVA, Watanabe et al. 2023), the shares adding to 1.

    Of studies with too few finished trials, or whose values are all equal, nothing can be said.
    """
    found = {}
    for part, of_part in trials.items():
        finite = [trial for trial in of_part if is_finite(trial)]
        if len(finite) < FEWEST or len({trial.value for trial in finite}) == 1:
            continue
        with quiet():
            alone = optuna.create_study()
            alone.add_trials(finite)
            evaluator = optuna.importance.PedAnovaImportanceEvaluator()
            weights = optuna.importance.get_param_importances(alone, evaluator=evaluator, params=names)
        found[part] = {name: round(float(weights[name]), 4) for name in names}
    return found


def _title(found: StudyResult) -> str:
    settings = found.result.settings
    optimistic = " (optimistic)" if settings["protocol"] == "flat" else ""
    return f"{settings['dataset']} · {settings['task']} · {settings['probe']}, {settings['protocol']}{optimistic}"
