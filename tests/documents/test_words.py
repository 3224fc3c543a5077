"""Documents, docstrings, comments and messages avoid words that make a reader stop.

A word list of the project's own: the linters of prose that were tried report hundreds of style
points and miss these.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *sorted(ROOT.glob("*.rst")),
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.rst")),
]
MODULES = sorted((ROOT / "pyramid_baseplate_redis").rglob("*.py"))


class Rule(NamedTuple):
    pattern: str
    instead: str


RULES = [
    Rule(
        r"\bwhoever\b|\bsomebody\b|\bnobody\b|\bsomeone\b",
        "the caller, the worker, the thread, no caller",
    ),
    Rule(r"\bto(?:ld|ll) of\b|\btells? of\b", "report, log, record, show"),
    Rule(r"\bbehind (?:the|a) (?:commit|transaction|signal|fork|login|request)\b", "after"),
    Rule(r"\bfor so long\b|\bso many\b|\bhow manieth\b", "a number"),
    Rule(r"\band the like\b|\bor the like\b|\bno such thing\b", "a noun"),
    Rule(r"\bhis own\b|\bhe (?:is|has|may|can|asks|waits)\b", "its own; the caller is"),
    Rule(r"\bisn't there\b|\baren't there\b", "does not exist"),
    Rule(r"\b[Pp]lease note\b|\bsimply\b|\bobviously\b|\bof course\b|\bbasically\b", "nothing"),
    Rule(r"\b(?:utilize|leverage|in order to|prior to)\b", "use, to, before"),
    Rule(r"\b(?:seamless|blazing|powerful|robust|cutting-edge|effortless)\w*\b", "a fact"),
    Rule(
        r"\b(?:behaviour|colour|honour|favour|neighbour|centre|licence|catalogue|initialis|serialis"
        r"|organis|recognis|normalis|optimis|analys(?:e|ing)|cancell(?:ed|ing)|labell(?:ed|ing)"
        r"|travell|whilst|amongst)\w*\b",
        "the American spelling",
    ),
    Rule(r"\bcan not\b", "cannot"),
    Rule(r"(?:^|[.:] )(?-i:Of) (?!the\b)[a-z]+ .*?,", "a sentence that starts with its subject"),
    Rule(r"\bsuch an?\b(?! as)", "a noun: this connection, a name of this kind"),
]
# The first words of a docstring.
OPENINGS = Rule(
    r"(?:What|Whether|How|Where|Of|Who|Which) ", "the imperative, such as Return whether"
)


_LITERAL = re.compile(
    r" *(?:\.\. (?:code-block|parsed-literal|literalinclude|invisible-code-block)|```)"
)


def prose_of(document: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a document without its literal blocks and literals."""
    literal: int | None = None
    for number, line in enumerate(document.read_text().splitlines(), 1):
        indent = len(line) - len(line.lstrip())
        if literal is not None and (not line.strip() or indent > literal):
            continue
        literal = None
        if _LITERAL.match(line) or line.endswith("::"):
            literal = indent
        yield number, re.sub(r"``[^`]*``|`[^`]*`", "``", line)


def texts_of(module: Path) -> Iterator[tuple[int, str]]:
    """Yield the comments and strings of a module, docstrings among them."""
    for token in tokenize.generate_tokens(io.StringIO(module.read_text()).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING):
            yield token.start[0], re.sub(r"``[^`]*``", "``", token.string)


def openings_of(module: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            docstring = ast.get_docstring(node)
            if docstring:
                yield getattr(node, "lineno", 1), docstring
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield node.lineno, str(node.value.value)  # the docstring of an attribute


def found(path: Path, texts: Iterator[tuple[int, str]], rules: list[Rule]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}: {match[0]!r}: write {rule.instead}"
        for number, text in texts
        for rule in rules
        for match in re.finditer(rule.pattern, text, re.IGNORECASE)
    ]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents(document: Path) -> None:
    assert found(document, prose_of(document), RULES) == []


def test_modules() -> None:
    assert [each for module in MODULES for each in found(module, texts_of(module), RULES)] == []


def test_docstrings_begin_with_a_verb_or_a_noun() -> None:
    opening = [Rule(rf"\A{OPENINGS.pattern}", OPENINGS.instead)]
    assert [
        each for module in MODULES for each in found(module, openings_of(module), opening)
    ] == []
