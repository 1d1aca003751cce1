"""`echolung predict`: a saved probe on new videos."""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echolung.cli import options
from echolung.cli.report import find_run
from echolung.cli.terminal.console import out, print_json, say
from echolung.errors import InputError
from echolung.provenance import write_origin
from echolung.text import counted

if TYPE_CHECKING:
    import pandas as pd

    from echolung.cache import TokenStore
    from echolung.probes import Probe

NO_DEVICE = "Not a medical device: what is predicted here is for research, not for the care of anybody."


def predict(
    probe: Annotated[Path, typer.Argument(metavar="PROBE", help="A run folder or its name, or a probe.safetensors.")],
    videos: Annotated[
        list[Path], typer.Argument(metavar="VIDEO_OR_FOLDER", help="Videos, folders of them, or token stores.")
    ],
    encoder: Annotated[
        str | None, typer.Option(help="Where the encoder's weights are now, if not where its name says.")
    ] = None,
    to: Annotated[Path | None, typer.Option("--out", help="Write a table, .csv or .json.")] = None,
    device: Annotated[str, typer.Option(help="auto (a GPU where there is one), cpu, cuda.")] = "auto",
    decoder: Annotated[str | None, typer.Option(help="auto, av or decord; default as at training.")] = None,
    workers: options.Workers = None,
    time_limit: options.TimeLimit = 120.0,
    as_json: options.Json = False,
) -> None:
    """Predict new videos by a saved probe, on clips cut and encoded as those that it was fitted on."""
    from echolung.cache import TokenStore
    from echolung.settings import make_folder

    if to is not None:
        if to.suffix.lower() not in (".csv", ".json"):
            raise InputError(f"--out {to} must end in .csv or .json.")
        make_folder(to.absolute().parent)
    fitted = _load(find_run(probe))
    say(NO_DEVICE)
    stores = [path for path in videos if (path / "zarr.json").is_file()]
    notes: list[str] = []
    tables = [_predict(fitted, TokenStore.open(path), notes) for path in stores]
    if new := [path for path in videos if path not in stores]:
        with tempfile.TemporaryDirectory(prefix="echolung-") as folder:
            how = {"device": device, "workers": workers, "time_limit": time_limit}
            store = _extract(fitted, new, Path(folder) / "new.zarr", encoder, decoder, how)
            tables.append(_predict(fitted, store, notes))
    _hand_over(fitted, tables, notes, to, as_json)
    if to is not None:
        settings = {
            "probe": str(probe),
            "device": device,
            "decoder": decoder,
            "encoder": encoder,
            "about": fitted.about,
        }
        write_origin(to.with_name(f"{to.name}.run.json"), settings)


def _load(path: Path) -> "Probe":
    """Return the probe; InputError where its run is of a newer version, or the file is not what that run wrote."""
    from echolung.probes import load_probe
    from echolung.report.run import check_files, read_record

    folder = path if path.is_dir() else path.parent
    if (folder / "record.json").is_file():
        files = read_record(folder).get("files", {})
        check_files(folder, {"files": {name: digest for name, digest in files.items() if name == "probe.safetensors"}})
    return load_probe(path)


def _extract(
    probe: "Probe", videos: list[Path], path: Path, encoder: str | None, decoder: str | None, how: dict[str, Any]
) -> "TokenStore":
    """Return a store of new videos; InputError, before anything is computed, where it would not be like the probe's."""
    from echolung.cli.extract import run_extraction
    from echolung.extraction.predicting import find_videos, plan_like
    from echolung.probes import PROBES
    from echolung.probes.predictions import check_key, needed_key

    key, name = needed_key(probe), str(probe.about.get("encoder"))
    pooled = PROBES[probe.kind].pooled
    plan = plan_like(key, name, find_videos(videos), path, weights=encoder, decoder=decoder, pooled=pooled)
    check_key(probe, plan.key, f"The encoder {plan.identity.name}" if encoder else "What would be extracted here")
    say(f"{counted(len(plan.manifest.videos), 'video')} under {plan.manifest.root}, by {plan.identity.name}")
    return run_extraction(plan, preview=False, **how)


