"""Imported by uWSGI, which calls the hook in each worker after its fork."""

from pyramid.paster import setup_logging
from uwsgidecorators import postfork

from .telemetry import set_up_tracing

# uWSGI's own option paste-logger cannot read the name of an .ini file that ends with #preloaded.
setup_logging("production.ini")
postfork(set_up_tracing)
