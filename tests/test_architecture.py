"""docs/contributing/architecture.rst describes the package as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "pyramid_baseplate_redis"
ARCHITECTURE = (ROOT / "docs/contributing/architecture.rst").read_text()
PYPROJECT = (ROOT / "pyproject.toml").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.rst").read_text()

SUB_PACKAGES = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
MODULES = sorted(path.name for path in PACKAGE.glob("*.py"))


def section(heading: str) -> str:
    return re.split(r"\n-{3,}\n", ARCHITECTURE.split(f"\n{heading}\n{'-' * len(heading)}\n")[1])[0]


def named_paths(document: str) -> list[str]:
    """The modules and folders that a document names, as ``pool/factory.py`` or ``pool/``."""
    return sorted(set(re.findall(r"``(\w[\w/]*(?:\.py|/))``", document)))


@pytest.mark.parametrize("document", [ARCHITECTURE, CONTRIBUTING], ids=["architecture", "contrib"])
def test_every_module_that_is_named_exists(document: str) -> None:
    paths = named_paths(document)

    assert len(paths) > 5
    assert not [path for path in paths if not ((PACKAGE / path).exists() or (ROOT / path).exists())]


@pytest.mark.parametrize("name", SUB_PACKAGES)
def test_every_sub_package_is_described(name: str) -> None:
    assert f"\n\n``{name}/`` " in "\n" + section("Sub-packages")


@pytest.mark.parametrize("name", MODULES)
def test_every_module_beside_them_is_described(name: str) -> None:
    assert f"``{name}``" in ARCHITECTURE


def test_the_picture_shows_the_layers_that_are_checked() -> None:
    (contract,) = re.findall(r"^layers = \[\n(.*?)^\]", PYPROJECT, re.MULTILINE | re.DOTALL)
    (picture,) = re.findall(r"code-block:: text\n\n(.*?)\n\n\w", section("Layers"), re.DOTALL)

    shown = [re.split(r" {2,}", line.strip())[0] for line in picture.split("\n")]
    assert shown == re.findall(r'"(.*)"', contract)


def test_loggers_are_named_after_sub_packages() -> None:
    names = {
        (path.relative_to(PACKAGE).parts[0], argument)
        for path in PACKAGE.rglob("*.py")
        for argument in re.findall(r"= logging.getLogger\((.*?)\)", path.read_text())
    }

    assert ("pool", "__package__") in names
    assert not {each for each in names if each[1] != "__package__"}
