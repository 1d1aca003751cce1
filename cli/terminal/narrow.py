"""A table on a terminal too narrow for it: each row as lines of its own, so that no number is cut."""

from typing import Any


def fitting(console: Any, thing: Any) -> Any:
    """Return a table that the console has room for as it is, else its rows below each other; anything else as it is."""
    from rich.table import Table

    if not isinstance(thing, Table) or not thing.row_count:
        return thing
    return thing if _fits(console, thing) else _rows(thing)


def _fits(console: Any, table: Any) -> bool:
    """Whether no column is narrower than its longest word, and nothing is cut to an ellipsis."""
    from rich.measure import Measurement

    if Measurement.get(console, console.options.update(width=10_000), table).minimum > console.width:
        return False
    shown = "".join(segment.text for segment in console.render(table))
    own = sum(_text(cell).plain.count("…") for column in table.columns for cell in (column.header, *column.cells))
    return shown.count("…") <= own


def _rows(table: Any) -> Any:
    """Return a paragraph a row: what its first cell says, then a line for each other cell that says something."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    heads = [_text(column.header).plain.replace("\n", " ").strip() for column in table.columns]
    parts: list[Any] = [Text(str(table.title), "italic")] if table.title else []
    for cells in zip(*(column.cells for column in table.columns), strict=True):
        first, *others = (_text(cell) for cell in cells)
        first.stylize("bold")
        parts.append(first if first.plain else Text("–", "bold"))
        for head, cell in zip(heads[1:], others, strict=True):
            if cell.plain.strip():
                said = Text.assemble((f"{head}: " if head else ""), cell)
                said.plain = said.plain.replace("\n", ", ") if head else said.plain
                parts.append(Padding(said, (0, 0, 0, 2)))
    return Group(*parts)


def _text(cell: Any) -> Any:
    from rich.text import Text

    return cell.copy() if isinstance(cell, Text) else Text.from_markup(str(cell))
