"""`echolung explain`: where in its clips an encoder's answer comes from, as pictures and as a share inside the ventricle."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echolung.cli import options
from echolung.cli.probing.runs import check_place
from echolung.cli.terminal.console import out, print_json, say, steps
from echolung.errors import DecodeError, RunError
from echolung.provenance import write_origin
from echolung.text import counted

if TYPE_CHECKING:
    import pandas as pd

    from echolung.clips import ClipPlan
    from echolung.explaining.explainer import Explained
    from echolung.explaining.head import SavedHead

CLIPS, MAP = "What is cut out of every video (default: as the head was trained)", "What is shown"

SHARES = ("mass_inside", "area_inside", "ratio")


def explain(
    dataset: Annotated[str, typer.Option(help="A name from `echolung data list`, or a CSV.")],
    encoder: Annotated[str, typer.Option(help="A checkpoint by name or path, or any other encoder, as of extract.")],
    to: Annotated[Path, typer.Option("--out", help="Folder for the pictures and explain.csv.")],
    data: options.Data = None,
    head: Annotated[
        str | None, typer.Option(help="Folder with probe.safetensors, or a probe's run; default the checkpoint's own.")
    ] = None,
    videos: Annotated[str | None, typer.Option(help="Ids of videos, apart by commas.")] = None,
    count: Annotated[
        int, typer.Option(help="Otherwise so many, evenly over their labels, of the test part.", min=1)
    ] = 4,
    method: Annotated[
        str, typer.Option(help="grad-cam; attention or rollout of a transformer.", rich_help_panel=MAP)
    ] = "grad-cam",
    stage: Annotated[
        str, typer.Option(help='Of the encoder: last, "stage 3", "layer 2", "block 6", …', rich_help_panel=MAP)
    ] = "last",
    class_name: Annotated[
        str | None,
        typer.Option("--class", help="Explain this class; default the predicted one.", rich_help_panel=MAP),
    ] = None,
    lowers: Annotated[
        bool, typer.Option("--lowers", help="What lowers the answer, not what raises it.", rich_help_panel=MAP)
    ] = False,
    pictures: Annotated[bool, typer.Option(help="Draw; without, explain.csv alone.", rich_help_panel=MAP)] = True,
    frames: Annotated[int | None, typer.Option(help="Frames of the clip.", rich_help_panel=CLIPS)] = None,
    stride: Annotated[int | None, typer.Option(help="It takes every n-th source frame.", rich_help_panel=CLIPS)] = None,
    fps: Annotated[float | None, typer.Option(help="Or so many frames a second.", rich_help_panel=CLIPS)] = None,
    size: Annotated[int | None, typer.Option(help="Height and width, pixels.", rich_help_panel=CLIPS)] = None,
    square: Annotated[
        str | None, typer.Option(help="centre: its central 7/8; whole: all of it.", rich_help_panel=CLIPS)
    ] = None,
    pad: Annotated[
        str | None, typer.Option(help="Past the video's end: repeat, loop, black, grey.", rich_help_panel=CLIPS)
    ] = None,
    device: Annotated[str, typer.Option(help="auto (a GPU if there is one), cpu, cuda.")] = "auto",
    transducer: options.Transducer = None,
    view: options.View = None,
    fold: options.Fold = None,
    cycle: options.Cycle = None,
    kind: options.Kind = None,
    drop_unlabelled: options.DropUnlabelled = False,
    decoder: options.Decoder = "auto",
    as_json: options.Json = False,
) -> None:
    """Show where in its clips an encoder's answer comes from, and how much of that lies inside the traced ventricle."""
    from echolung.device import pick_device
    from echolung.encoders.encoder import load_model
    from echolung.explaining.explainer import Asked, Explainer
    from echolung.explaining.head import load_head, own_head
    from echolung.explaining.videos import named_rows, outlines_of, spread_rows

    asked = Asked(method, stage, class_name, lowers)
    check_place(to)
    manifest, _ = options.open_dataset(dataset, data, transducer, kind, drop_unlabelled, view, fold, cycle)
    place = own_head(encoder) if head is None else head
    trained = None if place is None else load_head(place)
    asked_clips = {"frames": frames, "stride": stride, "fps": fps, "size": size, "crop": square, "pad": pad}
    plan = _plan(trained, {name: value for name, value in asked_clips.items() if value is not None})
    model, loaded = load_model(encoder)
    say(loaded)
    explainer = Explainer(model, trained, plan, asked, pick_device(device))
    tracings, lacking = outlines_of(manifest)
    if lacking and manifest.name.startswith("echonet"):
        say(f"note: {lacking}")
    task = manifest.tasks.get(trained.task) if trained else next(iter(manifest.tasks.values()), None)
    rows = named_rows(manifest, videos.split(",")) if videos else spread_rows(manifest, count, tracings, task)
    lines = []
    # Drawn beside the folder and moved there at the end: after Ctrl-C it is as empty as the same command wants it.
    with (
        TemporaryDirectory(dir=to.absolute().parent, prefix=f".{to.name}-") as drawn,
        steps("explaining", "videos", len(rows)) as bar,
    ):
        for row, seen in zip(rows, explainer.explain(manifest, rows, tracings, task, decoder), strict=True):
            bar.advance()
            video = manifest.videos.iloc[row]
            if isinstance(seen, DecodeError):
                bar.log(f"{video['video_id']} cannot be read: {seen}")
                continue
            lines.append({**_line(seen), "patient": video["patient"] or video["video_id"]})
            if pictures:
                _draw(seen, Path(drawn))
        for file in Path(drawn).iterdir():
            file.replace(to / file.name)
    _hand_over(lines, to, as_json)
    settings = {
        "encoder": encoder,
        "head": place,
        "clips": plan.to_json(),
        "method": method,
        "stage": stage,
        "videos": len(rows),
    }
    write_origin(to / "run.json", settings, str(explainer.device))


