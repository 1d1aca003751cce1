"""Run folders -> the arms of a comparison: which runs are seeds of one encoder, and what may differ between arms."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from echolung.errors import InputError
from echolung.evaluation import Result
from echolung.evaluation.pairing import Arm
from echolung.report.run import Run

IGNORED = ("device", "threads", "views", "inner_folds", "study")
"""Settings that change no number, follow from others, or are facts of the window already."""

SEED = re.compile(r"^(random:.+)@(\d+)$")


@dataclass(frozen=True)
class _Side:
    """One run before it is put into an arm."""

    name: str
    encoder: str
    result: Result
    facts: dict[str, str]

    @property
    def model(self) -> str:
        """The encoder without its seed."""
        return SEED.sub(r"\1", self.encoder)


def arms_of(runs: Sequence[Run]) -> tuple[list[Arm], list[str]]:
    """Return the arms, in the order in which they are named, and what to say of how they were made.

    Runs whose encoder differs only in the seed of its random weights are one arm. Where all are, each is one of its own. A
    single run is compared with its random twins.

    Raises:
        InputError: a single run that has no twins.
    """
    sides, notes = [_side(run) for run in runs], []
    if len(runs) == 1:
        if not runs[0].twins:
            raise InputError(
                f"{runs[0].folder} is one run, and was made without random twins: name another to compare it with."
            )
        sides += [_twin(sides[0], twin.encoder, twin.result) for twin in runs[0].twins]
        notes.append(f"{runs[0].folder.name} is compared with the random twins that were run with it.")
    alike: dict[tuple[Any, ...], list[_Side]] = {}
    for side in sides:
        rest = {fact: text for fact, text in side.facts.items() if fact not in ("encoder", "weights")}
        alike.setdefault((side.model, tuple(rest.items())), []).append(side)
    groups = list(alike.values())
    if len(groups) == 1 and not _repeated(sides):
        groups = [[side] for side in sides]
        notes.append("These runs differ only in the seed of their encoder's random weights: each is an arm of its own.")
    return _named([_arm(group) for group in groups]), notes


def _side(run: Run) -> _Side:
    encoder = str(run.record["encoder"])
    return _Side(run.folder.resolve().name, encoder, run.result, {"encoder": encoder, **_facts(run.record)})


def _twin(side: _Side, encoder: str, result: Result) -> _Side:
    facts = {**side.facts, "encoder": encoder, "weights": "random"}
    return _Side(f"{side.name} (twin {encoder})", encoder, result, facts)


def _repeated(sides: Sequence[_Side]) -> bool:
    return len({side.encoder for side in sides}) < len(sides)


def _arm(sides: Sequence[_Side]) -> Arm:
    seeds = [SEED.match(side.encoder) for side in sides]
    name = sides[0].encoder
    if len(sides) > 1 and all(seeds):
        name = f"{sides[0].model}@{','.join(match[2] for match in seeds if match)}"
    facts = {**sides[0].facts, "encoder": name}
    seeded = seeds[0] is not None
    return Arm(name, tuple(side.result for side in sides), facts, tuple(side.name for side in sides), seeded)


def _named(arms: list[Arm]) -> list[Arm]:
    """Give arms of the same encoder names that tell them apart: by the probe, else by the folder."""
    if len({arm.facts["encoder"] for arm in arms}) == len(arms):
        # Whose weights they are is said by the encoders' names.
        return [replace(arm, facts={k: v for k, v in arm.facts.items() if k != "weights"}) for arm in arms]
    by_probe = [f"{arm.name} · {arm.facts['probe']}" for arm in arms]
    names = by_probe if len(set(by_probe)) == len(arms) else [f"{arm.name} ({arm.runs[0]})" for arm in arms]
    return [replace(arm, name=name) for arm, name in zip(arms, names, strict=True)]


def _facts(record: dict[str, Any]) -> dict[str, str]:
    """Return what may differ between two arms beside the encoder: its weights, the window, the protocol, the probe."""
    key = record["store"]["key"]
    encoder = key.get("encoder", {})
    weights = "random" if encoder.get("kind") == "random" else str(encoder.get("weights", ""))[:19]
    window = _flat({name: value for name, value in key.items() if name not in ("dataset", "encoder")})
    settings = {name: value for name, value in record["settings"].items() if name not in IGNORED}
    if "test" in settings:  # which store it is follows from the encoder, and seeds of one encoder are one arm
        settings["test"] = {k: v for k, v in settings["test"].items() if k not in ("store", "key_digest")}
    grid = settings.pop("grid", [])
    chosen = {name: _text(list(dict.fromkeys(setting[name] for setting in grid))) for name in (grid[0] if grid else ())}
    how = {{"precision": "probe precision"}.get(name, name): value for name, value in settings.items()}
    return {"weights": weights, **window, **_flat(how), **{f"choice of {name}": text for name, text in chosen.items()}}


def _flat(fields: dict[str, Any], before: str = "") -> dict[str, str]:
    """Return nested values as texts: {"clips": {"frames": 16}} is {"clips frames": "16"}."""
    flat = {}
    for name, value in fields.items():
        label = f"{before} {name}".strip()
        flat.update(_flat(value, label) if isinstance(value, dict) else {label: _text(value)})
    return flat


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value)) or "—"
    return "—" if value is None else str(value)
