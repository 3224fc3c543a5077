"""Moves posts in the top list: predis work service.ini ranking_jobs worker:rank"""


def rank(request, message):
    number = message.json["post"]
    votes = request.redis.hvals(f"votes:{number}")
    request.redis.zadd("top", {number: sum(int(vote) for vote in votes)})
