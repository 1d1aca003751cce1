"""Where studies are kept: a journal file, or any database that Optuna knows."""

import os
import threading
import time
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalFileSymlinkLock
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from echolung.errors import InputError
from echolung.settings import home, make_folder

CONNECT = 10
"""Seconds that a database server may take to answer at first."""

TOGETHER = 5
"""How often it is tried to make the tables of an empty database while others do, too."""

LOST = (StorageInternalError, SQLAlchemyError)
"""What a database raises that has gone away."""


@dataclass(frozen=True)
class Storage:
    """An open storage.

    Attributes:
        optuna: Optuna's own.
        where: its path or URL, without the password.
        lease: seconds without a sign of life after which a trial counts as abandoned.
    """

    optuna: BaseStorage
    where: str
    lease: float

    @property
    def database(self) -> RDBStorage | None:
        """The database; None: a journal file."""
        return self.optuna if isinstance(self.optuna, RDBStorage) else None

    def close(self) -> None:
        """Close the connections to a database."""
        if self.database:
            self.database.engine.dispose()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write what this thread writes in the block at its end, at once; it must read nothing in between.

        Every write to a journal locks, syncs and re-reads it: an epoch's 60 reports in one take a twentieth of the time.
        A database takes each as it comes.
        """
        if not isinstance(self.optuna, JournalStorage):
            yield
            return
        with self.optuna._backend.together():  # type: ignore[attr-defined]
            yield
        settled = False
        while not settled:  # raises once for every line about a trial that someone else has finished meanwhile
            try:
                self.optuna.get_study_name_from_id(0)  # reads what is new
                settled = True
            except UpdateFinishedTrialError:
                pass
            except KeyError:
                settled = True


class Journal(JournalFileBackend):
    """A journal file that collects lines on request and removes a half-written last one.

    A worker that dies in the middle of a line leaves it without an end. Optuna ignores it as long as it is the last, but the
    next line would be glued to it, and from then on the file could not be read.
    """

    def __init__(self, path: Path, patience: float) -> None:
        lock = JournalFileOpenLock if os.name == "nt" else JournalFileSymlinkLock
        super().__init__(str(path), lock(str(path), max(3, int(patience))))
        self._path, self._mine = path, threading.local()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Collect this thread's lines and write them at the end of the block."""
        lines: list[dict[str, Any]] = []
        self._mine.lines = lines
        try:
            yield
        finally:
            self._mine.lines = None
            if lines:
                self.append_logs(lines)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write lines at the end."""
        if (held := getattr(self._mine, "lines", None)) is not None:
            held.extend(logs)
            return
        if self._torn():
            with self._lock_file():
                self._mend()
        super().append_logs(logs)

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """Yield the lines from a number on; none while this thread collects its own."""
        if getattr(self._mine, "lines", None) is None:
            yield from super().read_logs(log_number_from)

    def _torn(self) -> bool:
        with self._path.open("rb") as file:
            if file.seek(0, os.SEEK_END) == 0:
                return False
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"

    @contextmanager
    def _lock_file(self) -> Iterator[None]:
        self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()

    def _mend(self) -> None:
        """Cut off what follows the last whole line; only the holder of the lock writes, so nobody is writing it."""
        if self._torn():
            content = self._path.read_bytes()
            os.truncate(self._path, content.rfind(b"\n") + 1)


def open_storage(storage: str | None, name: str, lease: float) -> Storage:
    """Return the storage at a path or URL; None: the journal `ECHOLUNG_HOME/studies/<name>.log`.

    Raises:
        InputError: it cannot be reached or is none; the text names no password.
    """
    if storage is None:
        return _journal(make_folder(home() / "studies") / f"{name}.log", lease)
    if "://" not in storage:
        path = Path(storage).expanduser()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"The journal of studies {path} cannot be written: {error.strerror}.") from error
        return _journal(path, lease)
    return _database(storage, lease)


def _journal(path: Path, lease: float) -> Storage:
    try:
        journal = Journal(path, min(30.0, lease))
    except OSError as error:
        raise InputError(f"The journal of studies {path} cannot be opened: {error.strerror}.") from error
    try:
        return Storage(JournalStorage(journal), str(path), lease)
    except (ValueError, LookupError, TypeError, AssertionError) as error:  # as its lines are read
        raise InputError(f"{path} is not a journal of studies, or is damaged. Name another --storage.") from error


DATABASES = ("sqlite", "postgresql", "mysql", "mariadb", "oracle", "mssql")


def _database(url: str, lease: float) -> Storage:
    where = url.split("://")[0] + "://…"
    password = None
    try:
        parsed = make_url(url)
        where, password = parsed.render_as_string(hide_password=True), parsed.password
        if parsed.drivername == "postgresql" and not find_spec("psycopg2"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.get_backend_name() not in DATABASES:
            raise InputError(
                f"--storage {where} is no database that studies can be kept in: {', '.join(DATABASES)}; or give the path of a "
                "journal file."
            )
        server = parsed.get_backend_name() in DATABASES[1:4]
        options: dict[str, Any] = {"connect_args": {"connect_timeout": CONNECT}} if server else {}
        with quiet():
            opened = _connect(
                parsed.render_as_string(hide_password=False),
                engine_kwargs={**options, "pool_pre_ping": True},
                heartbeat_interval=max(1, int(lease / 4)),
                grace_period=max(1, int(lease)),
                heartbeat_stale_trial_callback=ask_again,
            )
    except InputError:
        raise
    except Exception as error:  # a driver may raise anything
        reason = str(getattr(error, "orig", None) or error).strip().split("\n")[0]
        if password:
            reason = reason.replace(str(password), "***")
        raise InputError(
            f"The storage {where} cannot be used ({type(error).__name__}: {reason}). Check that the server runs, the address, "
            "user and password, and that the driver is installed; or leave out --storage for a journal file."
        ) from None
    return Storage(opened, where, lease)


def _connect(url: str, **options: Any) -> RDBStorage:
    """Return the database, with Optuna's tables; workers that start together may all be about to make them."""
    for attempt in range(1, TOGETHER):
        try:
            return RDBStorage(url, **options)
        except SQLAlchemyError as error:
            if not isinstance(error, IntegrityError) and "already exists" not in str(error):
                raise
            time.sleep(0.5 * attempt)
    return RDBStorage(url, **options)


RETRIES = 2
"""How often a trial whose worker died is asked again."""


def ask_again(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
    """Queue the parameters of a trial whose worker died; whoever asks next gets them."""
    times = trial.user_attrs.get("retries", 0) + 1
    if times > RETRIES or not trial.params:
        return
    attributes = {"retry_of": trial.user_attrs.get("retry_of", trial.number), "retries": times}
    study.add_trial(
        optuna.create_trial(
            state=optuna.trial.TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs=attributes,
        )
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna from saying what each trial does, and that parts of it are experimental."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            warnings.filterwarnings("ignore", "Heartbeat of storage is supposed")
            yield
    finally:
        optuna.logging.set_verbosity(before)
