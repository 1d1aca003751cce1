"""Ctrl-C and SIGTERM in real processes: exit code 130, how to go on, no traceback, nothing left running."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from echolung.cli.terminal import interrupts
from echolung.datasets import phantom_lung

EXTRACT = "--encoder random:vit_tiny --size 32 --frames 4 --segments 1 --workers 1 --device cpu"


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("Lungen ä") / "phantom-lung"
    folder.mkdir()
    phantom_lung.write(folder, videos=24, frames=8, size=32)
    return folder


class Started:
    """A command in a process group of its own, as a terminal starts it."""

    def __init__(self, line: str, home: Path, log: Path) -> None:
        self.log = log
        environment = {**os.environ, "ECHOLUNG_HOME": str(home), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "echolung.cli", *shlex.split(line)], env=environment, stdout=file,
                stderr=subprocess.STDOUT, start_new_session=True,
                preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
            )  # fmt: skip

    def wait_for(self, come: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 120
        while not come() and time.monotonic() < deadline:
            assert self.process.poll() is None, self.said()
            time.sleep(0.02)
        assert come(), self.said()

    def says(self, text: str) -> Callable[[], bool]:
        return lambda: text in self.said()

    def said(self) -> str:
        return self.log.read_text("utf-8")

    def press(self, number: int = signal.SIGINT) -> None:
        os.killpg(self.process.pid, number)  # as a terminal does: to all of the group

    def end(self) -> str:
        """Return what was said; the exit code is 130, no traceback is shown, and nobody of the group is left."""
        try:
            code = self.process.wait(60)
        finally:
            left = anybody_left(self.process.pid)
        assert code == 130, self.said()
        assert "Traceback" not in self.said()
        assert not left
        return self.said()


def anybody_left(group: int) -> bool:
    """Whether a process of the group still runs after ten seconds; ends it then."""
    for _ in range(100):  # a worker needs a moment to see that its parent has gone, and the system to clear it away
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.1)
    os.killpg(group, signal.SIGKILL)
    return True


def finish(line: str, home: Path) -> None:
    environment = {**os.environ, "ECHOLUNG_HOME": str(home), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "echolung.cli", *shlex.split(os.path.expandvars(line))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def to_go_on(said: str) -> str:
    """Return the command that is named, without its first word."""
    return said[said.rindex("\n  echolung ") :].strip().removeprefix("echolung ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "slurm"])
def test_an_extraction_says_the_command_that_goes_on(
    phantoms: Path, echolung_home: Path, tmp_path: Path, number: int
) -> None:
    line = f"extract --dataset phantom-lung --data '{phantoms}' {EXTRACT} --views 30 --batch 1"
    run = Started(line, echolung_home, tmp_path / "log")
    run.wait_for(run.says("Drew random weights"))
    time.sleep(1)
    run.press(number)
    said = run.end()
    assert "Every clip that was encoded is kept. To go on:" in said
    assert shlex.split(to_go_on(said)) == shlex.split(line)


def test_the_second_ends_at_once(tmp_path: Path) -> None:
    script = (
        "import time, multiprocessing as m\n"
        "from echolung.cli.terminal.interrupts import listening\n"
        "if __name__ == '__main__':\n"
        "    child = m.get_context('fork').Process(target=time.sleep, args=(60,)); child.start()\n"
        "    with listening():\n"
        "        try: print('ready', flush=True); time.sleep(60)\n"
        "        finally: print('polite', flush=True); time.sleep(60)\n"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert run.stdout is not None and run.stdout.readline() == "ready\n"
    run.send_signal(signal.SIGINT)
    assert run.stdout.readline() == "polite\n"
    run.send_signal(signal.SIGINT)  # an echo of the first
    time.sleep(0.7)
    assert run.poll() is None
    run.send_signal(signal.SIGTERM)
    assert run.wait(10) == 130
    run.stdout.close()
    assert not anybody_left(run.pid)


@pytest.mark.slow
def test_probe_study_and_finetune(phantoms: Path, echolung_home: Path, tmp_path: Path) -> None:
    finish(f"extract --dataset phantom-lung --data '{phantoms}' {EXTRACT}", echolung_home)
    probe = Started("probe --cv 3 --probe attentive-lite --epochs 500", echolung_home, tmp_path / "probe")
    probe.wait_for(probe.says("probes to choose from"))
    probe.press()
    said = probe.end()
    assert "To begin again" in said and not list((echolung_home / "runs").glob("*"))

    study = Started("study --probe linear --cv 2 --epochs 5 --trials 200 --ask 2", echolung_home, tmp_path / "study")
    study.wait_for(lambda: any((echolung_home / "studies").glob("*.log")))
    time.sleep(3)
    study.press()
    again = to_go_on(study.end())
    assert "--name phantom-lung-linear-" in again and again.endswith("--resume")
    finish(again.replace("--trials 200", "--trials 4"), echolung_home)

    line = f"finetune --data '{phantoms}' --cv 2 --epochs 6 --batch 4 --workers 1 --device cpu"
    tune = Started(line, echolung_home, tmp_path / "tune")
    tune.wait_for(tune.says("Decoding: 24/24"))
    time.sleep(2)
    tune.press()
    said = tune.end()
    assert "Folds that are done are kept" in said
    finish(to_go_on(said), echolung_home)


@pytest.mark.slow
def test_pretraining_saves_first(phantoms: Path, echolung_home: Path, tmp_path: Path) -> None:
    line = f"pretrain --dataset phantom-lung --data '{phantoms}' --recipe tiny-cpu --name t --device cpu --workers 1"
    run = Started(f"{line} --set optimiser.steps=5000", echolung_home, tmp_path / "log")
    run.wait_for(lambda: (echolung_home / "pretraining/t/log.jsonl").exists())
    run.press()
    said = run.end()
    assert "Stopped, and saved. To go on: echolung pretrain --resume t" in said
    assert any((echolung_home / "pretraining/t/states").iterdir())
    assert "--name t" in (echolung_home / "pretraining/t/run.json").read_text()


def test_an_error_in_tidying_up_after_an_interrupt_is_the_interrupt():
    def cut_short(again: BaseException) -> BaseException:
        try:
            raise again
        except BaseException:
            try:
                Path("no such lock").unlink()
            except OSError as error:
                return error

    assert interrupts.caused(cut_short(KeyboardInterrupt()))
    assert not interrupts.caused(cut_short(ValueError()))
    assert not interrupts.caused(None)
