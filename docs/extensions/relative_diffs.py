"""Name the files of a diff by their last directory, such as ``after/service.py``.

``literalinclude`` with ``:diff:`` writes the files' full paths on the machine that builds the site.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from docutils import nodes

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.util.typing import ExtensionMetadata

_HEADER = re.compile(r"^(---|\+\+\+) /\S*?([^/\s]+/[^/\s]+)$", re.MULTILINE)


def shorten(app: Sphinx, document: nodes.document) -> None:
    """Replace the two full paths at the beginning of each diff."""
    for block in document.findall(nodes.literal_block):
        if block.get("language") == "udiff":
            # Sphinx highlights a block only if its source is its text.
            block.rawsource = _HEADER.sub(r"\1 \2", block.astext(), count=2)
            block.children = [nodes.Text(block.rawsource)]


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the extension with Sphinx."""
    app.connect("doctree-read", shorten)
    return {"parallel_read_safe": True}
