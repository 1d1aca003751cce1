"""The root command, and what a person sees when something is wrong. Imports nothing heavy: --help answers at once."""

import errno
import os
import sys
from typing import Annotated

import typer

from echolung.cli import (
    cache,
    compare,
    data,
    demo,
    explain,
    extract,
    finetune,
    leaderboard,
    predict,
    pretrain,
    probe,
    report,
    study,
)
from echolung.cli.console import complain
from echolung.errors import EcholungError

app = typer.Typer(
    name="echolung",
    help="Encode every ultrasound clip once on a GPU, then ask as many honest questions as you like on a laptop.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)
app.command("demo")(demo.demo)
app.add_typer(data.app, name="data")
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

INTERRUPTED = 130

_debug = bool(os.environ.get("ECHOLUNG_DEBUG"))


def _version(shown: bool) -> bool:
    if shown:
        from echolung import __version__

        typer.echo(f"echolung {__version__}")
        raise typer.Exit
    return shown


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Encode every ultrasound clip once on a GPU, then ask as many honest questions as you like on a laptop."""
    global _debug
    _debug = _debug or debug


def main() -> None:
    """Run the command line; errors come as one paragraph, and as exit code 2 (bad input) or 1 (a run that failed)."""
    # torch's threads by default spin while they wait for each other. Beside the decoding processes that was seen to make
    # an encoder seven times slower on two cores; asleep they cost nothing. Read when torch is first imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        code = app(standalone_mode=False)
        if code == INTERRUPTED:  # typer makes this of an interrupt
            complain(
                "Stopped. What is on disk is safe; extraction, pretraining and fine-tuning go on where they stopped."
            )
        sys.exit(code if isinstance(code, int) else 0)
    except EcholungError as error:
        _leave(error, str(error), error.exit_code)
    except OSError as error:
        _leave(error, *_operating_system(error))
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # an option that is wrong, or missing
            error.show()
            sys.exit(error.exit_code)
        _leave(error, f"Something unexpected went wrong ({type(error).__name__}: {error}). --debug shows where.", 1)


def _leave(error: BaseException, text: str, code: int) -> None:
    if _debug:
        raise error
    complain(text)
    sys.exit(code)


def _operating_system(error: OSError) -> tuple[str, int]:
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk is full{where}. Free some space and run the same command again; what was written is safe.", 1
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return f"Not allowed to write or read there{where}. Set ECHOLUNG_HOME to a folder that can be written to.", 2
    return f"{error.strerror or error}{where}", 1
