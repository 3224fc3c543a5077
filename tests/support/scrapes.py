"""A client and its samples in a scrape of Prometheus."""

from __future__ import annotations

from typing import Any

from prometheus_client import REGISTRY

from pyramid_baseplate_redis import RedisClient
from pyramid_baseplate_redis.prometheus import observe_client


class Measured:
    """A client with a ``redis_client_name`` of its own, and what the scrape tells of it."""

    def __init__(self, url: str, name: str, redis_type: str = "standalone", **settings: str):
        self.name = name
        self.redis_type = redis_type
        own = {f"{name}.{key}": value for key, value in settings.items()}
        self.factory: Any = RedisClient(name).parse(name, {f"{name}.url": url, **own})
        observe_client(self.factory)
        self.pool: Any = self.factory.connection_pool
        self.client: Any = self.factory.make_object_for_context(name, None)

    def sample(self, metric: str, command: str, **more: str) -> float | None:
        labels = {
            "redis_command": command,
            "redis_database": "0",
            "redis_client_name": self.name,
            "redis_type": self.redis_type,
        }
        return REGISTRY.get_sample_value(f"redis_client_{metric}", {**labels, **more})

    def requests(self, command: str) -> dict[str, float]:
        """How many there were, by ``redis_success``."""
        found = {
            success: self.sample("requests_total", command, redis_success=success)
            for success in ("true", "false")
        }
        return {success: number for success, number in found.items() if number is not None}

    def active(self, command: str) -> float | None:
        return self.sample("active_requests", command)

    def pooled(self, metric: str) -> float | None:
        labels = {"redis_pool": self.name}
        return REGISTRY.get_sample_value(f"redis_client_pool_{metric}", labels)

    @property
    def commands(self) -> set[str]:
        """The label ``redis_command`` of all that was measured."""
        (family,) = [each for each in REGISTRY.collect() if each.name == "redis_client_requests"]
        own = [each for each in family.samples if each.labels["redis_client_name"] == self.name]
        return {each.labels["redis_command"] for each in own}
