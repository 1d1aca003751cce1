"""`echolung data index`: a folder of one's own videos -> a CSV to fill in."""

from pathlib import Path
from typing import Annotated

import typer

from echolung.cli import options
from echolung.cli.terminal.console import out as console
from echolung.cli.terminal.console import print_json, say, steps
from echolung.errors import InputError
from echolung.text import counted, quoted


def index(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the videos are, however deep.")],
    out: Annotated[Path, typer.Option("--out", metavar="CSV", help="The table to write.")] = Path("videos.csv"),
    patient_from: Annotated[
        str,
        typer.Option(help="dicom: a pseudonym of the PatientID; folder: the name of the folder under FOLDER."),
    ] = "dicom",
    as_json: options.Json = False,
) -> None:
    """Find every video, DICOM file and folder of frames under FOLDER, and write a CSV to fill in."""
    from rich.markup import escape

    from echolung.datasets import index as indexing
    from echolung.settings import make_folder

    if out.suffix.lower() != ".csv":
        raise InputError(f"--out {out} must end in .csv.")
    if out.exists():
        raise InputError(
            f"There is something at {out} already, which somebody may have filled in. Remove it, or name another file with --out."
        )
    with steps("looking", "files") as bar:
        found = indexing.index(folder, out, patient_from, bar.advance)
    make_folder(out.absolute().parent)
    indexing.write(found, out)
    patients = {row["patient"] for row in found.rows} - {""}
    unknown = sum(not row["patient"] for row in found.rows)
    if as_json:
        facts = {"table": str(out), "videos": len(found.rows), "patients": len(patients), "without_patient": unknown}
        print_json({**facts, "passed_over": found.passed})
        return
    console().print(
        f"{escape(str(out))}: {counted(len(found.rows), 'video')}, {counted(len(patients), 'patient')}"
        + (f", {unknown:,} without one" if unknown else ""),
        soft_wrap=True,
    )
    if passed := indexing.passed_over(found):
        say(passed)
    say(
        "Next: fill in the column label (rename it to what it says, add more, such as ef)"
        + (", and patient, so that no person is in training and test at once" if unknown else "")
        + f". Then: echolung data check {quoted(out)}, and: echolung extract --dataset {quoted(out)} "
        "--encoder random:vit_small."
    )
