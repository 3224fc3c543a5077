"""Settings of other libraries, as their documentation and the cookiecutters write them."""

from __future__ import annotations

# By the library or the source: the lines of its .ini files.
OF_OTHERS = {
    "pyramid-cookiecutter-starter": """
        pyramid.reload_templates = true
        pyramid.debug_authorization = false
        pyramid.debug_notfound = false
        pyramid.debug_routematch = false
        pyramid.default_locale_name = en
        pyramid.includes = pyramid_tm
        debugtoolbar.hosts = 127.0.0.1 ::1
        retry.attempts = 3
        zodbconn.uri = file:///srv/app/Data.fs?connection_cache_size=20000
        auth.secret = seekrit
    """,
    "SQLAlchemy": """
        sqlalchemy.url = sqlite:////srv/app/app.sqlite
        sqlalchemy.pool_timeout = 30
        sqlalchemy.pool_recycle = 3600
        sqlalchemy.pool_size = 10
        sqlalchemy.max_overflow = 20
        sqlalchemy.echo = false
        sqlalchemy.connect_args = {"timeout": 5}
        sqlalchemy.isolation_level = READ COMMITTED
        replica.url = postgresql+psycopg://user:secret@db.example:5432/app
        reporting.url = mysql://db.example/reports
        alembic.script_location = app:migrations
    """,
    "pyramid_celery and Celery": """
        celery.broker_url = redis://localhost:6379/1
        celery.result_backend = redis://localhost:6379/2
        celery.imports = app.tasks
        celery.task_default_queue = default
        celery.queue = default
        celery.redis_socket_timeout = 30
        celery.redis_max_connections = 20
        broker.url = amqp://guest@localhost:5672//
        kombu.url = sentinel://localhost:26379
    """,
    "pyramid_mailer": """
        mail.host = localhost
        mail.port = 25
        mail.username = user
        mail.password = secret
        mail.default_sender = app@example.com
        mail.tls = false
        mail.queue_path = /srv/app/mail
    """,
    "dogpile.cache": """
        cache.redis.backend = dogpile.cache.redis
        cache.redis.arguments.host = localhost
        cache.redis.arguments.port = 6379
        cache.redis.arguments.db = 0
        cache.redis.arguments.url = redis://localhost:6379/3
        cache.redis.arguments.socket_timeout = 3
        cache.redis.url = redis://localhost:6379/3
        dogpile.cache.backend = dogpile.cache.redis
        dogpile.cache.arguments.url = redis://localhost:6379
        dogpile.cache.expiration_time = 10000
        dogpile_cache.default.arguments.url = redis://localhost
        cache.memcached.arguments.url = 127.0.0.1:11211
    """,
    "Beaker": """
        session.type = ext:database
        session.url = postgresql://localhost/sessions
        session.key = app
        session.secret = seekrit
        session.timeout = 3600
        session.redis.url = redis://localhost:6379/5
        cache.type = ext:memcached
        cache.url = 127.0.0.1:11211
        cache.regions = short_term, long_term
        beaker.session.type = ext:redis
        beaker.session.url = redis://localhost:6379/4
        beaker.session.lock_dir = /srv/app/lock
        beaker.cache.url = redis://localhost:6379/4
    """,
    "pyramid_session_redis": """
        redis.sessions.secret = seekrit
        redis.sessions.url = redis://localhost:6379/0
        redis.sessions.timeout = 1200
        redis.sessions.cookie_name = session
        redis.sessions.host = localhost
        redis.sessions.port = 6379
        redis.sessions.db = 0
        redis.sessions.socket_timeout = 5
        redis.sessions.unix_socket_path = /run/redis.sock
        session.factory.url = redis://localhost:6379/0
    """,
    "Kotti": """
        kotti.site_title = My site
        kotti.secret = seekrit
        kotti.configurators = kotti_tinymce.kotti_configure
        kotti.default_workflow = kotti:workflows/simple.zcml
        kotti.depot.0.backend = depot.io.local.LocalFileStorage
        mail.default_sender = yourname@yourhost
    """,
    "other servers": """
        mongo_uri = mongodb://localhost:27017/app
        mongo.url = mongodb://localhost:27017/app
        mongodb.url = mongodb+srv://cluster.example/app
        elasticsearch.url = http://localhost:9200
        opensearch.url = https://user:secret@search.example:9200
        solr.url = http://localhost:8983/solr/core
        api.url = https://api.example/v1
        api.timeout = 5
        api.retries = 3
        sentry.url = https://key@sentry.example/1
        memcached.url = localhost:11211
        memcached.max_connections = 10
        rabbitmq.url = amqps://user:secret@mq.example/%%2F
        rabbitmq.queue = tasks
        rabbitmq.exchange = app
        sqs.queue = app-tasks
        sqs.region = eu-central-1
        kafka.url = kafka1:9092,kafka2:9092
        s3.url = https://s3.example
        statsd.host = localhost
        statsd.port = 8125
        ldap.url = ldaps://ldap.example
        influx.url = http://localhost:8086
        oauth.redirect_uri = https://app.example/callback
        oidc.uri = https://login.example
        site.urls = https://a.example https://b.example
        db.host = localhost
        db.port = 5432
        db.username = app
        db.password = ${DB_PASSWORD}
        database.url = ${DATABASE_URL}
        docs.url = /docs
        static.url = static
    """,
    "pyramid_debugtoolbar and pyramid_tm": """
        debugtoolbar.enabled = false
        debugtoolbar.active_panels = performance
        tm.attempts = 3
        tm.commit_veto = pyramid_tm.default_commit_veto
        tm.manager_hook = pyramid_tm.explicit_manager
    """,
    "this package's testing kit": """
        baseplate_redis.testing.url = redis://localhost:6379/9
    """,
    "limits, RQ and flower": """
        ratelimit.storage_uri = redis://localhost:6379/7
        rq.redis_url = redis://localhost:6379/8
        redis_url = redis://localhost:6379/9
        flower.broker_api = http://localhost:15672/api/
        scheduler.jobstore.redis.url = redis://localhost
    """,
}
