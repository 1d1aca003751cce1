r"""Blocks of code in docs/**/*.md, README.md and CONTRIBUTING.md are run as they stand.

A comment before a block says what is done with it. Neither GitHub nor the site shows the comment. A block is a fence
(``` or ~~~) or lines indented by four spaces; blank lines may stand between mark and block.

    <!-- run -->                 run the block. Fence `python`: as Python. Anything else: as bash, which stops at the first error
    <!-- run exit 2 -->          the block must end with this exit code (0 where nothing is said)
    <!-- run slow -->            the whole chain runs with `pytest -m slow` only: for what takes more than some 20 s together
    <!-- run: other -->          belongs to the chain `other` of the page (default: `page`)
    <!-- file my_module.py -->   write the block to this file in the folder of the chain before it, and do not run it
    <!-- output -->              the block before it has printed this
    <!-- output exact -->        the same, and the numbers are those

    <!-- run hidden              preparation that the page need not show (bash), in the comment itself
    echolung data phantom videos
    -->

A block without a mark is only shown. The words of a mark can be joined: `<!-- run: other slow exit 1 -->`.

**A chain.** The blocks of a page run in order, in one folder that is empty at first, with an empty ECHOLUNG_HOME. What
one leaves behind the next one finds: files, the working directory, shell variables (exported or not), Python's names,
stores, runs. `uv run X` runs X of the environment of the tests. Another chain begins anew: use one where a page tells two
stories, or where one of them is slow. Every command is a process that imports torch (three seconds), so keep them few,
and phantoms small: `echolung data phantom --videos 12 --frames 16 --size 64`, `extract --encoder random:vit_tiny --size 64`,
`probe --cv 3`. A page has real dataset names? Let hidden commands write phantoms in their layout (`data phantom
--layout echonet-dynamic`, see its --help).

**Output** is what was printed on stdout and stderr together, without a terminal (tables are then up to 140 columns wide).
Every line of the block must have been printed, in this order; other lines may stand between them. In both, numbers and
hexadecimal digests count as equal, and runs of spaces, dashes and lines of tables as one space. A line `…` says that lines
are left out; of a line that ends in `…` only the beginning is looked for. With `exact` numbers must be equal, too.

Every line that starts with `echolung` in any block, run or not, is also held against the command line: test_commands.py.
"""

import contextlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from echolung.datasets import DATASETS
from echolung.probes.kinds import PROBES

REPOSITORY = Path(__file__).parents[2]
PAGES = [*REPOSITORY.glob("*.md"), *sorted((REPOSITORY / "docs").rglob("*.md"))]
PRELUDE = 'uv() { [ "$1" = run ] && shift; "$@"; }\nset -aeuo pipefail\ntrap \'env -0 >"$LEFT"\' EXIT\n'
RUN = re.compile(r"^ *<!-- *run(?:: *([\w-]+))?([^>\n]*)", re.MULTILINE)


def chains() -> Iterator[object]:
    """Yield (page, chain) of what is to be run, the slow ones marked."""
    for page in PAGES:
        marks = RUN.findall(page.read_text(encoding="utf-8"))
        for chain in dict.fromkeys(name or "page" for name, _ in marks):
            slow = any("slow" in words.split() for name, words in marks if (name or "page") == chain)
            name = f"{page.relative_to(REPOSITORY)}:{chain}"
            yield pytest.param(page, chain, id=name, marks=[pytest.mark.slow] if slow else [])


