"""Signatures and links of the API reference.

The public names are documented under the modules that users import them from. The code itself
names the modules that define them, so links and signatures are brought together here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx.domains.python import PythonDomain

if TYPE_CHECKING:
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment
    from sphinx.util.typing import ExtensionMetadata

_PACKAGE = "pyramid_baseplate_redis"


def link_to_public_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.Node | None:
    """Link a name of a defining module to the public name, if the reference has one."""
    target = node.get("reftarget", "").lstrip(".")
    if node.get("refdomain") != "py" or not target:
        return None
    domain = env.domains.python_domain
    assert isinstance(domain, PythonDomain)
    for parts in range(min(2, target.count(".") + 1), 0, -1):
        ending = "." + ".".join(target.split(".")[-parts:])
        found = [name for name in domain.objects if name.endswith(ending)]
        if len(found) == 1:
            entry = domain.objects[found[0]]
            return nodes.reference(
                "", "", content, internal=True, reftitle=found[0],
                refuri=app.builder.get_relative_uri(node["refdoc"], entry.docname)
                + f"#{entry.node_id}",
            )  # fmt: skip
    return None


def without_config(
    app: Sphinx,
    what: str,
    name: str,
    obj: Any,
    options: Any,
    signature: str | None,
    returned: str | None,
) -> tuple[str, str] | None:
    """Show a directive of Pyramid as it is called: without the ``Configurator``."""
    start = "(config: Configurator, "
    if signature is None or not signature.startswith(start):
        return None
    return f"({signature.removeprefix(start)}", ""


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the extension with Sphinx."""
    app.connect("missing-reference", link_to_public_name)
    app.connect("autodoc-process-signature", without_config)
    return {"parallel_read_safe": True}
