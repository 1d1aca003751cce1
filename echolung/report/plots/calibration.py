"""How far probabilities can be believed."""

from pathlib import Path
from typing import Any

from echolung.evaluation import metrics
from echolung.evaluation.statistics.calibration import Reliability, reliability
from echolung.evaluation.summary import calibrated, patients_of, truth_of
from echolung.report.figures import BLUE, GREY, PALETTE, SMALL, TEXT, WIDTH, new_figure, save_figure, tidy, title_figure
from echolung.report.plots.values import encoder_of
from echolung.report.run import Run


def draw_reliability(run: Run, path: Path) -> bool:
    """Draw how often the class told is right against how probable it was said to be, and how many videos each bin has.

    Beside it the same after temperature scaling, where there are temperatures.
    """
    result = run.result
    if not result.task.classes:
        return False
    shown = {"as predicted": (result.scores, BLUE)}
    if (scaled := calibrated(result)) is not None:
        heat = [f"{t:.2g}" for t in sorted(result.temperatures)]
        among = heat[0] if heat[0] == heat[-1] else f"{heat[0]} – {heat[-1]}"
        shown[f"temperature scaled (T = {among})"] = (scaled, PALETTE[1])
    truth = truth_of(result)
    figure = new_figure(WIDTH if len(shown) > 1 else 5.0, 4.5)
    grid = figure.subplots(2, len(shown), height_ratios=[3, 1], sharex=True, sharey="row", squeeze=False)
    for place, (title, (p, colour)) in enumerate(shown.items()):
        bins = reliability(truth, p, patients_of(result))
        _curve(grid[0, place], bins, colour, title, f"ECE {metrics.calibration_error(truth, p):.3f}")
        _counts(grid[1, place], bins, colour)
    grid[0, 0].set_ylabel("share that is right", fontsize=TEXT)
    grid[1, 0].set_ylabel("videos", fontsize=TEXT)
    title_figure(figure, "Reliability; band: 95 % when patients are resampled", result, encoder_of(run))
    save_figure(figure, path)
    return True


def _curve(axes: Any, bins: Reliability, colour: str, title: str, note: str) -> None:
    axes.plot([0, 1], [0, 1], color=GREY, lw=0.9, ls=":")
    axes.fill_between(bins.confidence, bins.observed_low, bins.observed_high, color=colour, alpha=0.15, lw=0)
    axes.vlines(bins.confidence, bins.observed_low, bins.observed_high, color=colour, lw=1, alpha=0.5)
    axes.plot(bins.confidence, bins.observed, "o-", color=colour, lw=1.8, ms=4.5)
    axes.text(0.04, 0.94, note, va="top", fontsize=TEXT, transform=axes.transAxes)
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.03, 1.03)
    tidy(axes, title)


def _counts(axes: Any, bins: Reliability, colour: str) -> None:
    middle, width = (bins.low + bins.high) / 2, bins.high - bins.low
    axes.bar(middle, bins.count, 0.88 * width, color=colour, alpha=0.75)
    for place, count in zip(middle, bins.count, strict=True):
        axes.annotate(str(count), (place, count), (0, 1), textcoords="offset points", ha="center", fontsize=SMALL)
    axes.margins(y=0.3)
    tidy(axes, x="probability of the class told")
