"""The folders' arrows point one way, and the light things stay light."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]

BASE = {"", "errors", "settings", "text", "device", "machine", "provenance", "contents"}

# Which parts a part may import, beside itself and the base.
ARROWS = {
    "": set(),
    "errors": set(),
    "text": set(),
    "settings": set(),
    "device": set(),
    "machine": set(),
    "contents": set(),
    "provenance": set(),
    "downloads": set(),
    "datasets": set(),
    "clips": {"datasets"},
    "encoders": {"clips", "datasets", "downloads"},
    "cache": set(),
    "extraction": {"datasets", "clips", "encoders", "cache"},
    "probes": {"cache"},
    "pretraining": {"datasets", "clips", "encoders", "probes"},
    "explaining": {"datasets", "clips", "encoders", "cache", "probes", "pretraining", "report"},
    "evaluation": {"probes", "cache", "datasets"},
    "doctor": {"downloads", "datasets", "clips", "encoders", "cache", "extraction"},
    "finetuning": {"datasets", "clips", "encoders", "cache", "extraction", "probes", "pretraining", "evaluation"},
    "report": {"evaluation", "probes", "cache", "datasets"},
    "cli": {
        "doctor",
        "downloads",
        "report",
        "evaluation",
        "probes",
        "cache",
        "extraction",
        "pretraining",
        "finetuning",
        "explaining",
        "encoders",
        "clips",
        "datasets",
    },
}


def modules() -> list[tuple[str, Path]]:
    """Return (part, file) of every module; a part is a folder, or a module at the top."""
    found = []
    for top, name in (("echolung", None), ("cache", "cache"), ("cli", "cli")):
        for file in sorted((REPOSITORY / top).rglob("*.py")):
            inside = file.relative_to(REPOSITORY / top)
            part = name or (inside.parts[0] if len(inside.parts) > 1 else inside.stem.replace("__init__", ""))
            found.append((part, file))
    return found


def imported(file: Path) -> set[str]:
    """Return the dotted names that a module imports anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in {file}"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize(("part", "file"), modules(), ids=lambda value: str(getattr(value, "name", value)))
def test_imports_follow_the_arrows(part: str, file: Path) -> None:
    allowed = ARROWS[part] | BASE | {part}
    for name in imported(file):
        head, _, rest = name.partition(".")
        assert head not in ("cache", "cli"), f"{file}: `import {head}` is a second copy of echolung.{head}"
        if head == "echolung" and rest:
            target = rest.split(".")[0]
            # `from echolung import __version__` names no part
            assert target in allowed or target == "__version__", f"{file} imports echolung.{target}"


def loaded_by(code: str) -> set[str]:
    """Return the modules that a fresh interpreter has loaded after running `code`."""
    script = f"{code}\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_fast_stage_loads_neither_decoder_nor_encoder() -> None:
    loaded = loaded_by("import echolung.cache, echolung.probes, echolung.evaluation.summary, echolung.report.record")
    assert not loaded & {"av", "decord", "timm", "echolung.encoders", "echolung.clips", "echolung.extraction"}


def test_the_store_needs_no_torch() -> None:
    assert "torch" not in loaded_by("import echolung.cache")


def test_the_command_line_starts_light() -> None:
    loaded = loaded_by("import echolung.cli.app")
    assert not loaded & {"torch", "numpy", "pandas", "zarr", "sklearn", "av", "decord", "timm"}


def test_each_module_is_loaded_once() -> None:
    loaded = loaded_by("import echolung.cli.app, echolung.cache.store")
    assert "cache" not in loaded
    assert "cli" not in loaded


def test_no_host_or_machine_is_named() -> None:
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=REPOSITORY, check=False)
    files = [REPOSITORY / name for name in listed.stdout.splitlines()]
    if not files:
        pytest.skip("not a git checkout")
    assert REPOSITORY / "uv.lock" not in files
    home = str(Path.home()) + "/"
    for file in files:
        if file.suffix in {".py", ".md", ".toml", ".txt", ".yml"} and file.exists():
            text = file.read_text()
            assert str(REPOSITORY) + "/" not in text, file
            assert home not in text or home == "//", file
