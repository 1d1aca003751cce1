"""Figures of a run, drawn as files and embedded in the page."""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image as Pillow

from echolung.cache import TokenStore
from echolung.errors import InputError
from echolung.report.pictures import attention, embedding, mistakes, samples
from echolung.report.plots import bars, calibration, confusion, curves, regression, sources, training
from echolung.report.run import Run
from echolung.settings import make_folder

PLOTS: dict[str, Callable[[Run, Path], bool]] = {
    "confusion": confusion.draw_confusion,
    "roc-pr": curves.draw_roc_pr,
    "reliability": calibration.draw_reliability,
    "curves": training.draw_curves,
    "twins": bars.draw_twins,
    "folds": bars.draw_folds,
    "inner-outer": bars.draw_inner_outer,
    "sources": sources.draw_sources,
    "scatter": regression.draw_scatter,
}
"""Name of the figure -> what draws it to a file, and says whether there was anything to draw."""

PICTURES: dict[str, Callable[[Run, TokenStore, Path], list[Path]]] = {
    "mistakes": mistakes.draw_mistakes,
    "map": embedding.draw_maps,
    "attention": attention.draw_attention,
    "samples": samples.draw_samples,
}
"""The same of what needs the store: the files written to a folder."""

STUDY = ("history", "parallel", "importance")
"""Figures that a study leaves in the run's folder."""

PAGE_DPI = 96

KINDS = {".png": "image/png", ".webp": "image/webp", ".gif": "image/gif", ".jpg": "image/jpeg"}


@dataclass(frozen=True)
class Image:
    """A figure within the page.

    Attributes:
        name: of its file, in words.
        uri: the file as a data URI.
        width: at which it is shown where there is room, in pixels of the page (96 an inch): letters are as large as those of
            the text. A picture that does not know its size in inches is shown pixel by pixel.
        height: likewise.
    """

    name: str
    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Drawn:
    """The figures of a run.

    Attributes:
        images: what was drawn, by name; nothing where it does not apply.
        problems: why something could not be drawn, by name.
    """

    images: dict[str, list[Image]]
    problems: dict[str, str]


def draw(run: Run, store: TokenStore | None, folder: Path) -> Drawn:
    """Draw every figure that applies into `folder`; those of the store's clips where there is a store."""
    make_folder(folder)
    files: dict[str, list[Path]] = {}
    problems = {}
    for name, plot in PLOTS.items():
        path = folder / f"{name}.png"
        files[name] = [path] if plot(run, path) else []
    for name, picture in PICTURES.items():
        try:
            files[name] = picture(run, store, folder) if store is not None else []
        except InputError as error:  # the store is damaged: everything else can still be shown
            problems[name] = str(error)
    files["study"] = [path for name in STUDY if (path := run.folder / f"{name}.png").is_file()]
    return Drawn({name: [embed(path) for path in paths] for name, paths in files.items()}, problems)


def embed(path: Path) -> Image:
    """Return a picture file as part of a page."""
    with Pillow.open(path) as picture:
        scale = PAGE_DPI / picture.info.get("dpi", (PAGE_DPI, PAGE_DPI))[0]
        width, height = (round(scale * side) for side in picture.size)
    text = base64.b64encode(path.read_bytes()).decode("ascii")
    return Image(
        path.stem.replace("-", " ").replace("_", " "), f"data:{KINDS[path.suffix]};base64,{text}", width, height
    )
