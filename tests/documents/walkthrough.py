"""Read a page as a newcomer does: which files to write, what to type, and what should be seen."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
START = ROOT / "docs/start"
# After the name of a file: its lines are to be added to those that it has.
AT_THE_END = ", at the end"
_SECONDS = 60
_DIRECTIVE = re.compile(
    r"^\.\. (?P<kind>code-block|literalinclude):: (?P<argument>\S+)\n"
    r"(?P<options>(?:   :.*\n)*)(?P<content>(?:   .*\n|\n)*)",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """A block of code on a page."""

    language: str
    caption: str
    text: str
    emphasized: tuple[int, ...]

    @property
    def file(self) -> str:
        """The file that the reader writes; empty if there is none."""
        return self.caption.removesuffix(AT_THE_END)


class Page:
    """A page that is to be followed."""

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self.text = path.read_text()
        self.blocks = list(_blocks(self.text, path.parent))

    @property
    def files(self) -> list[Block]:
        return [block for block in self.blocks if block.file]

    @property
    def commands(self) -> list[str]:
        """The lines to type into a terminal."""
        return [
            line
            for block in self.blocks
            if block.language == "sh"
            for line in block.text.splitlines()
        ]

    def command(self, start: str) -> str:
        """The first command that starts like this."""
        return next(line for line in self.commands if line.startswith(start))

    def shown(self, language: str) -> list[str]:
        """What should be seen, in a terminal (``text``) or from ``curl`` (``json``)."""
        return [block.text for block in self.blocks if block.language == language]


def _blocks(text: str, directory: Path) -> Iterator[Block]:
    for match in _DIRECTIVE.finditer(text):
        options = dict(re.findall(r":([a-z-]+): *(.*)", match["options"]))
        if match["kind"] == "literalinclude":
            language = options.get("language", "python")
            content = (directory / match["argument"]).read_text()
        else:
            language = match["argument"]
            content = textwrap.dedent(match["content"]).strip("\n") + "\n"
        emphasized = tuple(_numbers(options.get("emphasize-lines", "")))
        yield Block(language, options.get("caption", ""), content, emphasized)


def _numbers(ranges: str) -> Iterator[int]:
    for part in filter(None, ranges.split(",")):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


class Project:
    """The directory of a reader, whose virtual environment is the one of the tests.

    :param directory: empty.
    :param ports: replacements for the ports on the pages, which may be in use.
    """

    def __init__(self, directory: Path, ports: Mapping[str, str]) -> None:
        self.directory = directory
        self._ports = ports
        scripts = str(Path(sys.executable).parent)
        self.environment = {
            **os.environ,
            "PATH": os.pathsep.join([scripts, os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(directory)]),
        }

    def replaced(self, text: str) -> str:
        for port, other in self._ports.items():
            text = text.replace(f"localhost:{port}", f"127.0.0.1:{other}")
        return text

    def write(self, block: Block) -> None:
        path = self.directory / block.file
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text() if block.caption.endswith(AT_THE_END) else ""
        path.write_text(before + self.replaced(block.text))

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command of a page until it ends.

        :raises AssertionError: it failed.
        """
        done = subprocess.run(
            self.replaced(command), shell=True, cwd=self.directory, env=self.environment,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done


def masked(text: str) -> str:
    """The text without what differs from run to run: times, identifiers, versions, warnings."""
    text = re.sub(r" +\d+\.\d\d ms", " # ms", text)
    text = re.sub(r"\b\d{13}-\d+ (\w+) in \d+ ms", r"# \1 in # ms", text)
    text = re.sub(r'("latency_ms": )[\d.]+|("server_version": )"[\d.]+"', r"\1\2#", text)
    return re.sub(r"(\d passed)(, \d+ warnings?)? in [\d.]+s", r"\1", text)
