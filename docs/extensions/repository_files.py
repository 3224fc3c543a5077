"""Let pages include files from the top of the repository, such as ``CHANGES.rst``.

These files are read on their own, too, so their links are relative: `` `Tracing
<docs/guides/tracing.rst>`__ ``. Within the site such a link becomes a ``:doc:`` role.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.util.typing import ExtensionMetadata

_LINK = re.compile(r"`([^`<]+?)\s+<(?:docs/([^`<>:]+)|(CHANGES|CONTRIBUTING))\.rst>`__?")
_PAGES = {"CHANGES": "changes", "CONTRIBUTING": "contributing/index"}


def link_pages(app: Sphinx, path: Path, parent: str, content: list[str]) -> None:
    """Replace the links to files by links to pages, in a file that a page includes."""
    if path.suffix == ".rst":
        content[0] = _LINK.sub(_role, content[0])


def _role(link: re.Match[str]) -> str:
    text, page, top = link.groups()
    return f":doc:`{text} </{page or _PAGES[top]}>`"


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the extension with Sphinx."""
    app.connect("include-read", link_pages)
    return {"parallel_read_safe": True}