def _predict(probe: "Probe", store: "TokenStore", notes: list[str]) -> "pd.DataFrame":
    from echolung.probes.predictions import check_key, predict_store

    for line in check_key(probe, store.key, store.path.name):
        if (note := f"Not quite as at training, {line}: numbers may differ a little.") not in notes:
            say(f"note: {note}")
            notes.append(note)
    return predict_store(probe, store)


def _hand_over(probe: "Probe", tables: "list[pd.DataFrame]", notes: list[str], to: Path | None, as_json: bool) -> None:
    """Write and show the predictions."""
    import pandas as pd

    table = pd.concat(tables, ignore_index=True)
    if as_json:
        print_json(_document(probe, table, notes))
    else:
        _show(probe, table)
    if to is None:
        return
    if to.suffix.lower() == ".json":
        text = json.dumps(_document(probe, table, notes), indent=2, ensure_ascii=False, allow_nan=False)
        to.write_text(text + "\n", "utf-8")
    else:
        table.to_csv(to, index=False, lineterminator="\n")
    say(f"Saved in {to}")


def _document(probe: "Probe", table: "pd.DataFrame", notes: list[str]) -> dict[str, Any]:
    """Return what programs get; a number that is not there is null."""
    videos = []
    numbers = table.copy()
    for name in table.select_dtypes("float32"):
        numbers[name] = table[name].astype(str).astype(float)  # in the short form that the CSV has
    for row in _records(numbers.astype(object).where(table.notna(), None)):
        by_class = {
            name: {c: row.pop(f"{prefix}_{c}") for c in probe.classes}
            for name, prefix in (("probabilities", "p"), ("calibrated", "calibrated"))
            if probe.classes and f"{prefix}_{probe.classes[0]}" in row
        }
        file, answer = row.pop("file"), row.pop("prediction")
        videos.append({"file": file, "prediction": None if row["error"] else answer, **by_class, **row})
    about = {name: probe.about.get(name) for name in ("dataset", "task", "encoder", "temperature")}
    return {
        "probe": probe.kind,
        **about,
        "classes": list(probe.classes),
        "notes": [NO_DEVICE, *notes],
        "videos": videos,
    }


def _show(probe: "Probe", table: "pd.DataFrame") -> None:
    from rich.markup import escape
    from rich.table import Table

    console, about = out(), probe.about
    asked = f"{about.get('dataset')} · {about.get('task')}"
    console.print(f"\n[bold]{escape(asked)}[/] · {probe.kind} probe on {escape(str(about.get('encoder')))}")
    # With a temperature the calibrated probabilities are those to look at; the file has both.
    prefix = "calibrated" if probe.classes and f"calibrated_{probe.classes[0]}" in table else "p"
    grid = Table(box=None, header_style="bold", pad_edge=False)
    grid.add_column("file", overflow="fold")
    for name in probe.classes:
        grid.add_column(escape(name), justify="right")
    grid.add_column("prediction", justify="left" if probe.classes else "right")
    grid.add_column("novelty", justify="right")
    grid.add_column("")
    for row in _records(table):
        grid.add_row(*(escape(text) for text in _line(probe, row, prefix)), style=_style(row))
    console.print(grid)
    kind = "Calibrated probabilities" if prefix == "calibrated" else "Probabilities as the probe gives them"
    if probe.classes:
        console.print(f"{kind}, in %.", style="dim")
    if probe.reference is not None:
        console.print(
            f"Novelty: the share of the {len(probe.reference.distances)} training videos that lie nearer to the others than this "
            "one does; unusual beyond 95 %, far beyond 99 %.",
            style="dim",
        )


def _records(table: "pd.DataFrame") -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _line(probe: "Probe", row: dict[str, Any], prefix: str) -> list[str]:
    """Return the cells of a video."""
    if row["error"]:
        return [row["file"], *([""] * len(probe.classes)), "—", "", row["error"]]
    shares = [f"{100 * row[f'{prefix}_{name}']:.1f}" for name in probe.classes]
    answer = row["prediction"] if probe.classes else f"{row['prediction']:.4g}"
    novelty = f"{row['novelty_percentile']:.0f} %" if "novelty" in row else "—"
    return [row["file"], *shares, answer, novelty, row.get("warning", "")]


def _style(row: dict[str, Any]) -> str:
    return "red" if row["error"] else {"far": "red", "unusual": "yellow"}.get(row.get("warning", ""), "")
