"""Attributes and metrics have the names of OpenTelemetry's conventions, without their package."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator

import pytest
from opentelemetry.semconv.schemas import Schemas

from pyramid_baseplate_redis.telemetry import semantic_conventions

NOT_NAMES = {"VERSION", "SCHEMA_URL"}
NAMES = {
    name: value
    for name, value in vars(semantic_conventions).items()
    if name.isupper() and name not in NOT_NAMES
}
# The last one wins: what is stable has precedence over what is in development.
PACKAGES = [
    "opentelemetry.semconv._incubating.attributes",
    "opentelemetry.semconv._incubating.metrics",
    "opentelemetry.semconv.attributes",
    "opentelemetry.semconv.metrics",
]
WITHOUT_CONVENTIONS = """
import importlib, pkgutil, sys
sys.modules["opentelemetry.semconv"] = None
import pyramid_baseplate_redis
for module in pkgutil.iter_modules(pyramid_baseplate_redis.__path__):
    if not module.name.startswith("testing"):  # these need the SDK, which needs the conventions
        importlib.import_module(f"pyramid_baseplate_redis.{module.name}")
"""


def installed_names() -> Iterator[tuple[str, object]]:
    for name in PACKAGES:
        package = importlib.import_module(name)
        for found in pkgutil.iter_modules(package.__path__):
            yield from vars(importlib.import_module(f"{name}.{found.name}")).items()


@pytest.fixture(scope="module")
def installed() -> dict[str, object]:
    return dict(installed_names())


@pytest.mark.parametrize("name", NAMES)
def test_each_name_is_that_of_the_installed_conventions(
    name: str, installed: dict[str, object]
) -> None:
    assert NAMES[name] == installed[name]


def test_the_schema_is_that_of_the_installed_conventions() -> None:
    assert list(Schemas)[-1].value == semantic_conventions.SCHEMA_URL


def test_no_module_needs_the_package_of_the_conventions() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_CONVENTIONS], check=True)
