"""A whole study: rounds until every part has its trials, then each outer fold predicted once by what its part chose."""

import re
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from echolung.cache import TokenStore
from echolung.datasets.manifest import Manifest
from echolung.errors import InputError, RunError
from echolung.evaluation.question import Question
from echolung.evaluation.result import Result
from echolung.evaluation.selection import Choice, HeldOut
from echolung.evaluation.studies import leases
from echolung.evaluation.studies.final import choose_best, conclude
from echolung.evaluation.studies.leases import FINISHED, Leases
from echolung.evaluation.studies.opening import open_studies
from echolung.evaluation.studies.problem import Problem, pose
from echolung.evaluation.studies.rounds import Entry, Round
from echolung.evaluation.studies.search import describe, suggest_all
from echolung.evaluation.studies.storage import LOST, Storage, open_storage, quiet
from echolung.text import counted


@dataclass(frozen=True)
class StudyResult:
    """What a study found.

    Attributes:
        result: predictions of the outer folds, as from `cross_validate`.
        trials: name of the part ("fold-0", …, "all") -> the trials of its Optuna study.
        choices: name of the part -> the setting and epoch it chose.
        name: of the study.
        where: path or URL of its storage, without the password.
    """

    result: Result
    trials: dict[str, list[FrozenTrial]]
    choices: dict[str, Choice]
    name: str
    where: str


@dataclass(frozen=True)
class Progress:
    """How far a study is: trials finished by all workers, of how many, and the least value of the part "all"."""

    done: int
    total: int
    best: float


def run_study(
    store: TokenStore,
    task: str | None = None,
    manifest: Manifest | None = None,
    *,
    trials: int = 200,
    timeout: float | None = None,
    ask: int = 10,
    sampler: str = "tpe",
    pruner: str = "median",
    storage: str | None = None,
    name: str | None = None,
    resume: bool = False,
    flat: bool = False,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    lease: float = 60.0,
    progress: Callable[[Progress], None] = lambda progress: None,
    **asked: Any,
) -> StudyResult:
    """Search a probe's hyper-parameters, and return out-of-fold predictions by what was chosen.

    Every outer training part has a study of its own, and so has the whole of the data, whose choice is the probe that is
    kept. Any number of processes may call this with the same arguments, `name` and `resume=True`: they share the trials, and
    each returns the same result.

    Args:
        store: the tokens.
        task: as in `Question`.
        manifest: as in `Question`.
        trials: how many each part's study has in the end, by all workers together.
        timeout: seconds after which no round is begun; None: no limit.
        ask: trials that each study is asked for in a round.
        sampler: name of a class in optuna.samplers.
        pruner: name of a class in optuna.pruners, or "none".
        storage: path of a journal file, or a URL of a database; None: a journal under `ECHOLUNG_HOME/studies`.
        name: of the study; None: the task, the probe and the time.
        resume: go on with the study of this name where there is one.
        flat: one study whose value and whose reported score come from the same folds: optimistic.
        ranges: name -> (low, high) to search in the place of the probe's own.
        lease: seconds without a sign of life after which a worker's trials are taken up by others.
        progress: is called before the first round and after every one.
        asked: the other fields of `Question`, such as probe="mlp".

    Raises:
        InputError: bad arguments, a storage that cannot be reached, a name that is taken, or a study of something else.
        RunError: the storage went away, or no trial of a part has a finite value.
    """
    for option, value in {"trials": trials, "ask": ask, "lease": lease, "timeout": timeout}.items():
        if value is not None and value <= 0:
            raise InputError(f"--{option} {value:g} must be above 0.")
    if resume and name is None:
        raise InputError("--resume goes on with a study of a certain name: say which with --name.")
    if name is not None and not re.fullmatch(r"[\w.-]+", name):
        raise InputError(f"--name {name!r} may have letters, digits, dots, dashes and underscores only.")
    question = Question(task, manifest, **asked)
    problem = pose(store, question, ranges or {}, flat=flat)
    name = name or f"{problem.setup.data.name}-{question.probe}-{datetime.now():%Y%m%d-%H%M%S}"
    deadline = None if timeout is None else time.monotonic() + timeout
    strategy = {"sampler": sampler, "pruner": pruner}
    with quiet(), closing(open_storage(storage, name, lease)) as opened:
        try:
            studies = open_studies(opened, name, problem, resume, **strategy)
            _search(problem, opened, studies, trials, ask, deadline, progress)
            known = {part: study.get_trials() for part, study in studies.items()}
        except LOST as error:
            raise RunError(
                f"The storage {opened.where} no longer answers ({type(error).__name__}). What was told to it is safe; when it "
                f"is back, go on with --name {name} --resume."
            ) from None
    choices = {part: choose_best(part, of_part, problem) for part, of_part in known.items()}
    about = {
        **strategy, "name": name, "storage": opened.where, "trials": trials, "ask": ask, "space": describe(problem.space),
        "fixed": dict(problem.fixed), "told": _told(known), "optuna": optuna.__version__,
    }  # fmt: skip
    return StudyResult(conclude(problem, choices, about, flat), known, choices, name, opened.where)


