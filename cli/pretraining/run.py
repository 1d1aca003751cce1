"""One pretraining run: computing it, and what it leaves."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from echolung.cli.pretraining.material import open_material
from echolung.cli.pretraining.next import what_next
from echolung.cli.pretraining.runs import ASKED, Asked, checkpoint_of, is_first
from echolung.cli.terminal.console import out, print_json
from echolung.provenance import write_origin
from echolung.text import counted, listed, quoted

if TYPE_CHECKING:
    from echolung.cli.terminal.live import Live
    from echolung.pretraining.loop import Outcome
    from echolung.pretraining.recipe import AnyRecipe

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Run:
    """A run about to start or go on.

    Attributes:
        folder: its own.
        recipe: what to do.
        asked: what it learns from and is judged on.
        device: where to compute.
        begun: it goes on.
    """

    folder: Path
    recipe: "AnyRecipe"
    asked: Asked
    device: str
    begun: bool

    def go(self, reading: dict[str, Any], tell: Tell) -> "Outcome":
        """Compute until the last step, or until it is told to stop."""
        from echolung.cli.terminal.live import Live
        from echolung.device import pick_device
        from echolung.pretraining.loop import pretrain as train

        device = pick_device(self.device)
        opened = open_material(self.recipe, self.asked, device, reading, tell)
        tell(f"{'Goes on with' if self.begun else 'Run'}: {self.folder}")
        with Live(self.folder.name, lambda: len(self._unreadable()), self._losses(), silent=not is_first()) as live:
            pack = Path(self.asked.pack) if self.asked.pack else None
            return train(
                self.recipe, opened.pool, self.folder, labels=opened.labels, pack=pack, device=device, resume=self.begun,
                judge=opened.judge, on_step=lambda record: self._note(live, record), tell=live.tell, **reading,
            )  # fmt: skip

    def _note(self, live: "Live", record: Any) -> None:
        from echolung.device import pick_device

        if not (self.folder / ASKED).exists():
            (self.folder / ASKED).write_text(json.dumps(asdict(self.asked), indent=1) + "\n", "utf-8")
            settings = {**self.recipe.flat(), **asdict(self.asked)}
            write_origin(self.folder / "run.json", settings, str(pick_device(self.device)))
        live.on_step(record)

    def _unreadable(self) -> dict[str, str]:
        """Return the videos that some process could not read so far, and why; each process lists its own."""
        found: dict[str, str] = {}
        for file in sorted(self.folder.glob("broken*.json")):
            try:
                found |= json.loads(file.read_text("utf-8"))
            except ValueError:  # being written
                continue
        return dict(sorted(found.items()))

    def _losses(self) -> list[float]:
        from echolung.pretraining.log import FILE, read_lines

        return [float(line["loss"]) for line in read_lines(self.folder / FILE)] if self.begun else []

    # ---- its end -------------------------------------------------------------------------------------------------------

    def finish(self, outcome: "Outcome", as_json: bool) -> None:
        """Copy the checkpoint to where `extract` looks, draw the curves, say what comes next."""
        from echolung.report.pretraining import draw_log, read_log, summarise_log

        log = read_log(self.folder / "log.jsonl")
        summary, curves = summarise_log(log), self.folder / "loss.png"
        draw_log(log, f"{self.folder.name} · {self.recipe.network}", curves)
        checkpoint = self._keep(outcome) if outcome.finished else None
        broken = self._unreadable() | outcome.broken
        if broken:
            (self.folder / "broken.json").write_text(json.dumps(broken, indent=1), "utf-8")
        if as_json:
            print_json(
                {"run": str(self.folder), "finished": outcome.finished, "step": outcome.step,
                 "checkpoint": str(checkpoint) if checkpoint else None, "curves": str(curves), **summary,
                 "broken": broken, "recipe": self.recipe.flat()}
            )  # fmt: skip
            return
        for line in self._told(outcome, summary, broken, checkpoint):
            out().print(line, highlight=False, soft_wrap=True)

    def _keep(self, outcome: "Outcome") -> Path:
        """Copy the checkpoint, and the head that was trained with it; whole or not at all."""
        from echolung.settings import make_folder

        path, head = checkpoint_of(self.folder), outcome.checkpoint.with_suffix(".head")
        make_folder(path.parent)
        if head.is_dir():
            _copy(head, path.with_suffix(".head"))
        _copy(outcome.checkpoint, path)
        return path

    @property
    def _known_as(self) -> str:
        """What --resume takes: its name, or of a folder elsewhere the path, quoted."""
        from echolung.settings import home

        beside = self.folder.absolute().parent == (home() / "pretraining").absolute()
        return self.folder.name if beside else quoted(self.folder.absolute())

    def _told(
        self, outcome: "Outcome", summary: dict[str, Any], broken: dict[str, str], checkpoint: Path | None
    ) -> list[str]:
        from rich.markup import escape

        name = escape(self.folder.name)
        lines = [
            f"[bold]{name}[/]: step {outcome.step:,} of {outcome.steps:,}, loss {summary['loss_first']:.4f} at first, "
            f"{summary['loss_last']:.4f} at last; curves: {escape(str(self.folder / 'loss.png'))}"
        ]
        if broken:
            lines.append(f"[red]{counted(len(broken), 'video')} could not be read[/]: {escape(listed(broken, 5))}")
        if checkpoint is None:
            return [*lines, f"Stopped, and saved. To go on: echolung pretrain --resume {escape(self._known_as)}"]
        if outcome.checkpoint.name.startswith("best"):
            best = json.loads((self.folder / "best.json").read_text("utf-8"))
            when = f"that of step {best['step']:,}" if best["step"] else "the one it started from: no look was better"
            lines.append(f"Kept is the encoder with the best {_best(best)}, {when}.")
        lines.append(f"Checkpoint: {escape(str(checkpoint))}")
        return [*lines, *what_next(self.recipe, self.asked, name)]


def _best(scores: dict[str, Any]) -> str:
    """Return the score that the best checkpoint was chosen by, in words."""
    return f"validation MAE, {scores['mae']:.3f}" if "mae" in scores else f"score of the probe, {scores['score']:.3f}"


def _copy(source: Path, to: Path) -> None:
    """Copy a file or folder, whole or not at all; what is there is replaced."""
    partial = to.with_name(f".{to.name}.partial")
    if source.is_dir():
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(source, partial)
        shutil.rmtree(to, ignore_errors=True)
    else:
        shutil.copyfile(source, partial)
    partial.replace(to)
