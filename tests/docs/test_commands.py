"""No page shows a command, an argument too many, an option or a choice that does not exist."""

import re
import shlex
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGES = [*REPOSITORY.glob("*.md"), *sorted((REPOSITORY / "docs").rglob("*.md"))]
BEFORE = re.compile(
    r"^(?:\$ |pip install uv && |uv run |srun |time |nohup |[A-Z_]+=\S+ )*(?:\S*torchrun .* -m echolung\.cli|echolung) "
)
INLINE = re.compile(r"(?<!`)`(?:uv run )?echolung ([^`\n]+)`(?!`)")
OPTION = re.compile(r"(?<![`\w])`(--[a-z][\w-]*)[^`\n]*`")
OTHERS = {
    "--layer-decay",  # of timm
    *("--force-directories", "--strict", "--signal", "--array", "--requeue"),
    *("--nnodes", "--rdzv-endpoint", "--shutdown-timeout"),  # of torchrun
    *("--pretrained", "--pretrained_weight", "--wandb"),  # of the code that published systems came with
}
"""Options of other programs that pages speak of."""
ENDS = {"--help", "-h", "--version", "--install-completion", "--show-completion"}
PLACEHOLDER = re.compile(r"[$…<>{}]|\.\.\.|^[A-Z_]+$")


@pytest.fixture(scope="module")
def root():
    from echolung.cli.app import command

    return command()


def commands(text: str) -> list[str]:
    """Return what stands behind `echolung` in a block of commands, one entry a command."""
    lines = [line.strip() for line in re.sub(r"\s*\\\n\s*", " ", text).splitlines()]
    parts = [part.strip() for line in lines for part in re.split(r"(?:(?<!pip install uv )&&|\|\||[|;]) ", line)]
    # Behind three spaces stands a remark.
    return [re.sub(r" {3,}.*", "", part[begins.end() :]) for part in parts if (begins := BEFORE.match(part))]


def fault(root, line: str, whole: bool) -> str | None:
    """Return what is wrong with a command line; None where nothing is. `whole`: required arguments must be there."""
    words = [word for word in shlex.split(re.sub(r" (?:[12&]?>|<|\|) .*", "", line), comments=True) if word != "&"]
    words = [word for word in words if word not in ("…", "...", "[...]")]
    command, place = root, "echolung"
    while hasattr(command, "commands"):
        while words and words[0] in {flag for option in command.params for flag in option.opts} | ENDS:
            if words.pop(0) in ENDS:
                return None
        if not words:
            return f"{place} needs a command" if whole else None
        if PLACEHOLDER.search(words[0]):
            return None
        name = words.pop(0)
        if name not in command.commands:
            return f"there is no command {place} {name}"
        command, place = command.commands[name], f"{place} {name}"
    return _fault_of(command, place, words, whole)


def _fault_of(command, place: str, words: list[str], whole: bool) -> str | None:
    context = command.context_class(command, info_name=place, help_option_names=["-h", "--help"])
    if {"-h", "--help"} & set(words):
        return None
    try:
        given, left, _ = command.make_parser(context).parse_args(list(words))
    except Exception as error:
        unfinished = type(error).__name__ == "BadOptionUsage" and not whole  # `echolung probe --labels`, in a sentence
        return None if unfinished else f"{place}: {getattr(error, 'message', error)}"
    if left:
        return f"{place} takes no further argument: {' '.join(left)}"
    for parameter in command.params:
        value = given.get(parameter.name)
        if whole and parameter.required and value in (None, ()) and not parameter.envvar:
            return f"{place}: {parameter.name} is missing"
        texts = [each for each in (value if isinstance(value, list | tuple) else [value]) if isinstance(each, str)]
        if texts and not any(PLACEHOLDER.search(text) for text in texts):
            try:
                parameter.process_value(context, value)
            except Exception as error:
                if "does not exist" not in str(getattr(error, "message", error)):  # a file: only the reader has it
                    return f"{place}: {getattr(error, 'message', error)}"
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_command_of_a_page_exists(page, blocks, root):
    shown = [
        (line, True)
        for block in blocks(page)
        if block.mark not in ("output", "file") and block.language not in ("python", "text", "toml", "csv")
        for line in commands(block.text)
    ]
    # In a sentence what is required may be missing, and what need not be there stands in square brackets.
    inline = INLINE.findall(page.read_text(encoding="utf-8"))
    shown += [(re.sub(r"[\[\]]", "", line), False) for line in inline]
    wrong = [f"`echolung {line}`: {found}" for line, whole in shown if (found := fault(root, line, whole))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_option_that_a_page_speaks_of_exists(page, root):
    known, waiting = set(OTHERS), [root]
    while waiting:
        command = waiting.pop()
        waiting += getattr(command, "commands", {}).values()
        known |= {flag for option in command.params for flag in (*option.opts, *option.secondary_opts)} | ENDS
    spoken = set(OPTION.findall(page.read_text(encoding="utf-8")))
    assert spoken <= known, f"{page.name} speaks of {', '.join(sorted(spoken - known))}"


def test_what_does_not_exist_is_found(root):
    assert fault(root, "probe --cv 5 --task covid", whole=True) is None
    assert "no command" in fault(root, "prob --cv 5", whole=True)
    assert "--folds" in fault(root, "probe --folds 5", whole=True)
    assert "integer" in fault(root, "probe --cv five", whole=True)
    assert "missing" in fault(root, "data check", whole=True) and fault(root, "data check", whole=False) is None
    assert commands("pip install uv && uv run echolung demo\nX=1 echolung probe \\\n    --cv 5 | tee log") == [
        "demo", "probe --cv 5"
    ]  # fmt: skip
