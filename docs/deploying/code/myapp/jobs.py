"""The handler of the message queue."""

import time


def handle(request, message):
    """Send an invoice, which takes a second. A set notes it once, however often it is handled."""
    time.sleep(1)
    request.foo.sadd("sent", message.json["invoice"])
