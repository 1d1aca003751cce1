"""What is wrong with what was typed, in this project's words: those of the library that reads options are for programmers."""

import re
from typing import Any

import typer

from echolung.errors import InputError
from echolung.text import suggest

WORDS = (
    (r"Invalid value for '?([^':]+)'?(?: \(env var: .*\))?: (.*)", r"\1: \2"),
    (r"Missing (option|argument|parameter) '?([^']+?)'?\.?$", r"The \1 \2 is missing."),
    (r"Input should be a valid integer.*", "a whole number was expected."),
    (r"Input should be a valid number.*", "a number was expected, such as 0.5."),
    (r"Input should be a valid boolean.*", "yes or no was expected."),
    (r"Input should be greater than or equal to (\S+)", r"the least is \1."),
    (r"Input should be less than or equal to (\S+)", r"the most is \1."),
    (r"Input should be greater than (\S+)", r"more than \1 was expected."),
)
"""What the library says -> what is said here."""


PLACEHOLDERS = {
    "int": "N",
    "int range": "N",
    "float": "X",
    "float range": "X",
    "str": "TEXT",
    "list[str]": "TEXT",
    "path": "PATH",
}
"""What the library calls a value -> what stands for it in help: shorter, so that the sentence beside it has room."""


def shorten(command: Any, settings: dict[str, Any]) -> None:
    """Put in a command's help, for each option's value, what `PLACEHOLDERS` says; `settings` are those of its context."""
    for param in [*command.params, command.get_help_option(typer.Context(command, **settings))]:
        param.metavar = _placeholder(param) or param.metavar


def _placeholder(param: Any) -> str | None:
    """Return what stands for an option's value in help; None where it has words of its own, or is no option."""
    if getattr(param, "is_flag", False):
        return " "  # it takes no value, and `<bool>` would say that it does
    if param.metavar is not None or param.param_type_name != "option" or not hasattr(param, "display_type"):
        return None
    return PLACEHOLDERS.get(str(param.display_type(None)).strip("<>"))


def said(error: Any) -> str:
    """Return a usage error as a sentence or two, with the command that explains more."""
    text = str(error.format_message()).strip()
    for pattern, words in WORDS:
        text = re.sub(pattern, words, text)
    command = getattr(error.ctx, "command_path", "echolung") if getattr(error, "ctx", None) else "echolung"
    if near := getattr(error, "possibilities", None):
        text = f"{text.partition(' (Possible')[0].rstrip('.')}.{suggest(str(error.option_name), near)}"
    return f"{text if text.endswith(('.', '?')) else text + '.'} `{command} -h` explains it."


def refuse_line_breaks(words: list[str]) -> None:
    """Raise InputError where a word that was typed holds a line break, which no name of a file here may."""
    if broken := next((word for word in words if "\n" in word or "\r" in word), None):
        raise InputError(
            f"{broken!r} holds a line break (\\n), which is most likely a slip in copying. Type it on one line; a file whose "
            "name has one must be renamed."
        )
