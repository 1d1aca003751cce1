"""The table of `echolung probe`: a line a fold, and what belongs beside every number."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from echolung.cli.terminal.console import out

if TYPE_CHECKING:
    from echolung.cache import TokenStore
    from echolung.evaluation import Result
    from echolung.evaluation.statistics.reduced import Reduced
    from echolung.evaluation.summary import Summary
    from echolung.report.run import Twin

PER_CENT = ("accuracy", "balanced_accuracy")

POSITIVE = ("sensitivity", "specificity", "precision", "f1", "auprc")

HEADS = {
    "accuracy": "accuracy %",
    "balanced_accuracy": "bal. acc. %",
    "auroc": "AUROC",
    "qwk": "weighted kappa",
    "score_mae": "MAE of score",
    "mae": "MAE",
    "rmse": "RMSE",
    "r2": "R²",
    "pearson": "Pearson r",
}

SPOKEN = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "auroc": "AUROC",
    "qwk": "weighted kappa",
    "score_mae": "MAE of score",
}
"""Metric -> what a sentence calls it."""

WIDE, LONGEST = 105, 24
"""Columns from which the table has room for the chosen settings, where these take so many at most."""


def show(
    result: "Result", summary: "Summary", store: "TokenStore", seconds: float, twins: "Sequence[Twin]" = ()
) -> None:
    """Print the table of folds and what belongs beside every number."""
    from rich.markup import escape

    from echolung.evaluation.result import is_optimistic

    settings = result.settings
    console = out()
    optimistic = " [bold red](optimistic)[/]" if is_optimistic(settings) else ""
    given = ", ".join(f"{name} {_either(value)}" for name, value in settings.get("hyper", {}).items())
    console.print(
        f"\n[bold]{escape(what_of(settings))}[/] · {settings['probe']} probe{escape(f' ({given})') if given else ''} on "
        f"{escape(str(store.group.attrs.get('encoder')))} · protocol {settings['protocol']}{optimistic}"
    )
    keys = _setting_keys(result)
    longest = max(len(_setting(choice, keys)) for choice in result.chosen)
    wide = console.width >= WIDE and longest <= LONGEST
    console.print(_fold_table(result, summary, twins, wide))
    if not wide:
        names = " · ".join(_short(key) for key in keys)
        chosen = ", ".join(f"fold {i}: {_setting(choice, keys)}" for i, choice in enumerate(result.chosen))
        console.print(escape(f"Chosen ({names}): {chosen}"))
    for line in _beside(result, summary, seconds):
        console.print(line)
    for note in result.notes:
        console.print(f"[yellow]note[/] {escape(note)}")


def _either(value: Any) -> str:
    """Return a hyper-parameter as it was asked for: 0.5, or what was to be chosen from: 0 or 0.5."""
    return " or ".join(map(str, value)) if isinstance(value, list) else str(value)


def what_of(settings: dict[str, Any]) -> str:
    """Return dataset and task, with an arrow where another dataset was predicted."""
    asked = f"{settings['dataset']} · {settings['task']}"
    return f"{asked} → {settings['test']['dataset']} · {settings['test']['task']}" if "test" in settings else asked


def _setting_keys(result: "Result") -> list[str]:
    """Return what was chosen: hyper-parameters that differ between the settings, and the epoch."""
    grid = result.settings.get("grid", [])
    same = (
        {key for key in grid[0] if len(grid) > 1 and len({str(setting[key]) for setting in grid}) == 1} if grid else {}
    )
    return [key for key in result.chosen[0] if key not in same and (key != "epoch" or result.settings["epochs"] > 1)]


def _setting(chosen: dict[str, Any], keys: list[str]) -> str:
    return " · ".join(str(v) if isinstance(v := chosen[key], str) else f"{v:.3g}" for key in keys)


def _fold_table(result: "Result", summary: "Summary", twins: "Sequence[Twin]", wide: bool) -> Any:
    """Return the table; where the terminal is narrow without the settings, and with three metrics at most."""
    import numpy as np
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    names = _shown(result) if wide else _shown(result)[:3]
    keys = _setting_keys(result)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1) if wide else (0, 1, 0, 0))
    table.add_column("\nfold", no_wrap=True, min_width=14)
    for part in ("train", "test"):
        table.add_column(f"{part}\npat./vid.", justify="right", no_wrap=True)
    if wide:
        table.add_column("chosen\n" + " · ".join(_short(key) for key in keys), no_wrap=True)
    for name in names:
        table.add_column(f"\n{HEADS[name]}", justify="right", no_wrap=True)

    def row(label: str, about: str, cells: list[str], sizes: Sequence[str] = ("", ""), style: str = "") -> None:
        table.add_row(label, *sizes, *([about] if wide else []), *cells, style=style)

    if result.settings.get("repeats", 1) > 1:
        means = summary.folds.groupby(np.arange(len(summary.folds)) // result.settings["folds"]).mean()
        for repeat, of_repeat in means.iterrows():
            row(f"repeat {repeat}", "", [number(name, of_repeat[name]) for name in names])
    else:
        rows = zip(result.folds.iterrows(), result.chosen, summary.folds.iterrows(), strict=True)
        for (_, fold), chosen, (_, values) in rows:
            sizes = [f"{fold[f'patients_{part}']}/{fold[f'videos_{part}']}" for part in ("train", "test")]
            row(str(fold["fold"]), _setting(chosen, keys), [number(name, values[name]) for name in names], sizes)
    table.add_section()
    if len(result.folds) > 1:
        row("mean ± sd", "", _spread(summary, names), style="bold")
    row("95 % interval", "pooled, by patient", [_interval(name, summary.interval.get(name)) for name in names])
    for twin in twins:
        name = "random twin" if wide or "@" not in twin.encoder else f"random twin @{twin.encoder.rpartition('@')[2]}"
        row(name, _seed_of(twin.encoder), _spread(twin.summary, names), style="dim")
    guess = "majority class" if result.task.classes else "mean"
    row(guess, "guessing", [number(name, summary.guess[name]) for name in names], style="dim")
    if summary.median:
        row("median", "guessing", [number(name, summary.median[name]) for name in names], style="dim")
    return table


def _seed_of(encoder: str) -> str:
    return f"untrained, seed {encoder.rpartition('@')[2]}" if "@" in encoder else "same model, untrained"


def _spread(summary: "Summary", names: list[str]) -> list[str]:
    return [_mean_sd(name, summary.mean[name], summary.sd[name]) for name in names]


def _shown(result: "Result") -> list[str]:
    if result.task.kind == "regression":
        return ["mae", "rmse", "r2", "pearson"]
    return ["accuracy", "balanced_accuracy", "auroc", *(["qwk", "score_mae"] if result.task.ordinal else [])]


def _beside(result: "Result", summary: "Summary", seconds: float) -> list[str]:
    """Return lines, in which names of the user's are escaped."""
    from rich.markup import escape

    settings, shared = result.settings, result.shared
    lines = []
    if summary.patients_per_class:
        # 0: 27, 1: 7; a class with a name needs no colon.
        per_class = summary.patients_per_class.items()
        counts = ", ".join(f"{name}{':' if name[-1:].isdigit() else ''} {count}" for name, count in per_class)
        where = " in the test part" if "split" in settings else ""
        lines.append(escape(f"Patients per class{where}: {counts}"))
    colour = "green" if shared["patients"] == 0 else "red"
    shares = f"[{colour}]{shared['patients']} patients shared[/] between train and test"
    if settings["group"] == "source":
        colour = "green" if shared["groups"] == 0 else "red"
        shares += f", [{colour}]{shared['groups']} sources shared[/]"
    lines.append(shares)
    if summary.patient:
        names = [n for n in _shown(result) if n in summary.patient]
        values = ", ".join(
            f"{SPOKEN.get(n, _called(n))} {number(n, summary.patient[n])}{' %' if n in PER_CENT else ''}" for n in names
        )
        mixed = f" ({summary.mixed_patients} with videos of several classes left out)" if summary.mixed_patients else ""
        lines.append(f"One prediction a patient: {values}{mixed}")
    lines += map(escape, [*_numbers(result, summary), *_two_classes(result, summary), *_fit(result, summary)])
    if result.looks is not None:
        lines.append(_optimism(result))
    repeats = settings.get("repeats", 1)
    times = "once each" if repeats == 1 else f"once in each of {repeats} repeats"
    lines.append(f"{len(result.predictions) // repeats} videos scored {times} · {seconds:.1f} s")
    return lines


