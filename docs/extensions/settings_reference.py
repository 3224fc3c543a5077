"""The reference of settings, generated from the dataclasses that declare them.

``.. setting:: foo.url`` describes one setting, and ``:setting:`foo.url``` links to it.
``.. settings-of::`` describes the settings that its content lists, with the type, default, version
and meaning that the code has::

    .. settings-of:: pyramid_baseplate_redis.settings.client.ClientSettings
       :prefix: foo

       max_connections pool_timeout
"""

from __future__ import annotations

import dataclasses
import importlib
import ssl
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

from pyramid_baseplate_redis.settings import parsers

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.util.typing import ExtensionMetadata, OptionSpec

_TYPES = {
    "timedelta": "time",
    "int": "number",
    "bool": "boolean",
    "float": "percentage",
    "str": "text",
    "ssl.TLSVersion": "text",
    "frozenset[str]": "commands",
    "list[str]": "words",
    "tuple[timedelta, ...]": "times",
}
_TEXTS = {
    parsers.path: "path",
    parsers.path_of_url: "path",
    parsers.variable_name: "name",
    parsers.http_url: "URL",
}
_UNITS = (("hour", 3600), ("minute", 60), ("second", 1))


class SettingsOf(SphinxDirective):
    """Describe settings by the fields of a dataclass."""

    has_content = True
    required_arguments = 1
    option_spec: ClassVar[OptionSpec] = {"prefix": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        """Return the descriptions of the settings that the content lists."""
        module, _, name = self.arguments[0].rpartition(".")
        cls = getattr(importlib.import_module(module), name)
        fields = {field.name: field for field in dataclasses.fields(cls)}
        meanings = meanings_of(cls)
        described: list[nodes.Node] = []
        for key in " ".join(self.content).split():
            text = f".. setting:: {self.options['prefix']}.{key}\n\n   {facts_of(fields[key])}\n\n"
            text += "".join(f"   {line}\n" for line in meanings[key])
            described += self.parse_text_to_nodes(text, allow_section_headings=False)
        return described


def meanings_of(cls: type) -> dict[str, list[str]]:
    """Return the docstrings of a dataclass's attributes, by name, in lines."""
    found: dict[str, list[str]] = {}
    for base in reversed(cls.__mro__):
        if dataclasses.is_dataclass(base):
            analyzer = ModuleAnalyzer.for_module(base.__module__)
            documented = analyzer.find_attr_docs()
            found |= {
                name: lines for (owner, name), lines in documented.items() if owner == base.__name__
            }
    return found


def facts_of(field: dataclasses.Field[Any]) -> str:
    """Return the type, the default and the version of a setting, as a line of text."""
    parse = field.metadata["parse"]
    kind = _TEXTS.get(parse, _TYPES[str(field.type).removesuffix(" | None")])
    facts = [f":ref:`{kind} <type-{kind.lower()}>`"]
    if (default := as_text(field.default)) is not None:
        facts.append(f"default ``{default}``")
    return ", ".join([*facts, f"since {field.metadata['since']}"])


def as_text(value: object) -> str | None:
    """Return a default as one writes it in an .ini file, or ``None`` if there is none."""
    if value is None or value == frozenset():
        return None
    if isinstance(value, tuple):
        return ", ".join(str(as_text(item)) for item in value)
    if isinstance(value, timedelta):
        return _time(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.0%}"
    return value.name.replace("_", ".") if isinstance(value, ssl.TLSVersion) else str(value)


def _time(value: timedelta) -> str:
    seconds = value.total_seconds()
    for unit, length in _UNITS:
        if seconds >= length and seconds % length == 0:
            number = int(seconds // length)
            return f"{number} {unit}{'s' * (number != 1)}"
    return f"{seconds:g} seconds"


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directives with Sphinx."""
    app.add_object_type("setting", "setting", indextemplate="single: %s (setting)")
    app.add_directive("settings-of", SettingsOf)
    return {"parallel_read_safe": True}
