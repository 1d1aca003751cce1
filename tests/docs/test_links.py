"""Every link between files leads somewhere as the pages lie on disk, and so on GitHub. The site has its own test."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGES = [*REPOSITORY.glob("*.md"), *sorted((REPOSITORY / "docs").rglob("*.md"))]
LINK = re.compile(r"(?<!`)\[(?:[^\[\]]|\[[^\]]*\])*\]\((?P<path>[^)\s#]*)(?P<anchor>#[^)\s]+)?\)")
CODE = re.compile(r"^ *(`{3,}|~{3,}).*?^ *\1 *$|`[^`\n]+`", re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found = set()
    for heading in re.findall(r"^#+ (.+?) *$", re.sub(r"(?ms)^```.*?^```", "", page.read_text(encoding="utf-8")), re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page):
    broken = []
    for link in LINK.finditer(CODE.sub("`code`", page.read_text(encoding="utf-8"))):
        path, anchor = link["path"], link["anchor"]
        if re.match(r"[a-z]+:", path):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists():
            broken.append(link[0])
        elif anchor and target.suffix == ".md" and "api" not in target.parts and anchor[1:] not in anchors(target):
            broken.append(f"{link[0]}: no such heading")
    assert not broken, "\n".join(broken)
