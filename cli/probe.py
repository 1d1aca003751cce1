"""`echolung probe`: token store × task -> a cross-validated result."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echolung.cli import options
from echolung.cli.console import out, print_json, say

if TYPE_CHECKING:
    from echolung.cache import TokenStore
    from echolung.evaluation import Result
    from echolung.evaluation.summary import Summary

PER_CENT = ("accuracy", "balanced_accuracy")


def probe(
    dataset: Annotated[str | None, typer.Option(help="Take the store of this dataset.")] = None,
    encoder: Annotated[str | None, typer.Option(help="Take the store of this encoder.")] = None,
    store: Annotated[Path | None, typer.Option(help="The store; default the only one that fits.")] = None,
    task: Annotated[str | None, typer.Option(help="What to ask; default the dataset's first task.")] = None,
    probe: Annotated[str, typer.Option(help="linear, logistic, knn or attentive.")] = "linear",
    cv: Annotated[int, typer.Option(help="Number of folds.")] = 5,
    protocol: Annotated[str, typer.Option(help="nested (honest), or seed (as published, optimistic).")] = "nested",
    split: Annotated[str | None, typer.Option(help="Instead of folds: 60/20/20, or official.")] = None,
    group: Annotated[str | None, typer.Option(help="What folds keep together: patient, source or video.")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="A CSV with video_id and label columns to add or replace.")
    ] = None,
    kind: options.Kind = None,
    epochs: Annotated[int | None, typer.Option(help="Length of training; default 50.", min=1)] = None,
    batch: Annotated[int, typer.Option(help="Videos a step.", min=1)] = 16,
    seed: Annotated[int, typer.Option(help="Of folds, initial weights and batches.", min=0)] = 0,
    device: Annotated[str, typer.Option(help="auto (a GPU where there is one), cpu, cuda.")] = "auto",
    to: Annotated[
        Path | None, typer.Option("--out", help="Run folder; default a new one under ECHOLUNG_HOME/runs.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Train and evaluate a probe on a token store, and save the predictions, the probe and how they came about."""
    opened = options.pick_store(store, dataset, encoder)
    run_probe(
        opened,
        task=task,
        probe=probe,
        cv=cv,
        protocol=protocol,
        split=split,
        group=group,
        labels=labels,
        kinds=kind,
        epochs=epochs,
        batch=batch,
        seed=seed,
        device=device,
        to=to,
        as_json=as_json,
    )


def run_probe(
    store: "TokenStore",
    *,
    labels: Path | None = None,
    kinds: list[str] | None = None,
    device: str = "auto",
    to: Path | None = None,
    as_json: bool = False,
    **arguments: Any,
) -> Path:
    """Cross-validate, save, show; return the run's folder."""
    from echolung.device import pick_device
    from echolung.evaluation import cross_validate
    from echolung.evaluation.summary import summarise
    from echolung.report.record import save_run

    began = time.perf_counter()
    manifest = options.labelled_manifest(store, labels, kinds) if labels else None
    if arguments.get("task") is None:
        first = next(iter(manifest.tasks if manifest else store.snapshot.tasks), None)
        say(f"Task: {first} (the first)")
    arguments |= {"manifest": manifest, "device": str(pick_device(device)), "tell": say}
    result = cross_validate(store, **arguments)
    summary = summarise(result)
    twin = options.find_twin(store)
    twin_summary = summarise(cross_validate(twin, **arguments)) if twin else None
    seconds = time.perf_counter() - began
    folder = save_run(result, summary, store, seconds, to, twin_summary)
    if as_json:
        print_json(
            {"run": str(folder), "settings": result.settings, "metrics": summary.to_json(), "notes": list(result.notes)}
        )
    else:
        show(result, summary, store, seconds, twin_summary)
        say(f"Saved in {folder}")
    return folder


def show(
    result: "Result", summary: "Summary", store: "TokenStore", seconds: float, twin: "Summary | None" = None
) -> None:
    """Print the table of folds and what belongs beside every number."""
    from rich.markup import escape

    settings = result.settings
    console = out()
    optimistic = " [bold red](optimistic)[/]" if settings["protocol"] == "seed" else ""
    console.print(
        f"\n[bold]{settings['dataset']} · {settings['task']}[/] · {settings['probe']} probe on "
        f"{escape(str(store.group.attrs.get('encoder')))} · protocol {settings['protocol']}{optimistic}"
    )
    console.print(_fold_table(result, summary, twin))
    for line in _beside(result, summary, seconds):
        console.print(line)
    for note in result.notes:
        console.print(f"[yellow]note[/] {escape(note)}")


