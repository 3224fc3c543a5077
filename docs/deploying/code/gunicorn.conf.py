"""gunicorn --config gunicorn.conf.py --paste production.ini"""

bind = "0.0.0.0:8080"
workers = 2
worker_class = "gthread"
threads = 8

# A worker that does not answer the master for this long is killed.
timeout = 30
# After SIGTERM, a worker may take this long to finish the requests that it has begun.
graceful_timeout = 20

# The control socket is in the user's home directory, which a container may not have.
control_socket_disable = True
