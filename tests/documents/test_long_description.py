"""The long description on PyPI is the README without relative links and without pictures."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

README = (Path(__file__).parents[2] / "README.rst").read_text()
# The metadata that were built when this environment was made.
DESCRIPTION = str(importlib.metadata.metadata("pyramid_baseplate_redis").get_payload())


def relative_links(text: str) -> list[str]:
    targets = re.findall(r"[^`]`[^`<]+\s<([^`<>]+)>`_", text)
    targets += re.findall(r"^\.\. _[^:]+: (\S+)$", text, re.MULTILINE)
    return [target for target in targets if not re.match(r"https?:|mailto:", target)]


def test_no_link_is_relative() -> None:
    assert len(relative_links(README)) > 10
    assert relative_links(DESCRIPTION) == []


def test_there_are_no_pictures() -> None:
    assert not re.search(r"^\.\. (?:\|.*\| )?(?:image|figure)::", DESCRIPTION, re.MULTILINE)


def test_the_text_is_that_of_the_readme() -> None:
    headings = r"^.+\n(?:={5,}|-{5,})$"

    assert re.findall(headings, DESCRIPTION, re.MULTILINE) == re.findall(
        headings, README, re.MULTILINE
    )
    assert DESCRIPTION.count(".. code-block::") == README.count(".. code-block::")