def _plan(head: "SavedHead | None", given: dict[str, Any]) -> "ClipPlan":
    """Return the clip: what is given, then what the head was trained on, then the defaults of an extraction."""
    from echolung.clips.plan import ClipPlan

    own = dict(head.clips) if head else {}
    if "stride" in given and "fps" not in given:
        own.pop("fps", None)
    plan = ClipPlan.from_json({**own, **given, "segments": 1})
    rate = (
        f"{plan.fps:g} a second"
        if plan.fps
        else f"every {plan.stride}. of the video"
        if plan.stride > 1
        else "in a row"
    )
    why = "as the head was trained" if own else "the defaults of extract; the head does not say what it was trained on"
    note = "" if given and not own else f" ({why})" if not given else f" ({why}, but for what was given)"
    say(f"Clips: {plan.frames} frames, {rate}, {plan.size} × {plan.size} pixels{note}")
    return plan


def _line(seen: "Explained") -> dict[str, Any]:
    mass, area = seen.inside
    return {
        "video_id": seen.video_id, "prediction": seen.prediction, "truth": seen.truth, "explained": seen.explained,
        "method": seen.method, "stage": seen.stage, "traced_frames": len(seen.outlines), "mass_inside": mass,
        "area_inside": area, "ratio": mass / area if area else float("nan"),
    }  # fmt: skip


def _draw(seen: "Explained", folder: Path) -> None:
    from echolung.explaining.pictures import draw_animation, draw_strip

    name = seen.video_id.replace("/", "--")
    draw_strip(seen, folder / f"{name}.png")
    draw_animation(seen, folder / f"{name}.webp")


def _hand_over(lines: list[dict[str, Any]], folder: Path, as_json: bool) -> None:
    """Write and show the table, and the means over videos."""
    import pandas as pd

    if not lines:
        raise RunError("None of the videos could be read, so there is nothing to show.")
    table = pd.DataFrame(lines)
    table.to_csv(folder / "explain.csv", index=False, lineterminator="\n")
    means = _means(table)
    if as_json:
        rows = table.astype(object).where(table.notna(), None).to_dict("records")
        print_json({"out": str(folder), "videos": rows, "mean": means})
    else:
        _show(table, means)
    say(f"{counted(len(table), 'video')} in {folder}")


def _means(table: "pd.DataFrame") -> dict[str, dict[str, float]]:
    """Return the mean of each share and its 95 % interval by resampling patients."""
    import numpy as np

    from echolung.evaluation.bootstrap import percentiles, resample

    known = table[table["ratio"].notna()]
    if known.empty:
        return {}
    weights = resample(known["patient"].to_numpy(str))
    means = {}
    for name in SHARES:
        values = known[name].to_numpy(float)
        low, high = percentiles(weights @ values / weights.sum(1))
        means[name] = {"mean": float(np.mean(values)), "low": low, "high": high}
    return means


def _show(table: "pd.DataFrame", means: dict[str, dict[str, float]]) -> None:
    from rich.markup import escape
    from rich.table import Table

    console = out()
    grid = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("video", "truth", "prediction", "explained"):
        grid.add_column(name, justify="left" if name in ("video", "explained") else "right")
    for name in ("inside, % of the map", "of the frame", "ratio"):
        grid.add_column(name, justify="right")
    for row in table.to_dict("records"):
        words = (row["video_id"], _text(row["truth"]), _text(row["prediction"]), row["explained"])
        grid.add_row(*(escape(word) for word in words), *_numbers([row[name] for name in SHARES]))
    console.print(grid)
    if not means:
        console.print(
            "No traced frame is in these clips, so nothing is known of what lies inside the ventricle.", style="dim"
        )
        return
    mass, area, ratio = (means[name] for name in SHARES)
    videos = counted(int(table["ratio"].notna().sum()), "video")
    console.print(
        f"Mean of {videos}: {100 * mass['mean']:.1f} % of the map inside the ventricle (95 % {100 * mass['low']:.1f} to "
        f"{100 * mass['high']:.1f}, patients resampled), which is {100 * area['mean']:.1f} % of the frame: "
        f"{ratio['mean']:.2f} times as much ({ratio['low']:.2f} to {ratio['high']:.2f}).",
        highlight=False,
    )


def _numbers(shares: list[float]) -> list[str]:
    mass, area, ratio = shares
    if ratio != ratio:
        return ["—", "—", "—"]
    return [f"{100 * mass:.1f}", f"{100 * area:.1f}", f"{ratio:.2f}"]


def _text(value: Any) -> str:
    if value is None or value != value:
        return "—"
    return f"{value:.1f}" if isinstance(value, float) else str(value)
