"""Keeps clicks for the statistics, a message of the queue at a time.

predis work example_app/development.ini clicks example_app.worker:handle
"""

from __future__ import annotations

import logging

from example_app.links import Click, keep_click
from pyramid_baseplate_redis import DurableMessage, ServerContext

logger = logging.getLogger("example_app.worker")


def handle(context: ServerContext, message: DurableMessage) -> None:
    """Keep the click that a message tells of.

    Should the worker die behind that, another one keeps the click again: the statistics may count
    some twice, but none is lost.

    :raises ValueError: if it is no click; after five attempts it is a dead letter.
    """
    click = Click.from_message(message.body)
    keep_click(context.links, click)
    logger.info("kept a click on %s", click.code)
