"""The pages, and the blocks of code in them with the marks that stand before them. `test_blocks.py` says how to mark."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,}|~{3,}) *(?P<language>[\w+-]*)")
MARK = re.compile(r"^ *<!-- *(?P<kind>run|file|output)\b(?P<rest>[^>\n]*?)(?P<close>-->)? *$")
HOLDER = re.compile(r"^(?: {0,3}(?:[-*+]|\d+\.) |[!?]{3}|=== )")
"""What has indented text below it that is no code: a list, an admonition, a tab."""


@dataclass(frozen=True)
class Block:
    """A block of code of a page.

    Attributes:
        page: the file.
        line: of its first line, from 1.
        language: of a fence, else "".
        text: without fence and indentation.
        mark: "run", "file", "output" or "" (only shown).
        chain: of a block that runs: which of the page's chains it belongs to.
        words: of the mark: "slow", "exact", "hidden"; of a file its name.
        exit: the exit code that a block of commands must end with.
    """

    page: Path
    line: int
    language: str
    text: str
    mark: str = ""
    chain: str = "page"
    words: tuple[str, ...] = ()
    exit: int = 0


def _marked(block: Block, mark: re.Match[str] | None) -> Block:
    if mark is None:
        return block
    rest = mark["rest"].strip()
    if mark["kind"] == "file":
        return replace(block, mark="file", words=(rest.lstrip(": "),))
    chain = re.match(r": *([\w-]+)", rest)
    words = rest[chain.end() if chain else 0 :].split()
    status = int(words.pop(words.index("exit") + 1)) if "exit" in words else 0
    left = tuple(word for word in words if word != "exit")
    unknown = set(left) - {"slow", "exact", "hidden"}
    assert not unknown, f"{block.page}:{block.line}: {' '.join(unknown)!r} is no word of a mark"
    return replace(block, mark=mark["kind"], chain=chain[1] if chain else "page", words=left, exit=status)


def _blocks(page: Path) -> list[Block]:
    """Return the blocks of a page, in order."""
    lines = page.read_text(encoding="utf-8").splitlines()
    found: list[Block] = []
    mark, holder, at = None, False, 0
    while at < len(lines):
        line = lines[at]
        fence, comment = FENCE.match(line), MARK.match(line)
        if comment and not comment["close"]:  # hidden: the comment itself is the block
            end = next(i for i in range(at, len(lines)) if lines[i].strip() == "-->")
            found.append(_marked(Block(page, at + 2, "bash", "\n".join(lines[at + 1 : end])), comment))
            at = end
        elif comment:
            mark = comment
        elif fence:
            closes = re.compile(rf"^ *{fence['ticks']}[`~]* *$")
            end = next(i for i in range(at + 1, len(lines)) if closes.match(lines[i]))
            inside = [text[len(fence["indent"]) :] for text in lines[at + 1 : end]]
            found.append(_marked(Block(page, at + 2, fence["language"], "\n".join(inside)), mark))
            mark, at = None, end
        elif line.startswith("    ") and not holder and (at == 0 or not lines[at - 1].strip() or mark):
            end = at
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            inside = [text[4:] for text in lines[at:end]]
            found.append(_marked(Block(page, at + 1, "", "\n".join(inside).rstrip()), mark))
            mark, at = None, end - 1
        elif line.strip():
            assert mark is None, f"{page}:{at + 1}: no block of code follows the mark before this line"
            holder = bool(HOLDER.match(line)) or (holder and line.startswith(" "))
        at += 1
    return found


@pytest.fixture(scope="session")
def blocks() -> Callable[[Path], list[Block]]:
    """Return what reads a page's blocks of code."""
    return _blocks


@pytest.fixture(scope="session")
def pages() -> list[Path]:
    """Return every page that people read."""
    top = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md")]
    return [page for page in top if page.exists()] + sorted((REPOSITORY / "docs").rglob("*.md"))
