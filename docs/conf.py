"""Sphinx builds the site with this: ``sphinx-build -W -n docs docs/_build``."""

from __future__ import annotations

import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "pyramid_baseplate_redis"
copyright = "the pyramid_baseplate_redis authors"
version = release = installed_version("pyramid_baseplate_redis")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx_argparse_cli",
    "sphinx_copybutton",
    "api_reference",
    "relative_diffs",
    "repository_files",
    "settings_reference",
]
exclude_patterns = ["_build"]
nitpicky = True
# Without inventories of other projects, which would have to be fetched, their names are no links.
# Nor are the names of private classes, which signatures show.
nitpick_ignore_regex = [
    (
        "py:.*",
        r"~?(redis|pyramid|opentelemetry|zope|webob|transaction|prometheus_client|pytest"
        r"|collections|datetime|threading)\b.*",
    ),
    (
        "py:class",
        r"(pyramid_baseplate_redis\.)?(client|cluster|pool|queues|settings|telemetry)\..*",
    ),
    ("py:class", r"pyramid_baseplate_redis\.(deadlines|factories|retries)\..*"),
    (
        "py:class",
        "Configurator|DeadlinePolicy|HotKeyTracker|IComponents|JSON|Observer|PoolListener"
        "|RedisCluster|Registry|RetryPolicy|Search|SharedCluster|Span|TimeSeries|timedelta",
    ),
]

add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True

# pylons-sphinx-themes builds with this Sphinx too, but cannot be read on a phone, nor in the dark.
html_theme = "furo"
html_title = project
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
copybutton_prompt_text = r"\$ |>>> "
copybutton_prompt_is_regexp = True


def setup(app: Sphinx) -> None:
    """Let pages describe metrics and attributes, and link to them: ``:metric:`...```."""
    app.add_object_type("metric", "metric", indextemplate="single: %s (metric)")
    app.add_object_type("span-attribute", "span-attribute", indextemplate="single: %s (attribute)")
