"""Sphinx builds the site with this: ``sphinx-build -W -n docs docs/_build``."""

from __future__ import annotations

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "pyramid_baseplate_redis"
copyright = "the pyramid_baseplate_redis authors"
version = release = installed_version("pyramid_baseplate_redis")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
    "repository_files",
    "settings_reference",
]
exclude_patterns = ["_build"]
nitpicky = True
# Without inventories of other projects, which would have to be fetched, their names are no links.
nitpick_ignore_regex = [
    (
        r"py:.*",
        r"(redis|pyramid|opentelemetry|zope|webob|transaction|prometheus_client|pytest)\b.*",
    ),
]

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