def _numbers(result: "Result", summary: "Summary") -> list[str]:
    """Say what of numbers the table has no room for: visits, both R², and an ejection fraction as a classifier."""
    import numpy as np

    from echolung.evaluation import metrics

    lines = []
    if summary.visit:
        names = [name for name in _shown(result) if name in summary.visit]
        lines.append(
            f"One prediction a visit ({summary.visits}): {_ranged(names, summary.visit, summary.visit_interval)}"
        )
    if result.task.classes:
        return lines
    # Of all folds together, as the interval is: the mean over folds of few patients may lie outside it.
    table, several = result.predictions, len(result.folds) > 1
    pooled = metrics.regression(table["truth"].to_numpy(np.float64), result.scores[:, 0])
    what = ", here of all predictions together" if several else ""
    lines.append(f"Two quantities are called R²{what}: {_ranged(['r2', 'r_squared'], pooled, summary.interval)}")
    if summary.reduced:
        name = result.task.column.upper() if result.task.column == "ef" else result.task.column
        within = ", mean over folds," if several else ""
        lines.append(f"AUROC of the number for {name}{within} below " + ", ".join(map(_reduced, summary.reduced)))
    return lines


def _ranged(names: list[str], values: Mapping[str, float], ends: Mapping[str, tuple[float, float]]) -> str:
    """Return metrics with their intervals in a row."""
    return ", ".join(
        f"{_called(name)} {number(name, values[name])}" + (f" ({_interval(name, ends[name])})" if name in ends else "")
        for name in names
    )


