"""The documents lead to each other: each link has a target, and the index lists each page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").glob("**/*.rst"))
DOCUMENTS = [*sorted(ROOT.glob("*.rst")), *PAGES]


def links(document: Path) -> set[Path]:
    """The files that a document links to or shows."""
    text = document.read_text()
    targets = re.findall(r"[^`]`[^`<]+\s<([^`<>]+)>`_", text)
    targets += re.findall(r"^ *\.\. (?:image::|_[^:]+:) (\S+)$", text, re.MULTILINE)
    return {(document.parent / target).resolve() for target in targets if "://" not in target}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_link_has_a_target(document: Path) -> None:
    assert [str(target) for target in links(document) if not target.is_file()] == []


def test_index_lists_each_page() -> None:
    index = ROOT / "docs/index.rst"
    assert set(PAGES) - links(index) == {index}


def test_readme_leads_to_the_index() -> None:
    assert ROOT / "docs/index.rst" in links(ROOT / "README.rst")
