"""The root command, and what a person sees when something is wrong. Imports nothing heavy: --help answers at once."""

import errno
import os
import sys
import warnings
from typing import Annotated, Any

import typer

from echolung import provenance
from echolung.cli import (
    cache,
    compare,
    demo,
    doctor,
    encoders,
    explain,
    extract,
    finetune,
    leaderboard,
    predict,
    report,
)
from echolung.cli.data import commands as data
from echolung.cli.pretraining import pretrain
from echolung.cli.probing import probe, study
from echolung.cli.terminal import completion, interrupts, levels, usage
from echolung.cli.terminal.console import complain, detail, hang_up
from echolung.errors import EcholungError

FIRST_STEPS = (
    "[bold]First steps[/]: [cyan]echolung demo[/] shows everything on phantoms; [cyan]echolung data list[/] says which "
    "datasets are known; your own videos: [cyan]echolung data check videos.csv[/]. "
    "[cyan]echolung COMMAND -h[/] explains a command."
)

SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    name="echolung",
    help="Encode every ultrasound clip once on a GPU, then ask as many honest questions as you like on a laptop.",
    epilog=FIRST_STEPS,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=SETTINGS,
    rich_markup_mode="rich",
)
app.command("demo")(demo.demo)
app.add_typer(data.app, name="data")
app.add_typer(encoders.app, name="encoders")
app.command("pretrain")(pretrain.pretrain)
app.command("extract")(extract.extract)
app.command("probe")(probe.probe)
app.command("study")(study.study)
app.command("finetune")(finetune.finetune)
app.command("compare")(compare.compare)
app.command("leaderboard")(leaderboard.leaderboard)
app.command("predict")(predict.predict)
app.command("report")(report.report)
app.command("explain")(explain.explain)
app.add_typer(cache.app, name="cache")
app.command("doctor")(doctor.doctor)

_debug = bool(os.environ.get("ECHOLUNG_DEBUG"))


def _version(shown: bool) -> bool:
    if shown:
        from echolung import __version__

        typer.echo(f"echolung {__version__}")
        raise typer.Exit
    return shown


def _quiet(wanted: bool) -> None:
    if wanted:
        levels.set_level(levels.QUIET)


def _verbose(wanted: bool) -> None:
    if wanted:
        levels.set_level(levels.VERBOSE)
        detail(f"Command: {provenance.command_line()}")
        detail(", ".join(f"{name} {version}" for name, version in provenance.versions().items() if version))
        detail(", ".join(f"{name}: {value}" for name, value in provenance.machine().items()))


def _show_tracebacks(wanted: bool) -> None:
    global _debug
    _debug = _debug or wanted


# Not handed to the function: the same options stand behind every command, too, which knows nothing of them.
COMMON: dict[str, Any] = {"expose_value": False, "is_eager": True, "rich_help_panel": "How much is said"}


@app.callback()
def root(
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", callback=_quiet, help="Only results and errors.", **COMMON)
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", callback=_verbose, help="Also versions, device, settings.", **COMMON)
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", callback=_show_tracebacks, help="Show the traceback of an error.", **COMMON)
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Encode every ultrasound clip once on a GPU, then ask as many honest questions as you like on a laptop."""


def command() -> Any:
    """Return the whole of the commands, as click has them: what is common to all put into each."""
    whole = typer.main.get_command(app)
    common = [param for param in whole.params if param.name in ("quiet", "verbose", "debug")]
    usage.shorten(whole, SETTINGS)
    _equip(whole, "", common)
    return whole


def _equip(group: Any, path: str, common: list[Any]) -> None:
    """Give every command below a group the common options, and its parameters what Tab offers."""
    for name, below in group.commands.items():
        full = f"{path} {name}".strip()
        for param in below.params:
            if (answer := completion.offers(full, param.name)) is not None:
                param.shell_complete = answer
        below.params = [*below.params, *common]
        usage.shorten(below, SETTINGS)
        if hasattr(below, "commands"):
            _equip(below, full, common)


def main() -> None:
    """Run the command line; errors come as one paragraph, and as exit code 2 (bad input) or 1 (a run that failed)."""
    # torch's threads by default spin while they wait for each other. Beside the decoding processes that was seen to make
    # an encoder seven times slower on two cores; asleep they cost nothing. Read when torch is first imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    levels.set_level(None)
    completion.join_colons()
    try:
        with interrupts.listening(), warnings.catch_warnings():
            warnings.showwarning = _mention
            code = _run()
    finally:
        _flush()
    sys.exit(code)


def _run() -> int:
    """Run the command that was typed; return the exit code."""
    try:
        usage.refuse_line_breaks(sys.argv[1:])
        code = command()(standalone_mode=False, prog_name="echolung")
        if code == interrupts.INTERRUPTED:  # typer makes this of an interrupt
            interrupts.say_how_to_go_on()
        return code if isinstance(code, int) else 0
    except (Exception, KeyboardInterrupt) as error:
        if interrupts.caused(error):
            interrupts.say_how_to_go_on()
            return interrupts.INTERRUPTED
        return _explain(error)


def _explain(error: BaseException) -> int:
    """Say what is wrong in a paragraph; return the exit code."""
    if isinstance(error, EcholungError):
        return _tell(error, str(error), error.exit_code)
    if isinstance(error, OSError):
        return _tell(error, *_operating_system(error))
    if hasattr(error, "show") and hasattr(error, "exit_code"):  # an option that is wrong, or missing
        return _tell(error, usage.said(error), int(error.exit_code))
    if type(error).__name__ == "Abort":  # a question that nobody answered
        return _tell(error, "Stopped: there was no answer.", 1)
    if _no_memory(error):
        return _tell(error, NO_MEMORY, 1)
    what = f"Something unexpected went wrong ({type(error).__name__}: {error}). --debug shows where."
    return _tell(error, what, 1)


NO_MEMORY = (
    "The memory does not suffice. Take less at once: a smaller --batch (1 is the least), fewer --workers, a smaller --size or "
    "fewer --frames, a smaller encoder, for probes a smaller --memory; or close other programs. Run the same command again: "
    "what is on disk is safe."
)


def _no_memory(error: BaseException) -> bool:
    """Whether an error says that the memory of the machine or of its GPU is used up; torch has no type of its own on a CPU."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or "allocate memory" in str(error) or "out of memory" in str(error).lower()


def _mention(message: Warning | str, *where: Any, **more: Any) -> None:
    """Keep a library's warning, which is meant for programmers, to --verbose."""
    detail(f"warning: {message}")


def _flush() -> None:
    """Write what is left; a reader that has gone is no error."""
    for file in (sys.stdout, sys.stderr):
        try:
            file.flush()
        except BrokenPipeError:
            hang_up(file)


def _tell(error: BaseException, text: str, code: int) -> int:
    if _debug:
        raise error
    complain(text)
    return code


def _operating_system(error: OSError) -> tuple[str, int]:
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk is full{where}. Free some space and run the same command again; what was written is safe.", 1
    if error.errno == errno.ENOMEM:
        return NO_MEMORY, 1
    if error.errno == errno.EFBIG:
        return (
            f"A file would be larger than the disk or the account allows{where}. Name another place (ECHOLUNG_HOME).",
            1,
        )
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return f"Not allowed to write or read there{where}. Set ECHOLUNG_HOME to a folder that can be written to.", 2
    return f"{error.strerror or error}{where}", 1
