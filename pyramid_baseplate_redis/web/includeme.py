"""The set-up of an application by ``config.include("pyramid_baseplate_redis")``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.trace import Span
from pyramid.config import PHASE2_CONFIG
from pyramid.events import ApplicationCreated, ContextFound, NewResponse
from pyramid.request import Request
from pyramid.tweens import EXCVIEW, INGRESS, MAIN

from ..exceptions import ConfigurationError
from ..health.probes import Probes
from ..health.view import add_redis_health_view
from ..interfaces import IRedisContextFactory, IRedisProbes
from ..settings.fields import PACKAGE_PREFIX
from ..settings.package import package_settings
from .client_directive import add_redis_client, discover_clients
from .queue_directive import DISCOVERY, add_message_queue, discover_queues
from .queues_page.directive import add_redis_queues_view
from .request_cleanup import await_body
from .setting_place import settings_action
from .startup_log import log_clients
from .totals_tween import TOTALS_TWEEN, follow_totals, take_totals
from .tween import OPENTELEMETRY_TWEEN, SERVER_SPAN_TWEEN, adopt_span, follow_response

if TYPE_CHECKING:
    from pyramid.config import Configurator


def configure(config: Configurator) -> None:
    """Add the directives, ``request.span``, the tweens, the subscribers and the discovery."""
    config.add_directive("add_redis_client", add_redis_client)
    config.add_directive("add_message_queue", add_message_queue)
    config.add_directive("add_redis_health_view", add_redis_health_view)
    config.add_directive("add_redis_queues_view", add_redis_queues_view)
    config.registry.registerUtility(Probes(), IRedisProbes)
    config.add_request_method(request_span, "span", reify=True)
    config.add_tween(SERVER_SPAN_TWEEN, under=INGRESS, over=(EXCVIEW, MAIN))
    config.add_tween(
        TOTALS_TWEEN,
        under=(OPENTELEMETRY_TWEEN, SERVER_SPAN_TWEEN, INGRESS),
        over=(EXCVIEW, MAIN),
    )
    config.add_subscriber(adopt_current_span, ContextFound)
    config.add_subscriber(take_totals, ContextFound)
    config.add_subscriber(follow_response, NewResponse)
    config.add_subscriber(follow_totals, NewResponse)
    config.add_subscriber(await_body, NewResponse)
    config.add_subscriber(log_clients, ApplicationCreated)
    # Deferred until the application has added its settings and declared its clients.
    for name, action, order in (
        ("discover redis clients", discover_clients, PHASE2_CONFIG),
        ("discover message queues", discover_queues, DISCOVERY),
        ("print spans", print_spans_if_set, DISCOVERY),
    ):
        settings_action(config, name, partial(action, config), order=order)


def print_spans_if_set(config: Configurator) -> None:
    """Print the spans of this process if the setting ``baseplate_redis.print_spans`` is true.

    :raises ConfigurationError: the OpenTelemetry SDK is missing, or another one is in use.
    """
    if not package_settings(config.registry).print_spans:
        return
    key = f"{PACKAGE_PREFIX}print_spans"
    try:
        from ..telemetry.span_printer import print_spans  # needs the SDK, which is optional
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("opentelemetry.sdk"):
            raise
        raise ConfigurationError(
            f"{key}: the OpenTelemetry SDK is not installed. Install "
            "pyramid_baseplate_redis[dev], or remove this setting."
        ) from None
    try:
        print_spans()
    except TypeError as error:
        raise ConfigurationError(f"{key}: {error}. Remove this setting.") from None


def request_span(request: Request) -> Span:
    """Return the request's span: the current span, unless the tween has set another one.

    It is an invalid span if there is none, as in a script without :func:`server_context`.
    """
    return trace.get_current_span()


def adopt_current_span(event: ContextFound) -> None:
    """Make the span of OpenTelemetry's Pyramid instrumentation the request's span.

    That span starts after the outer tweens and ends before the response is sent. Commands that run
    after its end are still its children.
    """
    request = event.request
    if request.span.get_span_context().is_valid:
        return
    current = trace.get_current_span()
    if not current.get_span_context().is_valid:
        return
    clients = [name for name, _ in request.registry.getUtilitiesFor(IRedisContextFactory)]
    adopt_span(request, current, clients)
