"""Takes clicks off the queue and keeps them for the statistics.

python -m example_app.worker example_app/development.ini
"""

from __future__ import annotations

import argparse
import logging
import signal
import threading
from typing import TYPE_CHECKING, Any

import redis
from pyramid.paster import bootstrap, setup_logging

from example_app.links import Click, keep_click
from pyramid_baseplate_redis import MessageQueue, TimedOutError, server_context

if TYPE_CHECKING:
    from pyramid.registry import Registry

logger = logging.getLogger("example_app.worker")

# The longest that a signal to stop waits.
POLL_SECONDS = 1


def main() -> None:
    """Run until SIGTERM or Ctrl+C; a click that was taken off the queue is kept before."""
    parser = argparse.ArgumentParser(prog="python -m example_app.worker", description=__doc__)
    parser.add_argument("config_uri", help="the .ini file of the app")
    config_uri = parser.parse_args().config_uri

    stopping = threading.Event()

    def stop(signal_number: int, frame: Any) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    setup_logging(config_uri)
    with bootstrap(config_uri) as env:
        logger.info("waiting for clicks; Ctrl+C stops")
        work(env["request"].clicks, env["registry"], stopping)
        logger.info("stopped")


def work(queue: MessageQueue, registry: Registry, stopping: threading.Event) -> None:
    """Take clicks off the queue until ``stopping`` is set."""
    while not stopping.is_set():
        try:
            handle(queue.get(timeout=POLL_SECONDS), registry)
        except TimedOutError:
            continue
        except (redis.ConnectionError, redis.TimeoutError) as error:
            logger.warning("Redis is away: %s", error)
            stopping.wait(POLL_SECONDS)


def handle(message: bytes, registry: Registry) -> None:
    """Keep the click that a message tells of, in a trace of its own."""
    with server_context(registry, "handle_click") as context:
        try:
            click = Click.from_message(message)
        except ValueError as error:
            logger.warning("dropped a message: %s", error)
            return
        keep_click(context.links, click)
        logger.info("kept a click on %s", click.code)


if __name__ == "__main__":
    main()
