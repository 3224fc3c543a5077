"""Idempotency keys: a POST that a client repeats is executed once, and answered as the first time.

``config.include("myapp.idempotency_keys")``, and then ``config.add_view(..., idempotent=True)``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import secrets
from collections.abc import Callable
from typing import Any

from pyramid.config import Configurator
from pyramid.httpexceptions import (
    HTTPBadRequest,
    HTTPConflict,
    HTTPServiceUnavailable,
    HTTPUnprocessableEntity,
)
from pyramid.request import Request
from pyramid.response import Response
from redis.exceptions import RedisClusterException, RedisError

logger = logging.getLogger(__name__)

RUNNING_SECONDS = 60  # longer than any of these requests takes; then the claim of a crash ends
KEPT_SECONDS = 24 * 3600  # how long a repeated request gets the stored response
UNAVAILABLE = (RedisError, RedisClusterException)
NOT_KEPT = {"content-length", "date", "set-cookie"}

View = Callable[[Any, Request], Response]


def idempotent_view(view: View, info: Any) -> View:
    """Derive a view that claims the request's idempotency key before it runs."""
    if not info.options.get("idempotent"):
        return view

    def idempotent(context: Any, request: Request) -> Response:
        claim = Claim(request)
        try:
            found = request.foo.set(claim.key, claim.value, nx=True, get=True, ex=RUNNING_SECONDS)
        except UNAVAILABLE as error:
            raise HTTPServiceUnavailable(headers={"Retry-After": "5"}) from error
        if found is not None:
            return repeated(json.loads(found), claim.fingerprint)
        # Both are called after the tweens: pyramid_tm has committed or aborted by then.
        request.add_response_callback(claim.store)
        request.add_finished_callback(claim.release)
        return view(context, request)

    return idempotent


idempotent_view.options = ("idempotent",)  # type: ignore[attr-defined]


def repeated(record: dict[str, Any], fingerprint: str) -> Response:
    """Answer a request whose key was used before."""
    if record["fingerprint"] != fingerprint:
        raise HTTPUnprocessableEntity("this Idempotency-Key was used for another request")
    if "body" not in record:
        raise HTTPConflict("the first request is still running", headers={"Retry-After": "1"})
    headers = [(name, value) for name, value in record["headers"]]
    headers.append(("Idempotent-Replayed", "true"))
    return Response(base64.b64decode(record["body"]), record["status"], headers)


class Claim:
    """The claim of a request to its key, which the response replaces."""

    # Only the request that has the claim may replace it: it can expire while the view runs.
    REPLACE = """
    if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
    if ARGV[2] == '' then return redis.call('DEL', KEYS[1]) end
    redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
    return 1
    """

    def __init__(self, request: Request) -> None:
        header = request.headers.get("Idempotency-Key")
        if not header:
            raise HTTPBadRequest("the header Idempotency-Key is missing")
        # A key belongs to a user. Otherwise another user could read the stored response.
        self.key = f"idempotency:{digest(request.authenticated_userid or '', header)}"
        self.fingerprint = digest(request.method, request.path_qs, request.body)
        claim = {"fingerprint": self.fingerprint, "claim": secrets.token_hex(16)}
        self.value = json.dumps(claim)
        self.is_over = False

    def store(self, request: Request, response: Response) -> None:
        """Keep the response for repeated requests, unless the server has failed."""
        if response.status_int >= 500:
            return
        headers = [item for item in response.headerlist if item[0].lower() not in NOT_KEPT]
        body = base64.b64encode(response.body).decode()
        record = {"status": response.status, "headers": headers, "body": body}
        self.replace(request, json.dumps({"fingerprint": self.fingerprint, **record}))

    def release(self, request: Request) -> None:
        """Let a repeated request run, since this one has no response to store."""
        if not self.is_over:
            self.replace(request, "")

    def replace(self, request: Request, record: str) -> None:
        self.is_over = True
        try:
            replace = request.foo.register_script(self.REPLACE)
            if not replace(keys=[self.key], args=[self.value, record, KEPT_SECONDS]):
                logger.warning("%s: the claim expired while the view was running", self.key)
        except UNAVAILABLE:
            # The transaction is committed, and the client must get its response.
            logger.exception("%s: the response was not stored", self.key)


def digest(*parts: str | bytes) -> str:
    whole = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode()
        whole.update(b"%d:%b" % (len(data), data))
    return whole.hexdigest()


def includeme(config: Configurator) -> None:
    config.add_view_deriver(idempotent_view)
