"""The body of a response, followed until it has been sent: that is the end of a request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import Span

from ..telemetry.server_spans import end_server_span

if TYPE_CHECKING:
    from pyramid.request import Request
    from pyramid.response import Response

# Not WebOb's app_iter: to set that takes the Content-Length away, and a response object that
# answers several requests at once would be sent without it.
_WEBOB_BODY = "_app_iter"


def body_of(response: Response) -> Any:
    """The body as WebOb keeps it; ``None`` if it isn't a response of WebOb's."""
    return vars(response).get(_WEBOB_BODY)


def follow_body(
    request: Request, response: Response, span: Span, context: Context
) -> TrackedBody | None:
    """Put a :class:`TrackedBody` around the body of a response; ``None`` if that can't be done."""
    body = body_of(response)
    file_wrapper = request.environ.get("wsgi.file_wrapper")
    if body is None or (isinstance(file_wrapper, type) and isinstance(body, file_wrapper)):
        return None  # a server knows its own file wrapper, and sends the file without copying it
    if isinstance(body, TrackedBody):
        body = body.body  # one response object that answers many requests
    followed = TrackedBody(body, span, context)
    setattr(response, _WEBOB_BODY, followed)
    return followed


class TrackedBody:
    """A response's body; its end, or its closing, is the end of the request.

    It keeps no position: each iteration is the body's own, since an application may answer
    several requests with one response object, at the same time.

    :param body: what is sent.
    :param span: the request's server span, which ends then.
    :param context: is current while the body is made.
    """

    def __init__(self, body: Iterable[bytes], span: Span, context: Context) -> None:
        self.body = body
        self.at_end: Callable[[], None] | None = None
        self._span = span
        self._context = context

    def _end(self, error: BaseException | None = None) -> None:
        end_server_span(self._span, error)
        if self.at_end is not None:
            self.at_end()

    def __iter__(self) -> _Chunks:
        return _Chunks(self)

    def next_chunk(self, chunks: Iterator[bytes]) -> bytes:
        """The next of ``chunks``, made while the span is current."""
        token = otel_context.attach(self._context)
        try:
            return next(chunks)
        except StopIteration:
            self._end()
            raise
        except BaseException as error:
            self._end(error)
            raise
        finally:
            otel_context.detach(token)

    def close(self) -> None:
        """Close the body and end the span; WSGI servers call it whatever happened."""
        token = otel_context.attach(self._context)
        error: BaseException | None = None
        try:
            close = getattr(self.body, "close", None)
            if close is not None:
                close()
        except BaseException as raised:
            error = raised
            raise
        finally:
            otel_context.detach(token)
            self._end(error)

    def __getattr__(self, name: str) -> Any:
        # WebOb asks the body of a file for app_iter_range.
        if name == "body":  # not set yet, in a copy
            raise AttributeError(name)
        return getattr(self.body, name)

    def __del__(self) -> None:
        self._end()


class _Chunks:
    """One iteration over a :class:`TrackedBody`; WebOb closes an iteration in place of the body."""

    def __init__(self, body: TrackedBody) -> None:
        self._body = body
        self._chunks = iter(body.body)

    def __iter__(self) -> _Chunks:
        return self

    def __next__(self) -> bytes:
        return self._body.next_chunk(self._chunks)

    def close(self) -> None:
        self._body.close()
