"""gunicorn --config gunicorn.gevent.conf.py --paste production.ini"""

bind = "0.0.0.0:8080"
workers = 2
worker_class = "gevent"
# How many requests a worker handles at the same time.
worker_connections = 100

timeout = 30
graceful_timeout = 20
control_socket_disable = True
