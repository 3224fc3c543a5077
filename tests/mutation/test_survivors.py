"""survivors.toml and the groups name what the package has."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from .groups import GROUPS, NOT_MUTATED, PACKAGE, ROOT
from .score import read_reasons

SURVIVORS = Path(__file__).parent / "survivors.toml"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="needs tomllib")
def test_the_lines_of_the_listed_survivors_exist() -> None:
    gone = []
    for module, function, line, _ in read_reasons(SURVIVORS):
        lines = (PACKAGE / module).read_text().splitlines()
        if line not in " ".join(text.strip() for text in lines):
            gone.append(f"{module} {function}: {line}")

    assert gone == []


def test_each_module_is_in_one_group() -> None:
    files = [file for group in GROUPS for file in group.files()]

    assert len(files) == len(set(files))


def test_each_pattern_names_files() -> None:
    for group in GROUPS:
        assert [pattern for pattern in group.modules if not list(PACKAGE.glob(pattern))] == []
        assert [pattern for pattern in group.tests if not list(ROOT.glob(pattern))] == []


@pytest.mark.parametrize("folder", ["pool", "queues", "runtime"])
def test_folders_are_mutated_as_a_whole(folder: str) -> None:
    mutated = {file for group in GROUPS for file in group.files()}
    files = {str(path.relative_to(PACKAGE)) for path in (PACKAGE / folder).rglob("*.py")}

    assert {file for file in files if not file.endswith("__init__.py")} - NOT_MUTATED <= mutated
    assert not NOT_MUTATED & mutated
