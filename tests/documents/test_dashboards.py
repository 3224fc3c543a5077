"""The dashboards and alerts name only metrics and labels that an application really emits."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from ..support.servers import Server

yaml = pytest.importorskip("yaml", reason="reads the alerts")
promql = pytest.importorskip("tests.support.promql", reason="needs promql-parser")
pytest.importorskip("opentelemetry.exporter.prometheus", reason="names the metrics")

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs/dashboards"
RULES = [
    rule
    for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
KINDS = ("opentelemetry", "baseplate")
#: Metrics that no dashboard shows, and why.
NOT_SHOWN = {
    "target_info": "the resource of the process, to join with other metrics",
    "redis_client_requests_created": "prometheus_client's time of the first count",
    "redis_client_latency_seconds_created": "the same",
}


@pytest.fixture(scope="module")
def scrapes(valkey_server: Server) -> dict[str, promql.Scrape]:
    """The scrapes of an application that has used everything that is measured."""
    with redis.Redis(port=valkey_server.port) as client:
        client.flushall()
    command = [sys.executable, "-m", "tests.support.emitting_app", valkey_server.url]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return {kind: promql.Scrape(text) for kind, text in json.loads(ran.stdout).items()}


def board(kind: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FOLDER / f"{kind}.json").read_text())
    return loaded


def panels(kind: str) -> list[dict[str, Any]]:
    return [panel for panel in board(kind)["panels"] if panel["type"] != "row"]


def targets(kind: str) -> list[tuple[str, str, str]]:
    """The panel, the expression and the legend of each series of a dashboard."""
    return [
        (panel["title"], target["expr"], target.get("legendFormat", ""))
        for panel in panels(kind)
        for target in panel["targets"]
    ]


def queries(kind: str) -> Iterator[tuple[str, str]]:
    """The selector and the label from which each variable of a dashboard takes its values."""
    for variable in board(kind)["templating"]["list"]:
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert found, variable
            yield found[1], found[2]


def kind_of(rule: dict[str, Any]) -> str:
    return "baseplate" if rule["alert"].startswith("Baseplate") else "opentelemetry"


@pytest.mark.parametrize("kind", KINDS)
def test_panels_name_what_is_emitted(kind: str, scrapes: dict[str, promql.Scrape]) -> None:
    found = {
        f"{title}: {expression}": problems
        for title, expression, legend in targets(kind)
        if (problems := promql.problems(expression, scrapes[kind], legend))
    }
    assert found == {}


@pytest.mark.parametrize("kind", KINDS)
def test_variables_name_what_is_emitted(kind: str, scrapes: dict[str, promql.Scrape]) -> None:
    for selector, label in queries(kind):
        assert promql.problems(selector, scrapes[kind], f"{{{{{label}}}}}") == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_alerts_name_what_is_emitted(
    rule: dict[str, Any], scrapes: dict[str, promql.Scrape]
) -> None:
    texts = " ".join(rule["annotations"].values())
    assert promql.problems(rule["expr"], scrapes[kind_of(rule)], texts) == []


@pytest.mark.parametrize("kind", KINDS)
def test_each_metric_is_shown_or_listed(kind: str, scrapes: dict[str, promql.Scrape]) -> None:
    trees = [promql.parsed(expression) for _, expression, _ in targets(kind)]
    shown = {metric for tree in trees for metric in promql.metrics(tree)}
    hidden = {
        family
        for family, samples in scrapes[kind].families.items()
        if not samples & shown
        and not family.startswith(("process_", "python_"))  # prometheus_client's own
    }
    assert hidden == NOT_SHOWN.keys() & scrapes[kind].families.keys()


def test_each_exception_is_emitted(scrapes: dict[str, promql.Scrape]) -> None:
    emitted = {family for scrape in scrapes.values() for family in scrape.families}
    assert NOT_SHOWN.keys() <= emitted


@pytest.mark.parametrize(
    ("expression", "legend", "problem"),
    [
        ("sum(rate(redis_requests_total[5m]))", "", "no metric redis_requests_total"),
        ('redis_client_requests_total{redis_pool="foo"}', "",
         "no label redis_pool on redis_client_requests_total"),
        ('redis_client_requests_total{redis_success="yes"}', "",
         'no value for redis_success="yes" on redis_client_requests_total'),
        ("sum by (redis_pool) (redis_client_requests_total)", "", "by has redis_pool"),
        ("sum by (redis_type) (redis_client_requests_total)", "{{redis_command}}",
         "the legend has redis_command"),
        ("sum(redis_client_requests_total)", "{{ $labels.job }}", "the legend has job"),
        ("redis_client_pool_max_size / on (redis_type) redis_client_pool_max_size", "",
         "on or ignoring has redis_type"),
    ],
)  # fmt: skip
def test_a_wrong_name_is_found(
    expression: str, legend: str, problem: str, scrapes: dict[str, promql.Scrape]
) -> None:
    assert promql.problems(expression, scrapes["baseplate"], legend) == [problem]


def test_latencies_leave_out_the_commands_that_wait_on_purpose(valkey: Server) -> None:
    with redis.Redis(port=valkey.port) as client:
        commands = client.execute_command("COMMAND")
    blocking = {name for name, command in commands.items() if "blocking" in command["flags"]}
    assert {"blpop", "xreadgroup"} <= blocking
    expressions = [expression for kind in KINDS for _, expression, _ in targets(kind)]
    latencies = [
        selector
        for expression in [*expressions, *(rule["expr"] for rule in RULES)]
        for selector in promql.selectors(promql.parsed(expression))
        if selector.name
        in ("db_client_operation_duration_seconds_bucket", "redis_client_latency_seconds_bucket")
    ]
    assert len(latencies) == 12
    for selector in latencies:
        (left_out,) = [
            re.compile(matcher.value, re.IGNORECASE)
            for matcher in selector.matchers.matchers
            if matcher.name in ("db_operation_name", "redis_command")
        ]
        assert {name for name in blocking if not left_out.fullmatch(name)} == set()
