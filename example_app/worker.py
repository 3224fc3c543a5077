"""The worker's handler: it adds each click in the queue to the statistics.

predis work example_app/development.ini clicks example_app.worker:handle
"""

from __future__ import annotations

import logging

from pyramid.request import Request

from example_app.links import Click, keep_click
from pyramid_baseplate_redis import DurableMessage

logger = logging.getLogger("example_app.worker")


def handle(request: Request, message: DurableMessage) -> None:
    """Add the click in a message to the statistics.

    If the worker dies after that and before the message is acknowledged, another worker adds the
    click again: some clicks may count twice, but none is lost.

    :raises ValueError: the message is not a click. After six attempts it becomes a dead letter.
    """
    click = Click.from_message(message.body)
    keep_click(request.links, click)
    logger.info("kept a click on %s", click.code)
