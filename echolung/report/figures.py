"""One style for figures as PNG files, drawn without a display."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from echolung.evaluation import Result
from echolung.evaluation.result import is_optimistic

BLUE, GREY, RED = "#1f5fa8", "#9aa3ad", "#d1495b"
"""What is shown, what it is shown beside, and what must not be believed."""

INK, PALE, ROSE = "#333333", "#c9d6e6", "#efc4cb"
"""Text, and pale fillings."""

PALETTE = ("#1f5fa8", "#e07b00", "#12876f", "#b0388f", "#56b4e9", "#8c510a", "#7a7d82", "#b8a000", "#332288")
"""Colours of classes, folds and sources that the colour-blind can tell apart (after Okabe and Ito)."""

WIDTH = 7.2
"""Inches. A page shows a figure 700 pixels wide, where 8 points are then 11 pixels high."""

TEXT, SMALL = 9.0, 8.0
"""Points."""

BOX = {"fc": "white", "ec": "none", "alpha": 0.75, "pad": 0.8}
"""Behind text that lies on lines."""


def new_figure(width: float, height: float) -> Any:
    """Return an empty figure, in inches, that needs no display."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=160)


def save_figure(figure: Any, path: Path) -> None:
    """Write a PNG that is the same for the same figure, whatever drew it."""
    figure.savefig(path, metadata={"Software": None})


def title_figure(figure: Any, what: str, result: Result, encoder: str = "") -> None:
    """Write above a figure what it shows and of which run, and where that is optimistic, that it is."""
    settings = result.settings
    optimistic = " (optimistic)" if is_optimistic(settings) else ""
    repeats = settings.get("repeats") or 1
    parts = [
        f"{settings['dataset']} · {settings['task']}",
        *([f"→ {settings['test']['dataset']} · {settings['test']['task']}"] if "test" in settings else []),
        *([encoder] if encoder else []),
        f"{settings['probe']}, {settings['protocol']}{optimistic}, by {settings['group']}",
        *([f"{repeats} repeats"] if repeats > 1 else []),
    ]
    room = int(figure.get_figwidth() * 13)  # characters
    whole = [part.replace(" ", "\u00a0") for part in parts]  # lines break between parts only
    about = plain(textwrap.fill(" · ".join(whole), room)).replace("\u00a0", " ")
    figure.suptitle(f"{plain(textwrap.fill(what, room))}\n{about}", fontsize=10, color=INK)


def tidy(axes: Any, title: str = "", x: str = "", y: str = "") -> None:
    """Give axes the house style, a title and labels."""
    axes.set_title(plain(title), fontsize=TEXT, color=INK)
    axes.set_xlabel(plain(x), fontsize=TEXT, color=INK)
    axes.set_ylabel(plain(y), fontsize=TEXT, color=INK)
    axes.tick_params(labelsize=SMALL, colors=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)


def colours(count: int) -> Sequence[Any]:
    """Return so many colours: those of the palette, or where these do not suffice shades from dark to light."""
    if count <= len(PALETTE):
        return PALETTE[:count]
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colormaps["viridis"](0.92 * i / (count - 1))) for i in range(count)]


def plain(text: str) -> str:
    """Return text that is drawn as it is: a dollar sign in a name begins no formula."""
    return text.replace("$", r"\$")


def wrap(name: str, width: int = 18) -> str:
    """Return a name over several lines, for a label."""
    return plain(textwrap.fill(name, width))