class Shell:
    """Runs the blocks of a chain; keeps folder, environment and Python's names from one to the next."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder / "läßt sich lesen"  # a space and an umlaut, as people have them
        self.folder.mkdir()
        self.names: dict[str, object] = {"__name__": "__main__"}
        binaries = Path(sys.executable).parent
        away = {"ECHOLUNG_DEBUG", "ECHOLUNG_MIRROR", "ECHOLUNG_OFFLINE", "COLUMNS", "FORCE_COLOR"}
        self.variables = {key: value for key, value in os.environ.items() if key not in away} | {
            "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
            "ECHOLUNG_HOME": str(home),
            "PWD": str(self.folder),
            "LEFT": str(folder / "left"),
            "NO_COLOR": "1",
            "MPLBACKEND": "Agg",
            "PYTHONWARNINGS": "ignore",
        }

    def commands(self, text: str) -> tuple[int, str]:
        """Return the exit code of commands and what they printed."""
        ran = subprocess.run(
            ["bash", "-c", PRELUDE + text],
            cwd=self.variables["PWD"],
            env=self.variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=1800,
        )
        left = Path(self.variables["LEFT"]).read_bytes().decode().split("\0")
        self.variables = dict(item.split("=", 1) for item in left if "=" in item)
        return ran.returncode, ran.stdout.decode()

    def python(self, text: str, name: str, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
        """Return 0 and what Python code printed; its errors are raised."""
        with monkeypatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
            for key, value in self.variables.items():
                patch.setenv(key, value)
            patch.chdir(self.variables["PWD"])
            patch.syspath_prepend(self.variables["PWD"])
            exec(compile(text, name, "exec"), self.names)
        return 0, printed.getvalue()


def normal(line: str, exact: bool = False) -> str:
    """Return a line with numbers, digests, lines and runs of spaces made equal."""
    if not exact:
        line = re.sub(r"\b[0-9a-f]{8,}\b", "#", line)
        line = re.sub(r"[-−+]?\d[\d.,]*", "#", line)
    return re.sub(r"[\s─-╿=·—-]+", " ", line).strip()


def missing(expected: str, printed: str, exact: bool = False) -> str | None:
    """Return the first line of `expected` that was not printed, in its order; None where all were."""
    lines = iter([normal(line, exact) for line in printed.splitlines()])
    for line in expected.splitlines():
        beginning = line.rstrip().endswith(("…", "..."))
        looked_for = normal(line.rstrip().rstrip("….") if beginning else line, exact)
        if looked_for and not any(got.startswith(looked_for) if beginning else got == looked_for for got in lines):
            return line
    return None


@pytest.fixture
def known_names():
    """Take back what an example adds to datasets and probes: other tests run in this process, too."""
    with patch.dict(DATASETS), patch.dict(PROBES):
        yield


@pytest.mark.usefixtures("known_names")
@pytest.mark.parametrize(("page", "chain"), list(chains()))
def test_a_page_does_what_it_says(page, chain, blocks, tmp_path, echolung_home, monkeypatch):
    shell = Shell(tmp_path, echolung_home)
    found = blocks(page)
    printed, ours = "", next(block.chain for block in found if block.mark == "run") == chain
    for block in found:
        where = f"{block.page.relative_to(REPOSITORY)}:{block.line}"
        if block.mark == "run":
            ours = block.chain == chain
        if not ours or not block.mark:
            continue
        if block.mark == "file":
            file = Path(shell.variables["PWD"], block.words[0])
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text + "\n", encoding="utf-8")
        elif block.mark == "output":
            line = missing(block.text, printed, "exact" in block.words)
            assert line is None, f"{where}: this line was not printed:\n{line}\nThis was:\n{printed}"
        else:
            python = block.language in ("python", "py")
            code, printed = shell.python(block.text, where, monkeypatch) if python else shell.commands(block.text)
            assert code == block.exit, f"{where} ended with exit code {code}, not {block.exit}:\n{printed}"


def test_output_is_compared_loosely_but_not_idly():
    printed = "pocus: 119 videos\n┃ covid ┃   27 ┃\naccuracy 51.2 ± 8.8\nstore--16301cd4bb.zarr\n"
    assert missing("pocus: 3 videos\n│ covid │ 1 │\n…\naccuracy 9 ± 1\nstore--deadbeef00.zarr", printed) is None
    assert missing("pocus: 119 vid…", printed) is None
    assert missing("pocus: 118 videos", printed, exact=True) == "pocus: 118 videos"
    assert missing("accuracy 1 ± 1\npocus: 1 videos", printed) == "pocus: 1 videos"  # another order
    assert missing("pocus: 119 patients", printed) == "pocus: 119 patients"


def test_marks_are_read(blocks, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- run: a slow exit 2 -->\n\n```bash\nfalse\n```\n<!-- output exact -->\n\n    out\n\n    put\n\ntext\n\n"
        "- item\n\n    no code\n\n<!-- run hidden\ntrue\n-->\n\n<!-- file a/b.csv -->\n```\nx\n```\n",
        encoding="utf-8",
    )
    first, output, hidden, file = blocks(page)
    assert (first.mark, first.chain, first.words, first.exit, first.line) == ("run", "a", ("slow",), 2, 4)
    assert (output.mark, output.words, output.text) == ("output", ("exact",), "out\n\nput")
    assert (hidden.mark, hidden.words, hidden.text) == ("run", ("hidden",), "true")
    assert (file.mark, file.words, file.text) == ("file", ("a/b.csv",), "x")


def test_a_mark_without_a_block_is_an_error(blocks, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- run -->\n\ntext\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="no block of code follows"):
        blocks(page)
