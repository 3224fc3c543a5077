"""The guide of predis shows what the commands print, and has every command."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyramid_baseplate_redis.cli.main import _parser, main

from ..support.servers import Server

PAGE = (Path(__file__).parents[2] / "docs/guides/predis.rst").read_text()
TRANSCRIPTS = re.findall(r"\.\. code-block:: console\n\n((?:    .*\n|\n)+)", PAGE)
CONFIG_FILE = """
[app:main]
use = call:tests.support.cli_app:main
foo.url = {url}
jobs.queue = foo
jobs.durable = true
"""


def commands_of(transcript: str) -> Iterator[tuple[list[str], str]]:
    """Yield the arguments of each command of a transcript, and what it prints."""
    for part in transcript.split("    $ predis ")[1:]:
        command, _, printed = part.partition("\n")
        yield shlex.split(command), printed


def in_words(printed: str) -> list[str]:
    """Return the words of an output, without its rules and with every age as the same."""
    printed = re.sub(r"─+", "", printed)
    return re.sub(r"\b\d:\d\d:\d\d\b", "<age>", printed).split()


@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=["queue", "an error"])
def test_a_transcript(
    transcript: str,
    valkey: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config_file = CONFIG_FILE.format(url=valkey.url)
    (tmp_path / "production.ini").write_text(config_file)
    (tmp_path / "broken.ini").write_text(config_file + "foo.socket_timeout = 3\n")
    monkeypatch.chdir(tmp_path)
    for arguments, printed in commands_of(transcript):
        main(arguments)
        assert in_words("".join(capsys.readouterr())) == in_words(printed), arguments


def commands(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the names of the commands and of the commands below them."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                below = list(commands(command))
                yield from (f"{name} ... {each}" for each in below)
                if not below:
                    yield name


def test_every_command_is_listed() -> None:
    assert re.findall(r"^``predis ([a-z][^`]*)``  ", PAGE, re.M) == list(commands(_parser()))
