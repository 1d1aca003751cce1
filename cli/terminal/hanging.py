"""Lines with something before them, and the text beside it: wrapped where the terminal ends, the rest set in."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def print_hanging(console: "Console", head: str, text: str) -> None:
    """Print `head` and `text` (both with rich's markup); further lines of the text begin where the first one does."""
    from rich.text import Text

    before, body = Text.from_markup(head), Text.from_markup(text)
    for line in body.wrap(console, max(console.width - before.cell_len, 20)):
        line.rstrip()
        console.print(before + line, highlight=False, soft_wrap=True)
        before = Text(" " * before.cell_len)
