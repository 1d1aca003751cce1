"""Where videos lie among each other by their pooled tokens: PCA, t-SNE (UMAP where installed), and who their neighbours are."""

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from echolung.cache import TokenStore
from echolung.evaluation.embeddings import embeddings
from echolung.report.figures import new_figure, save_figure
from echolung.report.pictures.clips import shorten
from echolung.report.pictures.strips import FAINT
from echolung.report.run import Run

NEIGHBOURS = 5

NAMED = 8
"""Values of a column with a colour of their own; the rest are grey."""

COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#e08a3c", "#7a5c3e")
"""Bright for the colour-blind (Paul Tol), and two more."""


def caption(run: Run, store: TokenStore) -> str:
    """Return what the picture shows."""
    return (
        "Each dot is a video: the mean of its tokens, every dimension standardised, brought to two dimensions by methods that "
        "know no label. t-SNE keeps neighbours; distances between its clusters and their sizes mean nothing. The lines below "
        f"say what pictures cannot: how often a video's {NEIGHBOURS} nearest neighbours, in all dimensions, share its label, "
        "source or patient, and how often chance would."
    )


def draw_maps(run: Run, store: TokenStore, folder: Path) -> list[Path]:
    """Draw maps.png: the videos of a run by each method, coloured by label, source and fold; nothing of under 5 videos."""
    videos, values = embeddings(run.result, store)
    if len(videos) < 5:
        return []
    task = run.result.task
    columns = {"truth": run.result.settings["task"], "source": "source", "fold": "fold"}
    columns = {column: title for column, title in columns.items() if videos[column].nunique() > 1}
    maps = {name: method(values) for name, method in methods().items()}
    width, lines = 7.0, neighbour_lines(videos, values, bool(task.classes))
    figure = new_figure(width, 2.2 * len(maps) + 1.35 + 0.17 * len(lines))
    panels = figure.subplots(len(maps), max(1, len(columns)), squeeze=False)
    for number, (row, (name, places)) in enumerate(zip(panels, maps.items(), strict=True), 1):
        for axes, (column, title) in zip(row, columns.items(), strict=True):
            numbers = column == "truth" and not task.classes
            _scatter(axes, places, videos[column], numbers, bar=number == len(panels))
            if number == 1:
                axes.set_title(f"by {title}", fontsize=9.5)
            if number == len(panels):
                _legend(axes)
        row[0].set_ylabel(name, fontsize=9.5)
    figure.supxlabel("\n".join(lines), fontsize=8.5, color="#222222", x=0.01, ha="left")
    path = folder / "maps.png"
    save_figure(figure, path)
    return [path]


def methods() -> dict[str, Callable[[Float[np.ndarray, "v d"]], Float[np.ndarray, "v 2"]]]:
    """Return how to get from embeddings to a map; UMAP only where it is installed."""
    umap = {"UMAP": _umap} if find_spec("umap") else {}
    return {"PCA": lambda values: _pca(values, 2), "t-SNE": _tsne, **umap}


def _pca(values: Float[np.ndarray, "v d"], count: int) -> Float[np.ndarray, "v k"]:
    from sklearn.decomposition import PCA
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # sums in the same order on every machine
        return PCA(min(count, *values.shape), svd_solver="covariance_eigh").fit_transform(values)


def _tsne(values: Float[np.ndarray, "v d"]) -> Float[np.ndarray, "v 2"]:
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(30.0, (len(values) - 1) / 3)
    with threadpool_limits(1):
        return TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(_pca(values, 50))


def _umap(values: Float[np.ndarray, "v d"]) -> Float[np.ndarray, "v 2"]:
    from umap import UMAP

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a seed means one thread
        return np.asarray(UMAP(n_neighbors=min(15, len(values) - 1), random_state=0).fit_transform(_pca(values, 50)))