def _search(
    problem: Problem,
    storage: Storage,
    studies: Mapping[str, optuna.Study],
    trials: int,
    ask: int,
    deadline: float | None,
    progress: Callable[[Progress], None],
) -> None:
    """Run rounds until every study has its trials, or until the deadline; wait for what others still train."""
    began, worked = time.monotonic(), False
    progress(_progress(studies, trials))
    with Leases(storage, uuid.uuid4().hex[:12]) as mine:
        while not worked or deadline is None or time.monotonic() < deadline:
            for study in studies.values():
                leases.take_up(storage, study)
            if entries := _ask(problem, storage, studies, trials, ask, mine):
                this = Round(problem, storage, mine, entries)
                if not worked:
                    rounds = _left(studies, trials) / len(entries)
                    probes, times = counted(len(this.jobs), "probe"), counted(max(1, round(rounds)), "round")
                    what = f"{probes} a round, {times} (less with pruning or more workers)"
                    problem.setup.say_how_long([this.jobs], what, rounds)
                _train(this)
            elif all(_finished(study) >= trials for study in studies.values()):
                return
            else:  # the rest is in the hands of other workers
                time.sleep(min(1.0, storage.lease / 4))
            worked = True
            progress(_progress(studies, trials))
    if left := _left(studies, trials):
        problem.setup.question.tell(
            f"Stopped after {time.monotonic() - began:.0f} s, with {left} of {trials * len(studies)} trials not finished."
        )


def _train(this: Round) -> None:
    """Run a round; if it is interrupted, hand its trials to whoever goes on."""
    try:
        this.run()
    except BaseException:
        for entry in this.entries:
            if not entry.over:
                leases.give_up(entry.study, entry.study.get_trials(deepcopy=False)[entry.trial.number])
        raise


def _ask(
    problem: Problem, storage: Storage, studies: Mapping[str, optuna.Study], trials: int, ask: int, mine: Leases
) -> list[Entry]:
    """Ask each study for a batch of trials, no more than it still needs."""
    entries: list[Entry] = []
    for part in problem.parts:
        study = studies[part.name]
        places = min(ask, leases.open_places(study.get_trials(deepcopy=False), trials))
        try:
            asked = [_ask_one(study, problem, storage) for _ in range(places)]
        except ValueError as error:
            raise InputError(f"The sampler {type(study.sampler).__name__} cannot search this space: {error}") from error
        mine.take(asked)
        everyone = study.get_trials(deepcopy=False)
        for trial in asked:
            if leases.is_surplus(everyone, trial.number, trials):
                mine.drop(trial)
                trial.set_user_attr("surplus", True)
                leases.fail(study, trial.number)
            else:
                jobs = problem.jobs(part, trial.params, group=len(entries))
                held = HeldOut(problem.setup.data.targets, jobs, problem.setup.training.epochs)
                entries.append(Entry(study, trial, jobs, held))
    return entries


def _ask_one(study: optuna.Study, problem: Problem, storage: Storage) -> optuna.Trial:
    trial = study.ask()
    with storage.together():
        suggest_all(trial, problem.space)
    return trial


def _finished(study: optuna.Study) -> int:
    return len(study.get_trials(deepcopy=False, states=FINISHED))


def _left(studies: Mapping[str, optuna.Study], trials: int) -> int:
    """Return how many trials of all studies are not finished, by whomever."""
    return sum(max(0, trials - _finished(study)) for study in studies.values())


def _progress(studies: Mapping[str, optuna.Study], trials: int) -> Progress:
    complete = studies["all"].get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    best = min((trial.value for trial in complete if trial.value is not None), default=float("inf"))
    total = trials * len(studies)
    return Progress(total - _left(studies, trials), total, best)


def _told(known: Mapping[str, Sequence[FrozenTrial]]) -> dict[str, int]:
    """Return the number of trials in each state that counts."""
    states = [trial.state for trials in known.values() for trial in trials]
    return {state.name.lower(): states.count(state) for state in FINISHED}
