"""What the site does beyond MkDocs: pages for files that stand outside docs/, and where the modules lie for the API pages."""

import posixpath
import re
import tempfile
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(?<=\]\()(?P<path>[^)\s#:<>]+)(?P<anchor>#[^)\s]*)?(?=\))")
SOURCE = re.compile(r'(?<=href=")(?P<path>[^":#]+)\.(?:md|ipynb)(?=["#])')
PLACES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md"}
"""Where on the site a file of the top is. Any other file outside docs/ that a page links to gets a page of its own."""


@event_priority(100)  # before mkdocstrings reads it
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Let the API pages find echolung.cache and echolung.cli, which stand beside echolung/ in the checkout."""
    shadow = Path(tempfile.mkdtemp(prefix="echolung-docs-"), "echolung")
    shadow.mkdir()
    for part in (*(REPOSITORY / "echolung").iterdir(), REPOSITORY / "cache", REPOSITORY / "cli"):
        (shadow / part.name).symlink_to(part)
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [str(shadow.parent)]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for CONTRIBUTING.md, and for each file outside docs/ that a page links to."""
    waiting = ["CONTRIBUTING.md"] if (REPOSITORY / "CONTRIBUTING.md").exists() else []
    for page in files.documentation_pages():
        if page.abs_src_path:
            waiting += _links_outside(page.content_string, Path(page.abs_src_path).parent)
    while waiting:
        outside = waiting.pop()
        if _place(outside) in files.src_uris:
            continue
        text = (REPOSITORY / outside).read_text(encoding="utf-8")
        folder = (REPOSITORY / outside).parent
        is_page = outside.endswith(".md")
        waiting += _links_outside(text, folder) if is_page else []
        content = _relinked(text, folder, _place(outside)) if is_page else _source_page(outside, text)
        files.append(File.generated(config, _place(outside), content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links that leave docs/ lead to those pages."""
    source = page.file.abs_src_path
    return _relinked(markdown, Path(source).parent, page.file.src_uri) if source else markdown


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links of a notebook, which MkDocs leaves as they are, lead to pages and not to their sources."""
    return SOURCE.sub(r"\g<path>.html", html) if page.file.src_uri.endswith(".ipynb") else html


def _target(link: str, folder: Path) -> str | None:
    """Return the path in the repository of the file that a link in a page of `folder` leads to; None: of none."""
    target = (folder / link).resolve()
    return target.relative_to(REPOSITORY).as_posix() if target.is_file() and target.is_relative_to(REPOSITORY) else None


def _links_outside(markdown: str, folder: Path) -> list[str]:
    targets = [_target(match["path"], folder) for match in LINK.finditer(markdown)]
    return [target for target in targets if target and not target.startswith("docs/")]


def _place(target: str) -> str:
    """Return where on the site a file of the repository is."""
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    return PLACES.get(target) or "source/" + target.removesuffix(".md") + ".md"


def _relinked(markdown: str, folder: Path, at: str) -> str:
    """Return the text of a page that stands in `folder`, with links as they must be for it to be at `at` on the site."""

    def link(match: re.Match[str]) -> str:
        target = _target(match["path"], folder)
        if target is None:
            return match[0]
        anchor = match["anchor"] or "" if target.endswith(".md") and target != "README.md" else ""
        return posixpath.relpath(_place(target), posixpath.dirname(at)) + anchor

    return LINK.sub(link, markdown)


def _source_page(outside: str, text: str) -> str:
    language = {".py": "python", ".toml": "toml", ".yml": "yaml", ".json": "json"}.get(Path(outside).suffix, "text")
    return f"---\nsearch:\n  exclude: true\n---\n\n# {outside}\n\n`````{language}\n{text.rstrip()}\n`````\n"
