"""The runner finds what passes with plain redis-py and not with our client, and nothing else."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from ..support.servers import free_port, server_binary
from .outcomes import outdated, read_outcomes, read_used, reason_for, summary, worse
from .projects import Project
from .servers import SuiteServer
from .suites import NothingCompared, Suite, compare

REPORT = """
<testsuites><testsuite>
  <properties><property name="clients" value="3"/></properties>
  <testcase classname="t" name="passes"/>
  <testcase classname="t" name="fails"><failure/></testcase>
  <testcase classname="t" name="skips"><skipped/></testcase>
  <testcase classname="t" name="fails_at_its_end"/>
  <testcase classname="t" name="fails_at_its_end"><error/></testcase>
</testsuite></testsuites>
"""


def test_a_report_is_read_test_by_test(tmp_path: Path) -> None:
    file = tmp_path / "report.xml"
    file.write_text(REPORT)
    assert read_outcomes(file) == {
        "t::passes": "passed",
        "t::fails": "failed",
        "t::skips": "skipped",
        "t::fails_at_its_end": "error",
    }


def test_a_report_has_the_number_of_our_clients(tmp_path: Path) -> None:
    file = tmp_path / "report.xml"
    file.write_text(REPORT)
    assert read_used(file) == {"clients": 3}
    assert not read_used(tmp_path / "missing.xml")


@pytest.mark.parametrize("outcome", ["failed", "error", "skipped"])
def test_what_passes_with_plain_redis_py_only_is_worse(outcome: str) -> None:
    assert worse({"a": "passed"}, {"a": outcome}) == {"a": outcome}


def test_a_test_that_is_missing_is_worse() -> None:
    assert worse({"a": "passed"}, {}) == {"a": "not run"}


@pytest.mark.parametrize("outcome", ["failed", "error", "skipped"])
def test_what_fails_with_plain_redis_py_too_is_not_worse(outcome: str) -> None:
    assert worse({"a": outcome}, {"a": "failed"}) == {}


DIFFERENCES = {"a reason": ("t::a",), "another": ("t.C",)}


@pytest.mark.parametrize(
    ("test", "reason"),
    [("t::a", "a reason"), ("t::a[1]", "a reason"), ("t.C::b[x]", "another"), ("t::b", None)],
)
def test_a_difference_is_known_by_its_test_or_its_class(test: str, reason: str | None) -> None:
    assert reason_for(test, DIFFERENCES) == reason


@pytest.mark.parametrize(
    ("plain", "found"),
    [("failed", {}), ("passed", {"t::a[1]": "failed", "t.C::b": "failed"})],
)
def test_a_difference_is_not_outdated_while_it_is_seen_or_cannot_be(
    plain: str, found: dict[str, str]
) -> None:
    assert outdated(DIFFERENCES, {"t::a[1]": plain, "t.C::b": plain}, found) == []


def test_a_difference_of_which_nothing_is_seen_any_more_is_outdated() -> None:
    plain = {"t::a": "passed", "t.C::b": "passed"}
    assert outdated(DIFFERENCES, plain, {"t.C::b": "error"}) == ["t::a"]


def test_a_summary_has_the_number_of_each_outcome() -> None:
    outcomes = {"a": "passed", "b": "failed", "c": "passed"}
    assert summary(outcomes) == "2 passed, 1 failed"


PREAMBLE = """
import os

import redis

def client():
    return redis.Redis(port=int(os.environ["SERVER_PORT"]))
