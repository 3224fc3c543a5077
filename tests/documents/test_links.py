"""The documents at the top of the repository link to files that exist. Sphinx checks the site's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(ROOT.glob("*.rst"))


def links(document: Path) -> set[Path]:
    """Return the files that a document links to or shows."""
    text = document.read_text()
    targets = re.findall(r"[^`]`[^`<]+\s<([^`<>]+)>`_", text)
    targets += re.findall(r"^ *\.\. (?:image::|_[^:]+:) (\S+)$", text, re.MULTILINE)
    return {(document.parent / target).resolve() for target in targets if "://" not in target}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_each_link_has_a_target(document: Path) -> None:
    assert [str(target) for target in links(document) if not target.is_file()] == []


def test_readme_leads_to_the_index() -> None:
    assert ROOT / "docs/index.rst" in links(ROOT / "README.rst")
