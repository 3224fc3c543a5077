"""The mutants of a module: which there are, and which are left out."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest

pytest.importorskip("cosmic_ray", reason="mutation testing has its own dependency group")

from cosmic_ray.mutating import mutate_code

from .mutants import mutants_of, sample
from .operators import OWN_OPERATORS


def changes(text: str) -> set[tuple[str, str]]:
    return {mutant.key[2:] for mutant in mutants_of("a.py", textwrap.dedent(text))}


def test_conditions_and_numbers_are_changed() -> None:
    assert changes("if a < 2:\n    pass\n") == {
        ("if a < 2:", "if a <= 2:"),
        ("if a < 2:", "if a >= 2:"),
        ("if a < 2:", "if a < 3:"),
        ("if a < 2:", "if a < 1:"),
    }


@pytest.mark.parametrize("first", ["a is None", "not a"])
def test_the_first_part_of_a_condition_is_negated_once(first: str) -> None:
    changed = [mutant.key[3] for mutant in mutants_of("a.py", f"if {first} or b:\n    pass\n")]

    assert not any(text.startswith(f"if not {first}") for text in changed)
    assert len(changed) == 2


def test_calls_are_removed() -> None:
    assert changes("def f():\n    lock.release()\n    return g()\n") == {("lock.release()", "pass")}


def test_each_exception_of_a_clause_is_left_out() -> None:
    text = "try:\n    f()\nexcept (OSError, redis.TimeoutError) as error:\n    pass\n"

    assert changes(text) == {
        ("f()", "pass"),
        ("except (OSError, redis.TimeoutError) as error:", "except (OSError, ) as error:"),
        (
            "except (OSError, redis.TimeoutError) as error:",
            "except (redis.TimeoutError, ) as error:",
        ),
    }


@pytest.mark.parametrize(
    "text",
    [
        "def f(a: int | None = None) -> str | None: ...",
        "a: int | None",
        "Alias = str | None",
        "raise ValueError('a' + 'b', 1)",
        "@cache(True)\ndef f(): ...",
        "if TYPE_CHECKING:\n    a = 1\n",
        "a = zip(b, c, strict=True)",
        "if sys.version_info >= (3, 11):\n    a = b\n",
    ],
)
def test_types_messages_and_decorators_are_left_out(text: str) -> None:
    assert changes(text) == set()


@pytest.mark.parametrize(
    "text", ["def f(a, *, b): ...", "def f(a, /, b): ...", "f = lambda a, *, b: g"]
)
def test_the_markers_of_a_signature_are_no_binary_operators(text: str) -> None:
    assert changes(text) == set()


def test_what_a_log_shows_is_left_out_but_not_the_log() -> None:
    assert changes("log.warning('%s', a + 1)\n") == {("log.warning('%s', a + 1)", "pass")}


def test_a_mutant_knows_its_function() -> None:
    (mutant,) = mutants_of("a.py", "class A:\n    def f(self):\n        return a and b\n")

    assert mutant.key == ("a.py", "A.f", "return a and b", "return a or b")
    assert mutant.source == "class A:\n    def f(self):\n        return a or b\n"


def test_a_larger_sample_contains_the_smaller_one() -> None:
    mutants = list(mutants_of("a.py", "a = [1, 2, 3, 4, 5, 6]\n"))

    small, large = sample(mutants, 4, "1"), sample(mutants, 8, "1")
    assert large[:4] == small
    assert sample(mutants, 4, "1") == small
    assert sample(mutants, 4, "2") != small
    assert sorted(m.occurrence for m in sample(mutants, None, "1")) == list(range(12))


@pytest.mark.parametrize("operator", OWN_OPERATORS.values())
def test_the_examples_of_our_operators_hold(operator: Any) -> None:
    for example in operator.examples():
        changed = mutate_code(example.pre_mutation_code, operator(), example.occurrence)
        assert changed == example.post_mutation_code