"""

NEEDS_PLAIN = "def test_class():\n    assert type(client()).__module__ == 'redis.client'\n"


@pytest.fixture
def planted(tmp_path: Path):  # type: ignore[no-untyped-def]
    """Make the suite of a project whose only test file has the tests given."""

    def make(tests: str, options: str = "", **of_the_project: Any) -> Suite:
        (tmp_path / "test_planted.py").write_text(PREAMBLE + tests)
        port = free_port()
        project = Project(
            f"{options} test_planted.py",
            servers=(SuiteServer(port),),
            environment={"SERVER_PORT": str(port)},
            **of_the_project,
        )
        return Suite(project, tmp_path, sys.executable, server_binary("valkey"))

    return make


@pytest.mark.slow("runs pytest in processes")
def test_a_suite_passes_when_our_client_does_what_redis_py_does(
    planted, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = planted("def test_set():\n    assert client().set('a', 1) is True\n")
    assert compare(suite)
    assert capsys.readouterr().out == (
        "plain: 1 passed\nours: 1 passed\n"
        "  used: 1 clients, 1 connections, 1 direct requests, 1 spans\n"
    )


@pytest.mark.slow("runs pytest in processes")
def test_a_suite_fails_when_a_test_passes_with_plain_redis_py_only(
    planted, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not compare(planted(NEEDS_PLAIN))
    assert "  failed only with ours: test_planted::test_class\n" in capsys.readouterr().out


@pytest.mark.slow("runs pytest in processes")
def test_a_suite_that_has_plain_redis_py_after_all_is_not_taken_for_equal(
    planted, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = planted("def test_set():\n    assert client().set('a', 1)\n", "-o python_files=*.py")
    assert not compare(suite)
    assert "  not run only with ours: test_planted::test_set\n" in capsys.readouterr().out


@pytest.mark.slow("runs pytest in processes")
def test_a_process_that_a_test_starts_has_our_client_too(planted) -> None:
    suite = planted(
        "import subprocess, sys\n"
        "def test_child():\n"
        "    code = 'import redis, sys; sys.exit(redis.Redis.__module__ != \"redis.client\")'\n"
        "    subprocess.run([sys.executable, '-c', code], check=True)\n"
    )
    assert not compare(suite)


@pytest.mark.slow("runs pytest in processes")
def test_the_pools_of_a_project_are_ours_only_when_asked_for(
    planted, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = planted(
        "def test_pool():\n"
        "    assert client().ping()\n"
        "    assert redis.ConnectionPool.__module__ == 'redis.connection'\n"
    )
    assert not compare(suite, pools=True)
    printed = capsys.readouterr().out
    assert printed.startswith("plain: 1 passed\nours: 1 passed\n")
    assert "\nours, pools too: 1 failed\n" in printed


@pytest.mark.slow("runs pytest in processes")
def test_a_suite_in_which_nothing_passes_is_not_taken_for_equal(planted) -> None:
    with pytest.raises(NothingCompared, match="no test passes"):
        compare(planted("def test_broken():\n    assert False\n"))


@pytest.mark.slow("runs pytest in processes")
def test_a_suite_that_uses_no_client_of_ours_is_not_taken_for_equal(planted) -> None:
    with pytest.raises(NothingCompared, match="used no clients"):
        compare(planted("def test_nothing():\n    assert redis\n"))


@pytest.mark.slow("runs pytest in processes")
def test_a_suite_with_one_connection_per_client_sends_nothing_directly(planted) -> None:
    suite = planted(
        "def test_single():\n    assert client().client().ping()\n",
        must_use=("clients", "direct requests"),
    )
    with pytest.raises(NothingCompared, match="used no direct requests"):
        compare(suite)


@pytest.mark.slow("runs pytest in processes")
def test_a_difference_that_the_project_names_is_printed_with_its_reason(
    planted, capsys: pytest.CaptureFixture[str]
) -> None:
    differences = {"it looks at the class": ["test_planted::test_class"]}
    assert compare(planted(NEEDS_PLAIN, differences=differences))
    assert "  1 differ: it looks at the class\n" in capsys.readouterr().out


@pytest.mark.slow("runs pytest in processes")
def test_a_difference_that_is_gone_has_to_leave_the_list(
    planted, capsys: pytest.CaptureFixture[str]
) -> None:
    differences = {"it looks at the class": ["test_planted::test_set"]}
    suite = planted("def test_set():\n    assert client().set('a', 1)\n", differences=differences)
    assert not compare(suite)
    assert "  differs no longer with ours: test_planted::test_set\n" in capsys.readouterr().out


@pytest.mark.slow("runs pytest in processes")
def test_a_project_whose_tests_make_pools_has_ours_at_once(
    planted, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = planted(
        "def test_pool():\n"
        "    pool = redis.ConnectionPool(port=int(os.environ['SERVER_PORT']))\n"
        "    assert redis.Redis(connection_pool=pool).set('a', 1)\n",
        has_pools=True,
    )
    assert compare(suite)
    assert capsys.readouterr().out == (
        "plain: 1 passed\nours, pools too: 1 passed\n"
        "  used: 1 clients, 1 connections, 1 direct requests, 1 spans\n"
    )
