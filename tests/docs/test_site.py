"""The pages as a site: built without a warning and without a network, and fetching nothing from elsewhere."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytestmark = pytest.mark.slow
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    ran = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=REPOSITORY,
        env={**os.environ, **nowhere, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return folder


class Page(HTMLParser):
    """What a page loads, and where its links lead."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag in ("script", "img", "iframe", "source", "video") and given.get("src"):
            self.loads.append(given["src"])
        elif tag == "link" and given.get("rel") not in ("canonical", "prev", "next", "edit"):
            self.loads.append(given.get("href") or "")
        elif tag == "a" and given.get("href"):
            self.links.append(given["href"])


def test_the_pages_are_there(site):
    for name in (
        "index",
        "quickstart",
        "pocus-study",
        "your-own-videos",
        "protocol",
        "probes/linear",
        "objectives/vjepa",
    ):
        assert (site / f"{name}.html").is_file()
    assert (site / "notebooks" / "ask-questions-of-a-store.html").is_file()


def test_nothing_is_loaded_from_elsewhere(site):
    loaded = {(file.name, url) for file in site.rglob("*.html") for url in Page(file).loads}
    assert [(name, url) for name, url in loaded if re.match(r"(https?:)?//", url)] == []
    styles = [file.name for file in site.rglob("*.css") if re.search(r"url\(['\"]?(https?:)?//", file.read_text())]
    assert styles == []


def test_what_is_loaded_and_linked_is_there(site):
    absent = set()
    for file in site.rglob("*.html"):
        if file.name == "404.html":  # its addresses are those of a site at the top of a host
            continue
        page = Page(file)
        for url in page.loads + page.links:
            parts = urlsplit(url)
            if not parts.scheme and parts.path and not (file.parent / unquote(parts.path)).exists():
                absent.add((str(file.relative_to(site)), url))
    assert not absent


@pytest.mark.parametrize(
    ("page", "name"),
    [
        ("datasets", "echolung.datasets.load_manifest"),
        ("datasets", "echolung.datasets.manifest.Manifest"),
        ("clips", "echolung.clips.decode"),
        ("encoders", "echolung.encoders.encoder.load_encoder"),
        ("cache", "echolung.cache.TokenStore.pooled"),
        ("probes", "echolung.probes.bank.ProbeBank.fit"),
        ("evaluation", "echolung.evaluation.cross_validate"),
    ],
)
def test_the_names_that_stay_are_documented(site, page, name):
    text = (site / "api" / f"{page}.html").read_text(encoding="utf-8")
    assert f'id="{name}"' in text
