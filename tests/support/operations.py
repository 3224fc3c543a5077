"""Operations of a monitored client."""

from __future__ import annotations

from pyramid_baseplate_redis import MonitoredRedisConnection


def get(client: MonitoredRedisConnection) -> None:
    client.get("key")


def execute_pipeline(client: MonitoredRedisConnection) -> None:
    client.pipeline().get("key").execute()


def watch(client: MonitoredRedisConnection) -> None:
    with client.pipeline() as pipeline:
        pipeline.watch("key")


def subscribe(client: MonitoredRedisConnection) -> None:
    with client.pubsub() as subscriber:
        subscriber.subscribe("news")


def put(client: MonitoredRedisConnection) -> None:
    client.message_queue("jobs").put("a message")


def take(client: MonitoredRedisConnection) -> None:
    client.message_queue("jobs").get(2)


def use_everything(client: MonitoredRedisConnection) -> None:
    client.set("key", "value")
    with client.pipeline("pair") as pipeline:
        pipeline.watch("key")
        pipeline.get("key")
        pipeline.multi()
        pipeline.get("key").get("key").execute()
