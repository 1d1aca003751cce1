"""Storages: what is written together, what a half-written journal does, what cannot be reached."""

import threading
import time
import warnings
from contextlib import closing

import optuna
import pytest
from optuna.trial import TrialState

from echolung.errors import InputError
from echolung.evaluation.studies import leases
from echolung.evaluation.studies.leases import Leases
from echolung.evaluation.studies.storage import RETRIES, ask_again, open_storage, quiet


@pytest.fixture(autouse=True)
def silent():
    with quiet():
        yield


def new(path, lease=60.0):
    opened = open_storage(str(path), "x", lease)
    return opened, optuna.create_study(storage=opened.optuna, study_name="x", load_if_exists=True)


def ask(study):
    trial = study.ask()
    trial.suggest_float("a", 0, 1)
    return trial


def test_the_default_is_a_journal_at_home(echolung_home):
    assert open_storage(None, "mine", 60.0).where == str(echolung_home / "studies" / "mine.log")


def test_what_is_written_together_is_one_write(tmp_path, monkeypatch):
    opened, study = new(tmp_path / "x.log")
    trial, writes = ask(study), []
    append = type(opened.optuna._backend).__mro__[1].append_logs
    monkeypatch.setattr(
        type(opened.optuna._backend).__mro__[1],
        "append_logs",
        lambda self, logs: writes.append(len(logs)) or append(self, logs),
    )
    with opened.together():
        for epoch in range(5):
            trial.report(1.0, epoch)
        assert writes == []
    assert writes == [5]
    assert new(tmp_path / "x.log")[1].trials[0].intermediate_values == dict.fromkeys(range(5), 1.0)


def test_another_thread_is_not_held_up(tmp_path):
    opened, study = new(tmp_path / "x.log")
    with opened.together():
        thread = threading.Thread(target=ask, args=(study,))
        thread.start()
        thread.join(20)
        assert not thread.is_alive()
    assert len(study.trials) == 1


def test_writing_together_about_a_trial_that_is_taken_up_does_no_harm(tmp_path):
    (mine, study), (_, theirs) = new(tmp_path / "x.log"), new(tmp_path / "x.log")
    trial, other = ask(study), ask(study)
    assert leases.fail(theirs, trial.number)
    with mine.together():
        for epoch in range(3):
            trial.report(1.0, epoch)
            other.report(2.0, epoch)
    assert [len(t.intermediate_values) for t in new(tmp_path / "x.log")[1].trials] == [0, 3]
    assert not leases.fail(study, trial.number), "only one can"


def test_a_half_written_last_line_is_cut_off(tmp_path):
    path = tmp_path / "x.log"
    _, study = new(path)
    ask(study)
    whole = path.read_bytes()
    path.write_bytes(whole + whole.splitlines()[-1][:20])
    _, again = new(path)
    assert len(again.trials) == 1
    again.tell(0, 1.0)
    ask(again)
    for seen in (again, new(path)[1]):
        assert [trial.state for trial in seen.trials] == [TrialState.COMPLETE, TrialState.RUNNING]
    assert path.read_bytes().startswith(whole)


def test_a_file_that_is_no_journal(tmp_path):
    (tmp_path / "notes.txt").write_text("first\nsecond\nthird\n")
    with pytest.raises(InputError, match=r"notes\.txt is not a journal of studies"):
        open_storage(str(tmp_path / "notes.txt"), "x", 60.0)
    with pytest.raises(InputError, match="cannot be written"):
        open_storage(str(tmp_path / "notes.txt" / "x.log"), "x", 60.0)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://me:geheim@127.0.0.1:9/studies",
        "postgresql://me:geheim@127.0.0.1:9/studies",
        "mysql+nodriver://me:geheim@127.0.0.1/studies",
        "nonsense://me:geheim@127.0.0.1",
        "postgresql+psycopg://me:geheim@127.0.0.1:port/studies",
        "sqlite:////no/such/folder/x.db",
        "redis://me:geheim@127.0.0.1",
    ],
)
def test_a_database_that_cannot_be_used(url):
    with pytest.raises(InputError) as error:
        open_storage(url, "x", 60.0)
    text = str(error.value)
    assert ("cannot be used" in text or "is no database" in text) and "geheim" not in text and "\n" not in text
    assert url.split(":")[0] in text


def test_a_database_keeps_its_heartbeat(tmp_path):
    url = f"sqlite:///{tmp_path}/x.db"
    with closing(open_storage(url, "x", 1.0)) as opened, Leases(opened, "w") as mine:
        study = optuna.create_study(storage=opened.optuna, study_name="x")
        trial = ask(study)
        mine.take([trial])
        time.sleep(2)
        leases.take_up(opened, study)
        assert study.trials[0].state == TrialState.RUNNING, "it gives signs of life"
        mine.drop(trial)
        time.sleep(2.5)
        leases.take_up(opened, study)
        assert [t.state for t in study.trials] == [TrialState.FAIL, TrialState.WAITING]
        assert study.trials[1].params == trial.params


def test_a_journals_lease_runs_out(tmp_path):
    opened, study = new(tmp_path / "x.log", lease=0.4)
    with Leases(opened, "w") as mine:
        trial, forgotten = ask(study), ask(study)
        mine.take([trial])
        time.sleep(1)
        leases.take_up(opened, study)
        states = [t.state for t in study.trials]
    assert states == [TrialState.RUNNING, TrialState.FAIL, TrialState.WAITING], "died before its first sign of life"
    time.sleep(0.6)
    leases.take_up(opened, study)
    assert [t.user_attrs["retry_of"] for t in study.trials[2:]] == [forgotten.number, trial.number]
    again = ask(study)
    assert (again.number, again.params) == (2, forgotten.params)
    leases.take_up(opened, study)
    assert study.trials[2].state == TrialState.RUNNING, "counts from when it was asked again"


def test_a_trial_that_kills_its_workers_is_not_asked_for_ever(tmp_path):
    _, study = new(tmp_path / "x.log")
    ask(study)
    for number in range(RETRIES + 1):
        leases.give_up(study, study.trials[number])
        if number < RETRIES:
            assert study.ask().number == number + 1
    assert [trial.state for trial in study.trials] == [TrialState.FAIL] * (RETRIES + 1)
    ask_again(study, optuna.create_trial(state=TrialState.FAIL))  # died before it had parameters
    assert len(study.trials) == RETRIES + 1


def test_quiet_is_over_afterwards():
    optuna.logging.set_verbosity(optuna.logging.INFO)
    with quiet(), warnings.catch_warnings():
        assert optuna.logging.get_verbosity() == optuna.logging.ERROR
    assert optuna.logging.get_verbosity() == optuna.logging.INFO