def _fold_table(result: "Result", summary: "Summary", twin: "Summary | None") -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from echolung.evaluation.metrics import LABELS

    names = _shown(result)
    keys = [key for key in result.chosen[0] if key != "epoch" or result.settings["epochs"] > 1]
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("\nfold")
    for part in ("train", "test"):
        table.add_column(f"{part}\npat./vid.", justify="right", no_wrap=True)
    table.add_column("chosen\n" + " · ".join(_short(key) for key in keys), no_wrap=True)
    for name in names:
        table.add_column(f"\n{LABELS[name]}{' %' if name in PER_CENT else ''}", justify="right", no_wrap=True)
    rows = zip(result.folds.iterrows(), result.chosen, summary.folds.iterrows(), strict=True)
    for (_, row), chosen, (_, values) in rows:
        sizes = [f"{row[f'patients_{part}']}/{row[f'videos_{part}']}" for part in ("train", "test")]
        setting = " · ".join(f"{chosen[key]:g}" for key in keys)
        table.add_row(str(row["fold"] + 1), *sizes, setting, *(_number(name, values[name]) for name in names))
    table.add_section()
    if len(result.folds) > 1:
        table.add_row("mean ± sd", "", "", "", *_spread(summary, names), style="bold")
    low_high = [_interval(name, summary.interval.get(name)) for name in names]
    table.add_row("95 % interval", "", "", "pooled, by patient", *low_high)
    if twin is not None:
        table.add_row("random-init twin", "", "", "same model, untrained", *_spread(twin, names), style="dim")
    guess = "majority class" if result.task.classes else "mean"
    table.add_row(guess, "", "", "guessing", *(_number(name, summary.guess[name]) for name in names), style="dim")
    return table


def _spread(summary: "Summary", names: list[str]) -> list[str]:
    return [f"{_number(n, summary.mean[n])} ± {_number(n, summary.sd[n])}" for n in names]


def _shown(result: "Result") -> list[str]:
    if result.task.kind == "regression":
        return ["mae", "rmse", "r2"]
    return ["accuracy", "balanced_accuracy", "auroc", *(["qwk", "score_mae"] if result.task.ordinal else [])]


def _beside(result: "Result", summary: "Summary", seconds: float) -> list[str]:
    settings, folds = result.settings, result.folds
    shared = {unit: int(folds[f"{unit}s_shared"].sum()) for unit in ("patient", "group")}
    lines = []
    if summary.patients_per_class:
        counts = ", ".join(f"{name} {count}" for name, count in summary.patients_per_class.items())
        lines.append(f"Patients per class: {counts}")
    colour = "green" if shared["patient"] == 0 else "red"
    shares = f"[{colour}]{shared['patient']} patients shared[/] between train and test"
    if settings["group"] != "patient":
        colour = "green" if shared["group"] == 0 else "red"
        shares += f", [{colour}]{shared['group']} {settings['group']}s shared[/]"
    lines.append(shares)
    if summary.patient:
        names = [n for n in _shown(result) if n in summary.patient]
        values = ", ".join(
            f"{n.replace('_', ' ')} {_number(n, summary.patient[n])}{' %' if n in PER_CENT else ''}" for n in names
        )
        mixed = f" ({summary.mixed_patients} with videos of several classes left out)" if summary.mixed_patients else ""
        lines.append(f"One prediction a patient: {values}{mixed}")
    lines.append(f"{len(result.predictions)} videos scored once each · {seconds:.1f} s")
    return lines


def _number(metric: str, value: float) -> str:
    if value != value:
        return "—"
    if metric in PER_CENT:
        return f"{100 * value:.1f}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _interval(metric: str, interval: tuple[float, float] | None) -> str:
    return "" if interval is None else " – ".join(_number(metric, value) for value in interval)


def _short(name: str) -> str:
    return {"weight_decay": "wd"}.get(name, name)
