"""What a pretraining run shows while it goes: lines, and a panel on a terminal."""

import io
import sys
import threading

from echolung.cli.terminal.live import Live, sparkline
from echolung.pretraining.log import StepRecord


def step(number: int, **more) -> StepRecord:
    rates = {"lr": 1e-3, "weight_decay": 0.04, "momentum": 0.99}
    usual = {
        "step": number,
        "steps": 100,
        "loss": 1 / number,
        "clips": 8,
        "gradient": 1.0,
        "seconds": 0.5,
        "waited": 0.1,
    }
    return StepRecord(**{**usual, **rates, **more})


def test_a_line_says_how_it_goes(capsys):
    gauges = {"effective_rank_wanted": 12.3, "context_share_0": 0.25}
    with Live("a run", lambda: 2) as live:
        for number in range(1, 100):
            live.on_step(step(number))
        assert capsys.readouterr().err == "", "not at every step"
        live.on_step(step(100, gauges=gauges, scores={"r2": 0.5, "score": 0.5}))
    told = capsys.readouterr().err
    for word in (
        "step 100/100",
        "16.0 clips/s",
        "20% of the time waiting",
        "rank 12.3",
        "2 unreadable videos",
        "R² 0.500",
    ):
        assert word in told, told


def test_the_panel_is_drawn_while_steps_come_in():
    live, stop = Live("a run", lambda: 1), threading.Event()
    live.on_step(step(1))
    failed: list[BaseException] = []

    def draw() -> None:
        try:
            while not stop.is_set():
                live.line()
                live.render()
        except RuntimeError as error:  # deque mutated during iteration
            failed.append(error)

    drawing = threading.Thread(target=draw)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        drawing.start()
        for number in range(1, 2000):
            live.on_step(step(1 + number % 99))
    finally:
        stop.set()
        drawing.join()
        sys.setswitchinterval(interval)
    assert not failed


def test_the_panel_holds_what_matters():
    from rich.console import Console

    live = Live("a run", lambda: 1, losses=[3.0, 2.0])
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(live.render())
    live.on_step(step(1, memory=3_000_000_000, gauges={"std_wanted": 0.5, "context_share_0": 0.25}))
    console.print(live.render())
    shown = console.export_text()
    for word in (
        "starting",
        "1 of 100",
        "50 s left",
        "3.00 GB",
        "std 0.50",
        "25% of a clip's tokens",
        "█",
        "1 cannot be read",
    ):
        assert word in shown, shown
    assert all(len(text) <= 80 for text in shown.splitlines())


def test_sparklines():
    assert sparkline([], 10) == ""
    assert sparkline([1.0, 1.0], 10) == "▁▁"
    assert sparkline([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], 8) == "▁▂▃▄▅▆▇█"
    assert len(sparkline([float(i) for i in range(1000)], 33)) == 33


def test_silent_processes_say_nothing(capsys):
    with Live("a run", lambda: 0, silent=True) as live:
        live.tell("a word")
        live.on_step(step(100))
    assert capsys.readouterr() == ("", "")
