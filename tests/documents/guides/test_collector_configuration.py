"""The collector's configuration in docs/guides/trace-backends is consistent."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from .shop_page import FILES

COMPONENTS = {
    "receivers": {"otlp"},
    "processors": {"memory_limiter", "batch", "tail_sampling"},
    "exporters": {"otlp_http"},
}


def collector_configuration(*files: str) -> dict[str, Any]:
    """Merge files as the collector does with several --config: later ones replace lists."""
    merged: dict[str, Any] = {}
    for name in files:
        _merge(merged, yaml.safe_load((FILES / name).read_text()))
    return merged


def _merge(into: dict[str, Any], other: dict[str, Any]) -> None:
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


@pytest.mark.parametrize("files", [["collector.yaml"], ["collector.yaml", "tail-sampling.yaml"]])
def test_the_collectors_pipeline_names_what_is_configured(files: list[str]) -> None:
    configuration = collector_configuration(*files)
    (pipeline,) = configuration["service"]["pipelines"].values()
    for kind, known in COMPONENTS.items():
        assert set(pipeline[kind]) <= set(configuration[kind])
        assert {name.partition("/")[0] for name in configuration[kind]} <= known
    # The limiter has to be first, and batches are made of what is kept.
    assert pipeline["processors"][0] == "memory_limiter"
    assert pipeline["processors"][-1] == "batch"


def test_each_policy_has_the_settings_of_its_type() -> None:
    configuration = collector_configuration("tail-sampling.yaml")
    policies = configuration["processors"]["tail_sampling"]["policies"]
    assert all(set(policy) == {"name", "type", policy["type"]} for policy in policies)
    assert {policy["type"] for policy in policies} == {
        "status_code", "latency", "ottl_condition", "probabilistic",
    }  # fmt: skip
