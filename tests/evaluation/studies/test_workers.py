"""Several processes on one study: the trials are shared, a dead worker's are taken up, all find the same."""

import json
import os
import socket
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from echolung.evaluation.studies.leases import FINISHED, is_surplus, open_places
from echolung.evaluation.studies.storage import open_storage, quiet

PARTS = ("fold-0", "fold-1", "fold-2", "all")


@pytest.fixture(scope="module")
def store(write_classes):
    return write_classes(signal=0.6)


def trials_in(storage, name="shared"):
    with quiet(), closing(open_storage(str(storage), name, 60.0)) as opened:
        return [optuna.load_study(storage=opened.optuna, study_name=f"{name}/{part}").trials for part in PARTS]


def check_shared(studies, count):
    """Each study has its trials, numbered once, and every finished one has its own parameters."""
    for trials in studies:
        numbers = [trial.number for trial in trials]
        assert numbers == list(range(len(numbers)))
        assert sum(trial.state in FINISHED for trial in trials) == count
        assert not [trial for trial in trials if trial.state in (TrialState.RUNNING, TrialState.WAITING)]
        values = [trial.params["C"] for trial in trials if trial.state in FINISHED]
        assert len(set(values)) == count


def check_taken_up(studies, dead):
    """What the dead worker had in hand was failed and asked again once, with the same parameters."""
    for trials in studies:
        lost = [t for t in trials if t.user_attrs.get("worker") in dead and t.state == TrialState.FAIL]
        lost = [t for t in lost if "surplus" not in t.user_attrs]
        assert lost
        for trial in lost:
            again = [t for t in trials if t.user_attrs.get("retry_of") == trial.number]
            assert [(t.params, t.state) for t in again] == [(trial.params, TrialState.COMPLETE)]


def test_four_processes_on_one_journal(store, worker, tmp_path):
    journal = tmp_path / "shared.log"
    workers = [worker(store, storage=str(journal), name="shared", trials=12, ask=2) for _ in range(4)]
    results = [one.result() for one in workers]
    assert all(result == results[0] for result in results[1:])
    studies = trials_in(journal)
    check_shared(studies, 12)
    assert len({trial.user_attrs["worker"] for trials in studies for trial in trials}) > 1


def test_a_killed_workers_trials_are_taken_up(store, worker, tmp_path):
    journal = tmp_path / "shared.log"
    arguments = {"storage": str(journal), "name": "shared", "trials": 6, "ask": 3, "lease": 2.0}
    worker(store, stuck=True, **arguments).kill_while_it_trains()
    dead = {trial.user_attrs["worker"] for trials in trials_in(journal) for trial in trials}
    assert len(dead) == 1
    results = [one.result() for one in [worker(store, **arguments) for _ in range(2)]]
    assert results[0] == results[1]
    studies = trials_in(journal)
    check_shared(studies, 6)
    check_taken_up(studies, dead)


def test_places_are_never_given_twice():
    study = optuna.create_study()
    with quiet():
        asked = [study.ask() for _ in range(5)]
    assert open_places(study.trials, 8) == 3
    assert [is_surplus(study.trials, trial.number, 3) for trial in asked] == [False, False, False, True, True]
    study.tell(asked[0], state=TrialState.FAIL)
    assert [is_surplus(study.trials, trial.number, 3) for trial in asked[1:]] == [False, False, False, True]
    assert open_places(study.trials, 8) == 4


# ---- PostgreSQL --------------------------------------------------------------------------------------------------------


def binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    return found[-1].parent if found else None


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    """Return the URL of a throw-away PostgreSQL cluster on the loopback interface, or skip."""
    pytest.importorskip("psycopg")
    place = binaries()
    if place is None:
        pytest.skip("no PostgreSQL under /usr/lib/postgresql")
    # PostgreSQL refuses root; the server's own user cannot enter pytest's private folders.
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        data, password = Path(folder) / "data", Path(folder) / "password"
        password.write_text("secret\n")
        password.chmod(0o644)

        def run(*command: str) -> None:
            subprocess.run([*as_user, *command], check=True, cwd=folder, stdout=subprocess.DEVNULL)

        run(
            str(place / "initdb"),
            "-D",
            str(data),
            "-U",
            "echolung",
            "-A",
            "scram-sha-256",
            f"--pwfile={password}",
            "-N",
        )
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        run(str(place / "pg_ctl"), "-D", str(data), "-o", options, "-l", str(Path(folder) / "log"), "-w", "start")
        try:
            yield f"postgresql+psycopg://echolung:secret@127.0.0.1:{port}/postgres"
        finally:
            run(str(place / "pg_ctl"), "-D", str(data), "-m", "immediate", "-w", "stop")


@pytest.mark.slow
def test_three_processes_on_postgresql(store, worker, postgres):
    arguments = {"storage": postgres, "name": "shared", "trials": 8, "ask": 2}
    results = [one.result() for one in [worker(store, **arguments) for _ in range(3)]]
    assert all(result == results[0] for result in results[1:])
    assert "secret" not in json.dumps(results)
    check_shared(trials_in(postgres), 8)


@pytest.mark.slow
def test_a_worker_killed_on_postgresql(store, worker, postgres):
    arguments = {"storage": postgres, "name": "killed", "trials": 6, "ask": 3, "lease": 4.0}
    worker(store, stuck=True, **arguments).kill_while_it_trains()
    dead = {trial.user_attrs["worker"] for trials in trials_in(postgres, "killed") for trial in trials}
    assert len(dead) == 1
    results = [one.result() for one in [worker(store, **arguments) for _ in range(2)]]
    assert results[0] == results[1]
    studies = trials_in(postgres, "killed")
    check_shared(studies, 6)
    check_taken_up(studies, dead)
