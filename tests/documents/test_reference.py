"""The reference has every setting, public name, metric and span attribute."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.metrics import MetricWrapperBase

from pyramid_baseplate_redis.prometheus import instruments
from pyramid_baseplate_redis.settings.client import SETTINGS
from pyramid_baseplate_redis.settings.fields import settings_of
from pyramid_baseplate_redis.settings.package import PackageSettings
from pyramid_baseplate_redis.settings.queue import QUEUE_SETTINGS
from pyramid_baseplate_redis.telemetry import metrics, semantic_conventions, span_outcomes
from pyramid_baseplate_redis.telemetry.messaging.spans import DELIVERY_COUNT
from pyramid_baseplate_redis.telemetry.request_totals import _Sums
from pyramid_baseplate_redis.testing.external_server import CLIENT_KEY, URL_KEY

inventory = pytest.importorskip("sphinx.util.inventory", reason="needs the extra docs")
pytestmark = [
    pytest.mark.slow("builds the site"),
    pytest.mark.skipif(
        sys.version_info < (3, 11), reason="sphinx-argparse-cli cannot show predis on Python 3.10"
    ),
]

DOCS = Path(__file__).parents[2] / "docs"
PACKAGE = "pyramid_baseplate_redis"
MODULES = ("debugtoolbar", "prometheus", "testing", "testing.fixtures", "testing.spans", "worker")
NAMED_AS_METRICS = (".duration", "_time", ".messages", ".count", ".max", "_requests", ".timeouts")
CONVENTIONS = {
    value
    for name, value in vars(semantic_conventions).items()
    if name.isupper() and name not in ("VERSION", "SCHEMA_URL")
}
METRICS = {name for name in CONVENTIONS if name.endswith(NAMED_AS_METRICS)}
# An attribute of metrics only.
STATE = semantic_conventions.DB_CLIENT_CONNECTION_STATE


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The objects that the site describes, by their kinds."""
    site = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "sphinx", "-W", "-n", "-q", str(DOCS), str(site)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = inventory.InventoryFile.loads((site / "objects.inv").read_bytes(), uri="")
    return {kind: set(objects) for kind, objects in found.data.items()}


def test_every_setting(described: dict[str, set[str]]) -> None:
    client = {f"foo.{name}" for name in ("url", *SETTINGS)}
    queue = {f"jobs.{name}" for name in QUEUE_SETTINGS}
    package = {f"baseplate_redis.{name}" for name in settings_of(PackageSettings)}

    assert described["std:setting"] == client | queue | package | {URL_KEY, CLIENT_KEY}


def public_names() -> Iterator[str]:
    """The names of ``__all__``, and in modules without one those that are defined there."""
    yield from (f"{PACKAGE}.{name}" for name in importlib.import_module(PACKAGE).__all__)
    for module_name in MODULES:
        module = importlib.import_module(f"{PACKAGE}.{module_name}")
        for name, value in vars(module).items():
            if name in getattr(module, "__all__", ()) or (
                not hasattr(module, "__all__")
                and not name.startswith("_")
                and inspect.getmodule(value) is module
            ):
                yield f"{PACKAGE}.{module_name}.{name}"


def test_every_public_name(described: dict[str, set[str]]) -> None:
    objects = {
        name for kind, names in described.items() if kind.startswith("py:") for name in names
    }

    assert set(public_names()) - objects == set()


def test_every_metric(described: dict[str, set[str]]) -> None:
    own = {value for name, value in vars(metrics).items() if name.startswith("QUEUE_")}
    prometheus = {
        metric.name + ("_total" if metric.type == "counter" else "")
        for instrument in vars(instruments).values()
        if isinstance(instrument, MetricWrapperBase)
        for metric in instrument.describe()
    }

    assert described["std:metric"] == METRICS | own | prometheus


def test_every_attribute(described: dict[str, set[str]]) -> None:
    own = {
        span_outcomes.WAIT_TIME,
        span_outcomes.RETRY_ATTEMPTS,
        span_outcomes.REDIRECTIONS,
        DELIVERY_COUNT,
    }
    sums = _Sums()
    sums.waited = 1.0
    totals = set(sums.attributes("foo"))

    assert described["std:span-attribute"] == CONVENTIONS - METRICS - {STATE} | own | totals