def _reduced(each: "Reduced") -> str:
    if each.auroc is None:
        return f"{each.below:g}: not defined ({each.positive} of {each.positive + each.negative} videos)"
    return f"{each.below:g}: {number('auroc', each.auroc)} ({_interval('auroc', each.interval)})"


FIT = ("accuracy", "auroc", "auprc")
"""Metrics of which train and test stand side by side; of numbers MAE alone."""


def _two_classes(result: "Result", summary: "Summary") -> list[str]:
    """Say what clinical papers print of two classes, and of which class it is."""
    if len(result.task.classes) != 2:
        return []
    each = [f"{_called(name)} {_mean_sd(name, summary.mean[name], summary.sd[name])}" for name in POSITIVE]
    return [f"Of {result.task.classes[-1]!r}, mean ± sd over folds: {', '.join(each)}"]


def _fit(result: "Result", summary: "Summary") -> list[str]:
    """Say how well probes fit what they learnt from, beside how well they do on what they did not."""
    names = [name for name in (FIT if result.task.classes else ("mae",)) if name in summary.train]
    each = [
        f"{_called(name)} {_mean_sd(name, summary.train[name], summary.train_sd[name])} → "
        f"{_mean_sd(name, summary.mean[name], summary.sd[name])}"
        for name in names
    ]
    return [f"Train → test, mean ± sd over folds: {', '.join(each)}"] if each else []


def _called(name: str) -> str:
    from echolung.evaluation.metrics import LABELS

    return LABELS[name] + (" %" if name in PER_CENT else "")


def _mean_sd(name: str, mean: float, sd: float) -> str:
    if sd != sd:
        return number(name, mean)
    # As many digits as the mean has: ± 1.855 beside 16.1 says nothing.
    return f"{number(name, mean)} ± {f'{sd:.1f}' if abs(mean) >= 10 and name not in PER_CENT else number(name, sd)}"


def _optimism(result: "Result") -> str:
    """Say what the best of all looks at the scored folds would have claimed."""
    table = result.looks
    assert table is not None
    metric = table["metric"].iloc[0]
    unit = " %" if metric in PER_CENT else ""
    best, honest = (number(metric, table[column].mean()) for column in ("best", "honest"))
    looks, name = f"{table['looks'].iloc[0]:,} looks a fold", SPOKEN.get(metric, _called(metric))
    instead = "as it is" if best == honest else f"not {honest}{unit}"
    return f"Chosen on the folds it is scored on ({looks}) it would be called {best}{unit} {name}, {instead}"


def number(metric: str, value: float) -> str:
    """Return a metric as tables show it: per cent, three decimals, or "—" where it is not defined."""
    if value != value:
        return "—"
    if metric in PER_CENT:
        return f"{100 * value:.1f}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _interval(metric: str, interval: tuple[float, float] | None) -> str:
    return "" if interval is None else " – ".join(number(metric, value) for value in interval)


def _short(name: str) -> str:
    return {"weight_decay": "wd", "label_smoothing": "smooth", "class_weights": "weights"}.get(name, name)
