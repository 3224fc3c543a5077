"""Response callbacks hold for their own client and its pipelines only."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry import trace

from pyramid_baseplate_redis import RedisContextFactory


def shout(response: bytes | None, **options: Any) -> str:
    return "SHOUTED"


def test_a_response_callback_holds_for_its_client(factory: RedisContextFactory) -> None:
    client = factory.make_object_for_context("foo", None)
    client.set_response_callback("get", shout)
    assert client.get("key") == "SHOUTED"


def test_a_response_callback_holds_for_the_clients_pipelines(factory: RedisContextFactory) -> None:
    client = factory.make_object_for_context("foo", None)
    client.set_response_callback("GET", shout)
    assert client.pipeline().get("key").execute() == ["SHOUTED"]


def test_a_response_callback_never_reaches_another_client(factory: RedisContextFactory) -> None:
    before = factory.make_object_for_context("foo", None)
    factory.make_object_for_context("foo", None).set_response_callback("GET", shout)
    after = factory.make_object_for_context("foo", None)
    assert (before.get("key"), after.get("key")) == (None, None)


def test_a_response_callback_never_reaches_a_client_bound_from_its_own(
    factory: RedisContextFactory,
) -> None:
    client = factory.make_object_for_context("foo", None)
    client.set_response_callback("EXISTS", shout)
    twin = client.bound_to(trace.INVALID_SPAN)
    client.set_response_callback("GET", shout)
    assert twin.get("key") is None


def test_a_pipelines_response_callback_never_reaches_another_client(
    factory: RedisContextFactory,
) -> None:
    other = factory.make_object_for_context("foo", None)
    pipeline = factory.make_object_for_context("foo", None).pipeline()
    pipeline.set_response_callback("GET", shout)
    assert pipeline.get("key").execute() == ["SHOUTED"]
    assert other.get("key") is None


@pytest.mark.parametrize("module", ["json", "ft", "ts", "bf"])
def test_a_module_on_a_pipeline_never_reaches_another_clients_callbacks(
    factory: RedisContextFactory, module: str
) -> None:
    other = factory.make_object_for_context("foo", None)
    known = dict(other.response_callbacks)
    getattr(factory.make_object_for_context("foo", None).pipeline(), module)()
    assert dict(other.response_callbacks) == known


@pytest.mark.parametrize("module", ["json", "ft", "ts", "bf", "topk"])
def test_a_modules_callbacks_never_reach_another_client(
    factory: RedisContextFactory, module: str
) -> None:
    other = factory.make_object_for_context("foo", None)
    known = dict(other.response_callbacks)
    getattr(factory.make_object_for_context("foo", None), module)()
    assert dict(other.response_callbacks) == known
    assert dict(factory.make_object_for_context("foo", None).response_callbacks) == known
