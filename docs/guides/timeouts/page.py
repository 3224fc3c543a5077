"""A page that must answer within 500 ms, with a cache that may be missing."""

import json
import logging
import time

import redis
from pyramid.config import Configurator

logger = logging.getLogger(__name__)

DATABASE_SECONDS = 0.25  # the longest that the database's own timeout allows


def load_prices():
    """Stand for a query of the database."""
    time.sleep(DATABASE_SECONDS)
    return {"tea": 3.5, "coffee": 4}


def prices(request):
    try:
        cached = request.cache.get("prices")
    except redis.RedisError as error:
        logger.warning("the cache failed: %s", error)
        return load_prices()  # without a set, which would have to wait, too
    if cached is not None:
        return json.loads(cached)
    found = load_prices()
    try:
        request.cache.set("prices", json.dumps(found), ex=60)
    except redis.RedisError as error:
        logger.warning("the cache failed: %s", error)
    return found


def basket(request):
    try:
        with request.cache.within(0.1) as cache:  # all calls of the block together
            return [cache.get(f"price:{number}") for number in range(30)]
    except redis.RedisError as error:
        logger.warning("the cache failed: %s", error)
        return load_prices()


def main(global_config, **settings):
    with Configurator(settings=settings) as config:
        config.include("pyramid_baseplate_redis")
        config.add_redis_health_view("/health/redis")
        config.add_route("prices", "/prices")
        config.add_view(prices, route_name="prices", renderer="json")
        config.add_route("basket", "/basket")
        config.add_view(basket, route_name="basket", renderer="json")
    return config.make_wsgi_app()
