"""gunicorn --config gunicorn.preload.conf.py --paste production.ini#preloaded"""

from myapp.telemetry import set_up_tracing

bind = "0.0.0.0:8080"
workers = 2
worker_class = "gthread"
threads = 8
preload_app = True

timeout = 30
graceful_timeout = 20
control_socket_disable = True


def post_fork(server, worker):
    set_up_tracing()
