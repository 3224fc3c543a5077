"""Moves posts in the top list: baseplate-script service.ini worker:main"""

from baseplate import Baseplate
from baseplate.clients.redis import MessageQueue, RedisClient, pool_from_config
from baseplate.lib.message_queue import TimedOutError


def rank(context, number):
    votes = context.redis.hvals(f"votes:{number}")
    context.redis.zadd("top", {number: sum(int(vote) for vote in votes)})


def main(app_config):
    baseplate = Baseplate(app_config)
    baseplate.configure_context({"redis": RedisClient()})
    rankings = MessageQueue("rankings", pool_from_config(app_config, "redis."))
    while True:
        try:
            message = rankings.get(timeout=30)
        except TimedOutError:
            continue
        with baseplate.server_context("rank") as context:
            rank(context, int(message))
