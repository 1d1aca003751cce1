"""The Optuna studies of a problem: made, or gone on with if they are about the same."""

import uuid
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError

from echolung.errors import InputError
from echolung.evaluation.studies.problem import Problem
from echolung.evaluation.studies.search import defaults, make_pruner, make_sampler
from echolung.evaluation.studies.storage import Storage

ATTRIBUTE = "echolung"
"""The study attribute that holds what the study is about."""


def open_studies(
    storage: Storage, name: str, problem: Problem, resume: bool, sampler: str, pruner: str
) -> dict[str, optuna.Study]:
    """Return the study of each part, made or gone on with.

    The worker that makes them is number 0, so that alone it does the same at every run; any other draws its number.

    Raises:
        InputError: the name is taken, or its study is about something else.
    """
    _check_those_there(storage, name, problem, resume)
    first, worker = True, 0
    studies = {}
    for number, part in enumerate(problem.parts):
        kinds = (
            make_sampler(sampler, problem.setup.question.seed, number, worker),
            make_pruner(pruner, problem.setup.training.epochs),
        )
        label = f"{name}/{part.name}"
        try:
            study = optuna.create_study(storage=storage.optuna, study_name=label, sampler=kinds[0], pruner=kinds[1])
            study.set_user_attr(ATTRIBUTE, problem.describe())
            study.enqueue_trial(defaults(problem.space, problem.setup.kind.hyper))
        except DuplicatedStudyError as error:
            if first and not resume:
                raise InputError(
                    f"There is a study {name} in {storage.where} already: go on with it with --resume, or choose another --name."
                ) from error
            if worker == 0:
                worker = uuid.uuid4().int
                kinds = make_sampler(sampler, problem.setup.question.seed, number, worker), kinds[1]
            study = optuna.load_study(storage=storage.optuna, study_name=label, sampler=kinds[0], pruner=kinds[1])
            _same(study, problem, name)
        first = False
        studies[part.name] = study
    if worker:
        problem.setup.question.tell(f"Going on with the study {name}.")
    return studies


def _check_those_there(storage: Storage, name: str, problem: Problem, resume: bool) -> None:
    """Check all studies of that name before one is made."""
    known = set(optuna.get_all_study_names(storage.optuna))
    labels = [label for part in problem.parts if (label := f"{name}/{part.name}") in known]
    if labels and not resume:
        raise InputError(
            f"There is a study {name} in {storage.where} already: go on with it with --resume, or choose another --name."
        )
    for label in labels:
        _same(optuna.load_study(storage=storage.optuna, study_name=label), problem, name)


def _same(study: optuna.Study, problem: Problem, name: str) -> None:
    """Check that a study is about this problem."""
    mine = problem.describe()
    theirs = study.user_attrs.get(ATTRIBUTE)
    if theirs is None:  # made a moment ago by another worker
        study.set_user_attr(ATTRIBUTE, mine)
        return
    for field in mine:
        if theirs.get(field) != mine[field]:
            before, now = _difference(theirs.get(field), mine[field])
            raise InputError(
                f"The study {name} cannot go on: its {field} was {before} and is now {now}. Its trials would not be comparable. "
                "Start a new one with another --name, or use the options it was begun with."
            )


def _difference(before: Any, now: Any) -> tuple[str, str]:
    """Return both as text; of two dicts only what differs."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
        return tuple(", ".join(f"{k} {side.get(k, 'absent')}" for k in keys) for side in (before, now))  # type: ignore[return-value]
    return str(before), str(now)
