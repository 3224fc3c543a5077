"""A page with many fast commands and one slow one, whose spans go where the variables say."""

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from pyramid.config import Configurator


def set_up_tracing():
    provider = TracerProvider()  # OTEL_SERVICE_NAME and the sampler come from the environment
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def home(request):
    for number in range(40):
        request.foo.get(f"price:{number}")
    with request.foo.pipeline("visit") as pipeline:
        pipeline.incr("visits").expire("visits", 3600)
        pipeline.execute()
    request.foo.wait(1, 50)  # for a replica, which does not exist, for 50 milliseconds
    return {}


def price(request):
    return {"known": request.foo.exists("price:1")}


def main(global_config, **settings):
    with Configurator(settings=settings) as config:
        config.include("pyramid_baseplate_redis")
        config.add_route("home", "/")
        config.add_view(home, route_name="home", renderer="json")
        config.add_route("price", "/price")
        config.add_view(price, route_name="price", renderer="json")
    return config.make_wsgi_app()
