"""Moves posts in the top list: python worker.py service.ini"""

import sys

from pyramid.paster import bootstrap

from pyramid_baseplate_redis import MessageQueue, TimedOutError, pool_from_config, server_context


def rank(context, number):
    votes = context.redis.hvals(f"votes:{number}")
    context.redis.zadd("top", {number: sum(int(vote) for vote in votes)})


def main(registry):
    rankings = MessageQueue("rankings", pool_from_config(registry.settings, "redis."))
    while True:
        try:
            message = rankings.get(timeout=30)
        except TimedOutError:
            continue
        with server_context(registry, "rank") as context:
            rank(context, int(message))


if __name__ == "__main__":
    with bootstrap(sys.argv[1]) as env:
        main(env["registry"])
