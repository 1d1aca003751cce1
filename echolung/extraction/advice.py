"""What to do about an extraction that is too large for the disk, or too long for a CPU."""

from echolung.extraction.estimate import Estimate
from echolung.extraction.pace import LONG
from echolung.extraction.plan import ExtractionPlan
from echolung.text import about, in_bytes, listed


def advise(found: Estimate, plan: ExtractionPlan) -> list[str]:
    """Return sentences on what would not fit, or take hours, and on the options that would change that."""
    notes = []
    if not found.remaining:
        notes.append("Every clip is in the store already: there is nothing to do.")
    if not found.fits and found.free is not None:
        fewer = _smaller(found, plan)
        keep = f", or keep less: {listed(fewer)}" if fewer else ""
        notes.append(
            f"{in_bytes(found.to_write)} are to be written and {in_bytes(found.free)} are free, so the extraction would be "
            f"refused. Free some space, name another place with --store{keep}."
        )
    if found.seconds is not None and found.seconds > LONG and found.device == "cpu":
        notes.append(
            f"{about(found.seconds).capitalize()} is long for a CPU. A GPU takes minutes where a CPU takes hours. Without one: "
            f"{listed(_faster(plan))}. It can be stopped at any time; the same command goes on where it stopped."
        )
    return notes


def _smaller(found: Estimate, plan: ExtractionPlan) -> list[str]:
    """Return the options that keep fewer tokens, with about what they would take."""
    _, h, w = found.grid
    tokens = found.clips * found.tokens * found.dim * 2
    options = []
    if tokens and h % 2 == w % 2 == 0:
        options.append(f"--token-pool {2 * plan.pool} (about {in_bytes(found.bytes - 0.75 * tokens)})")
    if tokens:
        options.append(f"--tokens none (about {in_bytes(found.bytes - tokens)}; for all but the attentive probes)")
    return options


def _faster(plan: ExtractionPlan) -> list[str]:
    """Return what makes a smaller job of it."""
    clips = plan.clips
    options = ["a smaller encoder (a ViT-S is about 14 times faster than a ViT-L)"]
    if clips.size > 112:
        options.append(f"--size 112 ({round((clips.size / 112) ** 2)} times fewer tokens, or better)")
    if clips.views:
        options.append("no --views")
    if clips.segments > 1:
        options.append(f"--segments 1 ({clips.segments} times fewer clips)")
    return options
