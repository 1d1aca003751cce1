"""`echolung doctor`: whether everything is here that echolung needs."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echolung.cli import options
from echolung.cli.terminal.console import err, moving, out, print_json
from echolung.cli.terminal.hanging import print_hanging
from echolung.errors import InputError

if TYPE_CHECKING:
    from echolung.doctor.finding import Finding

COLOURS = {"pass": "green", "warn": "yellow", "fail": "bold red"}


def doctor(
    dataset: Annotated[str | None, typer.Option(help="Also: would an extraction of this dataset fit here?")] = None,
    encoder: Annotated[str | None, typer.Option(help="With --dataset: the encoder; default the newest.")] = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Check Python, device, decoders, disk, threads, stores and runs; exit code 1 where something fails."""
    if dataset is None and (encoder or data):
        raise InputError("--encoder and --data are about an extraction: name its --dataset, too.")
    found = _looked_at()
    chosen: dict[str, Any] = {}
    if dataset is not None:
        chosen, found["extraction"] = check_extraction(dataset, encoder, data)
    counts = {level: sum(f.level == level for group in found.values() for f in group) for level in COLOURS}
    if as_json:
        groups = {group: [asdict(finding) for finding in findings] for group, findings in found.items()}
        print_json({**counts, "groups": groups, **({"estimate": chosen} if chosen else {})})
    else:
        _show(found, counts)
    if counts["fail"]:
        raise typer.Exit(1)


def _looked_at() -> "dict[str, list[Finding]]":
    """Return what was found, saying on a terminal what is being looked at: a few seconds of silence are long."""
    from echolung.doctor.examine import examine

    if not moving():
        return examine()
    with err().status("") as status:
        return examine(lambda group: status.update(f"looking at: {group}"))


def check_extraction(dataset: str, encoder: str | None, data: Any) -> "tuple[dict[str, Any], list[Finding]]":
    """Return what an extraction with default options would come to, and whether it fits here."""
    from echolung.clips.plan import ClipPlan
    from echolung.doctor.finding import Finding
    from echolung.encoders.digests import unremembered
    from echolung.encoders.identity import default_encoder
    from echolung.encoders.stand_in import identify_or_stand_in
    from echolung.errors import EcholungError
    from echolung.extraction import make_plan
    from echolung.extraction.advice import advise
    from echolung.extraction.estimate import estimate
    from echolung.text import about, in_bytes

    name = f"{dataset} by {encoder or 'the newest encoder'}"
    try:
        manifest, own = options.open_dataset(dataset, data, None, None, False)
        if (chosen := encoder or default_encoder()) is None:
            raise InputError("No --encoder was named and no checkpoint is under ECHOLUNG_HOME/checkpoints.")
        with unremembered():
            identity, absent = identify_or_stand_in(chosen)
        plan = make_plan(manifest, identity, ClipPlan(), options=own)
        found = estimate(plan)
    except EcholungError as error:
        return {}, [Finding(name, "fail", str(error), "Put that right, and ask again.")]
    time = f", {about(found.seconds)} on {found.device}" if found.seconds is not None else ""
    what = f"{found.clips:,} clips, {in_bytes(found.bytes)}{time}; {found.remaining:,} clips remain"
    notes = [*([absent] if absent else []), *(advise(found, plan) if found.remaining else [])]
    level: Any = "fail" if not found.fits else "warn" if notes else "pass"
    return {**asdict(found), "tokens": found.tokens}, [Finding(name, level, what, " ".join(notes))]


def _show(found: "dict[str, list[Finding]]", counts: dict[str, int]) -> None:
    from rich.markup import escape

    console, wide = out(), max(map(len, found))
    for group, findings in found.items():
        for row, (level, name, what, fix) in enumerate(merged(findings)):
            text = f"[bold]{escape(name)}[/]: {escape(what)}"
            beside = f"[bold]{'' if row else group:{wide}}[/] [{COLOURS[level]}]{level}[/] "
            print_hanging(console, beside, text)
            if fix:
                print_hanging(console, f"{'':{wide}} [dim]fix[/]  ", escape(fix))
    words = [f"[{COLOURS[level]}]{count} {level}[/]" for level, count in counts.items() if count]
    verdict = "Something has to be put right first." if counts["fail"] else "echolung can work here."
    console.print(f"{', '.join(words)}. {verdict}", highlight=False)


def merged(findings: "list[Finding]") -> Iterator[tuple[str, str, str, str]]:
    """Yield (level, names, what, fix): findings that say the same in one, so that all fit a screen."""
    names: dict[tuple[str, str, str], list[str]] = {}
    for finding in findings:
        names.setdefault((finding.level, finding.what, finding.fix), []).append(finding.name)
    for (level, what, fix), alike in names.items():
        yield level, ", ".join(alike), what, fix
