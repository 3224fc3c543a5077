"""request.session: sessions in the Redis of request.store."""

import json
from pathlib import Path

from pyramid_session_redis import RedisSessionFactory
from pyramid_session_redis.util import prefixed_id


def includeme(config):
    secret = Path(config.get_settings()["session.secret_file"]).read_text().strip()
    make_session = RedisSessionFactory(
        secret,
        timeout=20 * 60,  # seconds
        cookie_samesite="lax",
        redis_client_callable=lambda request, **options: request.store,
        id_generator=prefixed_id,  # the keys are session:...
        serialize=lambda session: json.dumps(session).encode(),
        deserialize=json.loads,
        python_expires=False,  # Redis deletes what has expired
    )

    def session_factory(request):
        session = make_session(request)
        # Store a new session now. The library would do so after the view, where an error of Redis
        # can no longer be shown on a page of ours.
        session.ensure_id()
        return session

    config.set_session_factory(session_factory)
    config.set_default_csrf_options(require_csrf=True)
