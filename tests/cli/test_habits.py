"""What people are used to: help, levels, exit codes, pipes, completion, narrow terminals, what a run remembers."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from echolung import provenance
from echolung.cli import app
from echolung.cli.terminal import levels
from echolung.cli.terminal.completion import offers

NOTHING_TO_SHOW = {"data index"}
"""Commands without a result of their own."""


def commands(group: Any = None, path: str = "") -> Iterator[tuple[str, Any]]:
    for name, below in (group or app.command()).commands.items():
        full = f"{path} {name}".strip()
        if hasattr(below, "commands"):
            yield from commands(below, full)
        else:
            yield full, below


NAMES = [name for name, _ in commands()]


@pytest.mark.parametrize("name", NAMES)
def test_help_fits_eighty_columns(name: str, typed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = typed(*name.split(), "-h")
    assert (code, err) == (0, "")
    assert "--quiet" in out and "…" not in re.sub(r"\W…|…\W", "", out)
    assert not re.search(r"--\S+ .*<(int|float|str|bool|path|list)", out), "types are for programmers"
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NOTHING_TO_SHOW])
def test_every_result_can_be_json(name: str) -> None:
    below = dict(commands())[name]
    assert any("--json" in param.opts for param in below.params)


def test_alone_it_shows_first_steps(typed: Callable[..., Any]) -> None:
    code, out, err = typed()
    assert code == 2 and "First steps" in out + err


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("--version", 0, "echolung"),
        ("data list", 0, "pocus"),
        ("exract", 2, "Did you mean 'extract'"),
        ("extract --encodr x", 2, "--encoder"),
        ("data check pocuss", 2, "pocus"),
        ("report nowhere", 2, "nowhere"),
        ("cache info", 2, "no token store"),
    ],
)
def test_exit_codes(typed: Callable[..., Any], line: str, code: int, said: str) -> None:
    found, out, err = typed(*line.split())
    assert found == code and said in out + err


@pytest.mark.parametrize("line", ["-q data list", "data list -q", "data -q list"])
def test_quiet_leaves_results_alone(typed: Callable[..., Any], line: str) -> None:
    _, usual, note = typed("data", "list")
    code, out, err = typed(*line.split())
    assert (code, out, err) == (0, usual, "") and re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d At home", note)


def test_verbose_says_versions(typed: Callable[..., Any]) -> None:
    assert "torch" in typed("data", "list", "-v")[2] and "torch" not in typed("data", "list")[2]


def test_the_level_of_the_environment(typed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHOLUNG_LEVEL", "quiet")
    assert typed("data", "list")[2] == "" and levels.level() == levels.QUIET
    assert typed("data", "list", "-v")[2] != ""


def test_json_alone_is_on_stdout(typed: Callable[..., Any], tmp_path: Path) -> None:
    code, out, _ = typed("data", "phantom", tmp_path / "ä b", "--videos", 2, "--frames", 2, "--size", 32, "--json")
    assert code == 0 and json.loads(out)["videos"] == 2


@pytest.mark.parametrize("more", [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_pipe_has_no_escape_codes_and_may_close(more: dict[str, str]) -> None:
    line = f"{sys.executable} -m echolung.cli data list --json | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env={**os.environ, **more}, check=False)
    assert done.stdout.split() == ["[", "0"] and "\x1b" not in done.stdout + done.stderr
    assert "Error" not in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("columns", [40, 60, 80, 100])
def test_no_table_is_cut(
    typed: Callable[..., Any], write_run: Callable[..., Path], echolung_home: Path, columns: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    runs = [write_run(echolung_home / "runs" / name, name, signal, i) for i, (name, signal) in
            enumerate((("good", 2.0), ("less", 0.2)))]  # fmt: skip
    monkeypatch.setenv("COLUMNS", str(columns))
    for line in (["data", "list"], ["leaderboard"], ["compare", *map(str, runs)]):
        code, out, err = typed("-q", *line)
        assert code == 0, err
        assert max(map(len, out.splitlines())) <= max(columns, 60)
        assert "…" not in out


# ---- completion --------------------------------------------------------------------------------------------------------


def tab(*words: str, home: Path) -> list[str]:
    environment = {**os.environ, "ECHOLUNG_HOME": str(home), "_ECHOLUNG_COMPLETE": "complete_bash"}
    environment |= {"COMP_WORDS": "\n".join(["echolung", *words]), "COMP_CWORD": str(len(words))}
    done = subprocess.run(
        [sys.executable, "-c", "from echolung.cli.app import main; main()"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout.split("\n")[:-1]


def test_tab_in_bash(echolung_home: Path) -> None:
    (echolung_home / "runs" / "my run").mkdir(parents=True)
    assert tab("extract", "--dataset", "phantom-l", home=echolung_home) == ["phantom-lung"]
    assert "vit_tiny" in tab("extract", "--encoder", "random", ":", "vit", home=echolung_home)
    assert tab("report", "", home=echolung_home) == ["my\\ run"]


def test_what_tab_offers(echolung_home: Path) -> None:
    class Context:
        params: dict[str, Any] = {"dataset": "covid-blues"}  # noqa: RUF012

    def offered(command: str, parameter: str, begun: str = "") -> list[str]:
        answer = offers(command, parameter)
        assert answer is not None
        return [offer.value for offer in answer(Context(), begun)]

    (echolung_home / "checkpoints").mkdir()
    (echolung_home / "checkpoints" / "mine.safetensors").touch()
    assert offered("extract", "encoder", "mi") == ["mine"]
    assert offered("probe", "task") == ["a-lines", "b-lines", "covid", "severity"]
    assert offered("probe", "protocol") == ["nested", "seed"]
    assert offers("probe", "labels") is None, "a file: the shell knows better"


# ---- what a run remembers ----------------------------------------------------------------------------------------------


def test_the_command_is_as_typed_but_for_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("USER", "ada")
    words = ["probe", "--out", "/home/ada/my runs/ä'b", "--store=/home/ada/x", "/scratch/ada/y", "--note", "adamant"]
    line = provenance.command_line([*words, "--storage", "postgresql://ada:secret@host/db"])
    assert "/ada" not in line and "secret" not in line
    assert shlex.split(os.path.expandvars(line))[1:-1] == [*words, "--storage"]


def test_nobody_is_named_however_often(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("USER", "ada")
    words = ["/home/ada/a.csv,/home/ada/b c.csv", "--x=/home/ada/x/ada/y", "", "/home/adam/z"]
    line = provenance.command_line([*words, "https://host/file?token=secret"])
    assert "/ada/" not in line and "secret" not in line and "https://host/file" in line
    assert shlex.split(os.path.expandvars(line))[1:-1] == words
    provenance.write_origin(tmp_path / "run.json", {"data": ["/home/ada/x", 1], "head": "/scratch/ada", "none": None})
    settings = json.loads((tmp_path / "run.json").read_text("utf-8"))["settings"]
    assert settings == {"data": ["$HOME/x", 1], "head": "/scratch/$USER", "none": None}


def test_the_same_command_gives_the_same_run(
    typed: Callable[..., Any], write_classes: Callable[..., Any], echolung_home: Path
) -> None:
    store = write_classes(signal=0.8)
    code, out, err = typed("probe", "--store", store.path, "--probe", "knn", "--cv", 3, "--no-report", "--json")
    assert code == 0, err
    first = Path(json.loads(out)["run"])
    record = json.loads((first / "record.json").read_text())
    assert {"system", "architecture", "cores", "device"} <= set(record["machine"]) and record["versions"]["torch"]
    code, out, err = typed(*shlex.split(os.path.expandvars(record["command"]))[1:])
    assert code == 0, err
    second = Path(json.loads(out)["run"])
    assert second != first
    assert (first / "predictions.csv").read_bytes() == (second / "predictions.csv").read_bytes()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "extract --dataset pocus --size abc",
            "--size: a whole number was expected. `echolung extract -h` explains it.",
        ),
        ("extract --dataset pocus --workers 0", "--workers: the least is 1."),
        ("extract --dataset pocus --siz 32", "No such option: --siz. Did you mean '--size'?"),
        ("extract", "The option --dataset is missing."),
        ("data check", "The argument"),
    ],
)
def test_usage_errors_are_sentences(typed: Callable[..., Any], line: str, said: str) -> None:
    code, out, err = typed(*line.split())
    assert (code, out) == (2, "")
    assert said in " ".join(err.split()) and "Usage" not in err and "Input should" not in err


@pytest.mark.parametrize("option", ["--store", "--data", "--write-starts"])
def test_a_line_break_in_a_name_is_refused(typed: Callable[..., Any], option: str) -> None:
    code, _, err = typed("extract", "--dataset", "pocus", "--encoder", "random:vit_tiny", option, "a\nb")
    assert code == 2 and "line break" in err


def test_ctrl_c_while_tab_looks_is_silent(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from echolung.cli.terminal.interrupts import say_how_to_go_on

    monkeypatch.setenv("_ECHOLUNG_COMPLETE", "complete_bash")
    say_how_to_go_on()
    assert capsys.readouterr() == ("", "")
