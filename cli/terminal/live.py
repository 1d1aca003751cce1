"""What a pretraining run looks like while it runs: a panel on a terminal, a line now and then elsewhere."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from itertools import pairwise
from types import TracebackType
from typing import TYPE_CHECKING, Any

from echolung.cli.terminal.console import EVERY, err, moving, say
from echolung.text import counted, in_bytes

if TYPE_CHECKING:
    from rich.console import RenderableType

    from echolung.pretraining.log import StepRecord

BARS = "▁▂▃▄▅▆▇█"

NAMES = {"r2": "R²", "balanced_accuracy": "balanced accuracy", "mae": "MAE", "rmse": "RMSE", "auroc": "AUROC"}

RECENT = 50
"""Steps that means and rates are taken over."""


class Live(AbstractContextManager["Live"]):
    """Shows the steps of one run; a run that others than rank 0 compute is `silent`.

    Args:
        title: the run's name and what it does.
        broken: returns how many videos could not be read so far.
        losses: losses of the steps before this start, of a run that goes on.
        silent: show and say nothing.
    """

    def __init__(
        self, title: str, broken: Callable[[], int], losses: Sequence[float] = (), silent: bool = False
    ) -> None:
        self.title, self.broken, self.silent = title, broken, silent
        self.losses = list(losses)
        self.recent: deque[StepRecord] = deque(maxlen=RECENT)
        self.gauges: Mapping[str, Any] = {}
        self.scores: Mapping[str, float] = {}
        self.shown = time.monotonic()
        self.stack = ExitStack()
        self.panel: Any = None

    def __enter__(self) -> "Live":
        """Take the lower part of the terminal, where there is one."""
        if not self.silent and moving():
            from rich.live import Live as Panel

            # The panel is made anew when it is shown, four times a second, not at every step.
            self.panel = Panel(get_renderable=self.render, console=err(), refresh_per_second=4)
            self.stack.enter_context(self.panel)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last state on the terminal."""
        self.stack.close()

    def on_step(self, record: "StepRecord") -> None:
        """Take note of a step."""
        self.losses.append(record.loss)
        self.recent.append(record)
        self.gauges = record.gauges or self.gauges
        if record.scores:
            self.scores = record.scores
            self.tell(f"step {record.step}: {shown_scores(record.scores)}")
        now = time.monotonic()
        if self.panel is None and not self.silent and (now - self.shown > EVERY or record.step == record.steps):
            self.shown = now
            say(self.line())

    def tell(self, text: str) -> None:
        """Say a sentence, above the panel where there is one."""
        if self.silent:
            return
        if self.panel is None:
            say(text)
        else:
            from rich.markup import escape

            self.panel.console.print(escape(text), style="dim")

    # ---- what is shown -------------------------------------------------------------------------------------------------

    def line(self) -> str:
        """Return the state in one line."""
        last = self.recent[-1]
        parts = [
            f"step {last.step}/{last.steps}",
            f"loss {self._mean():.4f}",
            f"{self._rate():.1f} clips/s",
            f"{self._waited():.0%} of the time waiting for data",
            f"{_time(self._left())} left",
        ]
        if rank := self.gauges.get("effective_rank_wanted"):
            parts.insert(2, f"rank {rank:.1f}")
        if count := self.broken():
            parts.append(counted(count, "unreadable video"))
        return ", ".join(parts)

    def render(self) -> "RenderableType":
        """Return the panel."""
        from rich.markup import escape
        from rich.panel import Panel
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        if not self.recent:
            return Panel("starting: reading weights, beginning to decode …", title=escape(self.title))
        width = max(20, min(err().width, 120) - 17)
        last = self.recent[-1]
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(justify="right", style="dim", width=11, no_wrap=True)
        table.add_column(ratio=1)
        done = f"{last.step:,} of {last.steps:,} · {_time(self._left())} left"
        table.add_row("loss", f"[bold]{last.loss:.4f}[/]  mean of {len(self.recent)}: {self._mean():.4f}")
        table.add_row("", f"[cyan]{sparkline(list(self.losses), width)}[/]")
        table.add_row("step", done)
        table.add_row("", ProgressBar(total=last.steps, completed=last.step, width=width))
        table.add_row("speed", self._speed())
        table.add_row(
            "schedule", f"lr {last.lr:.2e} · weight decay {last.weight_decay:g} · momentum {last.momentum:.5f}"
        )
        table.add_row("gauges", self._gauges())
        if context := self._context():
            table.add_row("visible", f"{context} of a clip's tokens")
        if self.scores:
            table.add_row("held out", shown_scores(self.scores))
        if count := self.broken():
            table.add_row("videos", f"[yellow]{count} cannot be read[/]")
        return Panel(table, title=escape(self.title), title_align="left")

    def _speed(self) -> str:
        text = f"{self._rate():.1f} clips/s · {self._waited():.0%} waiting for data"
        memory = self.recent[-1].memory
        return f"{text} · GPU {in_bytes(memory)}" if memory else text

    def _gauges(self) -> str:
        if not self.gauges:
            return "[dim]not yet[/]"
        if "std_wanted" not in self.gauges:  # an objective with labels
            return " · ".join(f"{name.replace('_', ' ')} {float(value):.3g}" for name, value in self.gauges.items())
        rank, std = (
            f"{label} {self._gauge(key + '_wanted', form)} (predicted {self._gauge(key + '_predicted', form)})"
            for label, key, form in (("rank", "effective_rank", ".1f"), ("std", "std", ".2f"))
        )
        return f"{rank} · {std}"

    def _gauge(self, key: str, form: str) -> str:
        return format(float(self.gauges.get(key, "nan")), form)

    def _context(self) -> str:
        """Share of the tokens that the encoder sees, for each generator of masks."""
        shares = [value for key, value in self.gauges.items() if key.startswith("context_share")]
        return " and ".join(f"{share:.0%}" for share in shares)

    # ---- numbers over the recent steps; each of a copy, since the panel is drawn by a thread of its own ------------------

    def _mean(self) -> float:
        losses = [record.loss for record in list(self.recent)]
        return sum(losses) / len(losses)

    def _rate(self) -> float:
        """Clips a second, the waiting included."""
        recent = list(self.recent)
        clips = sum(record.clips_per_second * record.seconds for record in recent)
        return clips / max(sum(record.seconds for record in recent), 1e-9)

    def _waited(self) -> float:
        """Share of the time spent waiting for data."""
        recent = list(self.recent)
        return sum(record.waited for record in recent) / max(sum(record.seconds for record in recent), 1e-9)

    def _left(self) -> float:
        recent = list(self.recent)
        return (recent[-1].steps - recent[-1].step) * sum(record.seconds for record in recent) / len(recent)


def sparkline(values: Sequence[float], width: int) -> str:
    """Return the course of values as a row of bars, each the mean of a stretch; as high as they differ."""
    if not values:
        return ""
    edges = [round(i * len(values) / min(width, len(values))) for i in range(min(width, len(values)) + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    room = (high - low) or 1.0
    return "".join(BARS[min(len(BARS) - 1, int((mean - low) / room * len(BARS)))] for mean in means)


def shown_scores(scores: Mapping[str, float]) -> str:
    """Return the scores of held-out videos for people; "score" only repeats one of them."""
    return ", ".join(f"{NAMES.get(name, name)} {value:.3f}" for name, value in scores.items() if name != "score")


def _time(seconds: float) -> str:
    if seconds >= 3600:
        return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s" if seconds >= 60 else f"{seconds:.0f} s"
