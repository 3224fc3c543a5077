"""Response bodies that report their end.

A WSGI server iterates over the body and closes it after the application has returned. Spans and
connections may be needed until then.
"""

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

# The private attribute, since assigning to ``app_iter`` removes the Content-Length. A response
# object that answers several requests at once would be sent without it.
_WEBOB_BODY = "_app_iter"


def body_of(response: Response) -> Any:
    """Return the body of a WebOb response; ``None`` if the response is of another class."""
    return vars(response).get(_WEBOB_BODY)


def follow_body(
    request: Request,
    response: Response,
    span: Span,
    context: Context,
    end_span: Callable[[Span, BaseException | None], None] = end_server_span,
) -> TrackedBody | None:
    """Replace the body of a response by a :class:`TrackedBody` and return that.

    Return ``None`` if the response isn't WebOb's, has no body, or its body is the server's own file
    wrapper. Parameters are those of :class:`TrackedBody`.
    """
    body = body_of(response)
    if type(body) is list:  # nearly all are
        if body == [b""]:
            # Pyramid and WebOb write the text of an HTTP exception when the server calls it, but
            # only if it has no body: a tracked one would count as a body.
            return None
    else:
        file_wrapper = request.environ.get("wsgi.file_wrapper")
        if body is None or (isinstance(file_wrapper, type) and isinstance(body, file_wrapper)):
            return None  # the server recognizes its file wrapper and sends the file without copying
        if isinstance(body, TrackedBody):
            body = body.body  # an application may use one response object for many requests
    followed = TrackedBody(body, span, context, end_span)
    setattr(response, _WEBOB_BODY, followed)
    return followed


class TrackedBody:
    """A response's body that ends the request when it is exhausted, closed, or raises.

    It has no position of its own: an application may answer several requests with one response
    object at the same time, so each iteration is separate.

    :param body: the application's body.
    :param span: the request's server span, which is ended.
    :param context: the OpenTelemetry context in which the body is made.
    :param end_span: ends the span; called with the exception that stopped the sending, if any.
    """

    def __init__(
        self,
        body: Iterable[bytes],
        span: Span,
        context: Context,
        end_span: Callable[[Span, BaseException | None], None] = end_server_span,
    ) -> None:
        self.body = body
        # Iterating over these and closing them runs no code that needs the context.
        self._is_complete = type(body) is list or type(body) is tuple
        self.at_end: Callable[[], None] | None = None
        self._span = span
        self._context = context
        self._end_span = end_span

    def _end(self, error: BaseException | None = None) -> None:
        self._end_span(self._span, error)
        if self.at_end is not None:
            self.at_end()

    def __iter__(self) -> _Chunks:
        return _CompleteChunks(self) if self._is_complete else _Chunks(self)

    def next_chunk(self, chunks: Iterator[bytes]) -> bytes:
        """Return the next of ``chunks``, made while the request's context is current."""
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
        """Close the body and end the request.

        WSGI servers call this after every response, even if sending it failed.
        """
        if self._is_complete:
            self._end()
            return
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
        # WebOb looks for ``app_iter_range`` on the bodies of files.
        if name == "body":  # a copy in the making has no attributes yet; don't recurse
            raise AttributeError(name)
        return getattr(self.body, name)

    def __del__(self) -> None:
        self._end()


class _Chunks:
    """An iteration over a :class:`TrackedBody`.

    Closing it closes the body: for some responses WebOb closes the iterator, not the body.
    """

    __slots__ = ("_body", "_chunks")

    def __init__(self, body: TrackedBody) -> None:
        self._body = body
        self._chunks = iter(body.body)

    def __iter__(self) -> _Chunks:
        return self

    def __next__(self) -> bytes:
        return self._body.next_chunk(self._chunks)

    def close(self) -> None:
        self._body.close()


class _CompleteChunks(_Chunks):
    """An iteration over the body of a list or a tuple."""

    __slots__ = ()

    def __next__(self) -> bytes:
        try:
            return next(self._chunks)
        except StopIteration:
            self._body.close()
            raise