def neighbour_lines(videos: pd.DataFrame, values: Float[np.ndarray, "v d"], classes: bool) -> list[str]:
    """Return sentences on what the nearest neighbours share, and what any two videos do."""
    everyone = ~np.eye(len(videos), dtype=bool)
    known = {what: videos[what].astype(str).to_numpy() for what in ("source", "patient", "truth")}
    others = known["patient"][:, None] != known["patient"][None, :]
    asked = [(known["truth"], everyone, "label"), (known["truth"], others, "label, among videos of other patients")]
    asked = [
        *(asked if classes else []),
        (known["source"], everyone, "source"),
        (known["patient"], everyone, "patient"),
    ]
    lines = []
    if not classes and others.sum(1).min() >= NEIGHBOURS:
        lines.append(_differences(videos["truth"].to_numpy(float), values, others))
    for names, allowed, title in asked:
        if 1 < len(set(names)) < len(names) and (names != "").all() and allowed.sum(1).min() >= NEIGHBOURS:
            share, chance = shared(names, values, allowed)
            lines.append(f"{title}: shared by {100 * share:.0f} % of the neighbours, {100 * chance:.0f} % by chance")
    return lines


def _differences(
    numbers: Float[np.ndarray, " v"], values: Float[np.ndarray, "v d"], allowed: Bool[np.ndarray, "v v"]
) -> str:
    between = np.abs(numbers[:, None] - numbers[None, :])
    near = np.take_along_axis(between, nearest(values, allowed), 1).mean()
    return f"number: neighbours of other patients differ by {near:.3g} on average, any two by {between[allowed].mean():.3g}"


def nearest(values: Float[np.ndarray, "v d"], allowed: Bool[np.ndarray, "v v"]) -> Int[np.ndarray, "v k"]:
    """Return the places of each video's nearest allowed neighbours."""
    from sklearn.metrics import pairwise_distances

    far = np.where(allowed, pairwise_distances(values), np.inf)
    return np.argsort(far, axis=1, kind="stable")[:, :NEIGHBOURS]


def shared(
    names: np.ndarray, values: Float[np.ndarray, "v d"], allowed: Bool[np.ndarray, "v v"]
) -> tuple[float, float]:
    """Return the share of each video's nearest allowed neighbours with its own name, and of all allowed ones (means)."""
    same = names[:, None] == names[None, :]
    chance = (same & allowed).sum(1) / allowed.sum(1)
    return float(np.take_along_axis(same, nearest(values, allowed), 1).mean()), float(chance.mean())


def _scatter(axes: Any, places: Float[np.ndarray, "v 2"], values: "pd.Series[Any]", numbers: bool, bar: bool) -> None:
    size = float(np.clip(2500 / len(places), 4, 18))
    look = {"s": size, "alpha": 0.85, "linewidths": 0}
    if numbers:
        drawn = axes.scatter(*places.T, c=values.to_numpy(float), cmap="viridis", **look)
        if bar:
            below = axes.inset_axes((0.1, -0.09, 0.8, 0.04))
            axes.get_figure().colorbar(drawn, cax=below, orientation="horizontal").ax.tick_params(labelsize=8)
    else:
        texts = values.astype(str)
        counts = texts.value_counts()
        named = sorted(counts.index[:NAMED], key=lambda name: (len(name) * name.isdigit(), name))
        rest = ~texts.isin(named)
        if rest.any():
            label = f"{len(counts) - len(named)} more"
            axes.scatter(*places[rest.to_numpy()].T, color="#c3c8ce", label=label, zorder=1, **look)
        for name, colour in zip(named, COLOURS, strict=False):
            axes.scatter(
                *places[(texts == name).to_numpy()].T, color=colour, label=shorten(name or "unknown", 18), **look
            )
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_color("#c3c8ce")


def _legend(axes: Any) -> None:
    handles, names = axes.get_legend_handles_labels()
    if handles:
        if names[0].endswith(" more"):  # drawn first, to lie below the others
            handles, names = handles[1:] + handles[:1], names[1:] + names[:1]
        columns = 1 if max(map(len, names)) > 10 else 2 if max(map(len, names)) > 4 else 3
        axes.legend(
            handles, names, loc="upper center", bbox_to_anchor=(0.5, -0.03), ncols=columns, fontsize=8, frameon=False,
            handletextpad=0.2, columnspacing=0.8, labelcolor=FAINT, markerscale=1.6, borderaxespad=0.2,
        )  # fmt: skip
