"""The page while Redis cannot be reached."""

import redis
from pyramid.response import Response
from pyramid.view import exception_view_config


@exception_view_config(redis.ConnectionError)
@exception_view_config(redis.TimeoutError)
def unavailable(error, request):
    response = Response("The board is having a break. Please try again soon.\n", status=503)
    response.retry_after = 5  # seconds
    return response
