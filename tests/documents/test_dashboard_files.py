"""The dashboards and alerts are complete, made from their source, and explained on a page."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml", reason="reads the alerts")

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs/dashboards"
PAGE = (ROOT / "docs/deploying/alerts.rst").read_text()
RULES = [
    rule
    for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
BOARDS = ("opentelemetry.json", "baseplate.json")
PROMTOOL = shutil.which("promtool")

needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="needs promtool (Debian's package prometheus, of 19 MB)"
)


def board(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FOLDER / name).read_text())
    return loaded


def test_the_dashboards_are_made_from_their_source(tmp_path: Path) -> None:
    pytest.importorskip("grafana_foundation_sdk", reason="makes the dashboards, on Python 3.11")
    command = [sys.executable, str(FOLDER / "make.py"), str(tmp_path)]
    subprocess.run(command, check=True, timeout=60)
    for name in BOARDS:
        made, kept = (tmp_path / name).read_text(), (FOLDER / name).read_text()
        assert made == kept, "run python docs/dashboards/make.py"


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_belongs_to_no_machine(name: str) -> None:
    made = board(name)
    assert made.get("id") is None
    assert made["schemaVersion"] >= 41
    sources = re.findall(
        r'"datasource": \{\s*"type": "(\w+)",\s*"uid": "([^"]*)"', json.dumps(made)
    )
    assert set(sources) == {("prometheus", "${datasource}")}
    panels = made["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)


@pytest.mark.parametrize("name", BOARDS)
def test_each_panel_has_a_unit_and_a_description(name: str) -> None:
    for panel in board(name)["panels"]:
        if panel["type"] != "row":
            assert panel["description"].endswith("."), panel["title"]
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_each_alert_says_what_it_means(rule: dict[str, Any]) -> None:
    assert re.fullmatch(r"\d+m", rule["for"])
    assert rule["labels"]["severity"] in ("critical", "warning")
    texts = rule["annotations"]
    assert texts["summary"]
    assert texts["description"].endswith(".")
    assert texts["runbook_url"] == f"deploying/alerts.html#{rule['alert'].lower()}"


def test_the_page_lists_each_alert_with_its_severity() -> None:
    listed = re.findall(r"^   \* - `(\w+)`_\n     - (\w+)\n", PAGE, re.MULTILINE)
    assert listed == [(rule["alert"], rule["labels"]["severity"]) for rule in RULES]


def test_the_page_has_a_section_for_each_alert() -> None:
    sections = re.findall(r"^(\w+)\n~+\n", PAGE, re.MULTILINE)
    assert sections == [rule["alert"] for rule in RULES]


def test_panels_that_alerts_and_the_page_name_exist() -> None:
    titles = {panel["title"] for name in BOARDS for panel in board(name)["panels"]}
    quoted = [
        name
        for rule in RULES
        for name in re.findall(r'"([^"]+)"', rule["annotations"]["description"])
        if not name.startswith("predis")
    ]
    assert set(quoted) - titles == set()
    # Grafana's own menu is emphasized too.
    emphasized = set(re.findall(r"(?<!\*)\*([^*\n]+)\*(?!\*)", PAGE))
    assert emphasized - titles == {"Dashboards", "New", "Import"}


@needs_promtool
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yml"),  # and the rules that it names
        ("test", "rules", "alerts_test.yml"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_promtool_agrees(arguments: tuple[str, ...]) -> None:
    assert PROMTOOL is not None
    ran = subprocess.run(
        [PROMTOOL, *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_each_alert_has_a_unit_test() -> None:
    """One in which it fires: the first one says that all is well."""
    tested = (FOLDER / "alerts_test.yml").read_text()
    assert [rule["alert"] for rule in RULES if f'alertname="{rule["alert"]}"' not in tested] == []
