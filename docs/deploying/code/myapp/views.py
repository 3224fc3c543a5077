"""The pages of the application."""

import os

from pyramid.view import view_config


@view_config(route_name="home", renderer="json")
def home(request):
    """Count a visit. The answer names the process that gave it."""
    return {"visits": request.foo.incr("visits"), "process": os.getpid()}


@view_config(route_name="invoice", request_method="POST", renderer="json")
def invoice(request):
    """Put a message on the queue of the worker."""
    return {"message": request.jobs.put_json({"invoice": 17})}


@view_config(route_name="live", renderer="string")
def live(request):
    """Answer without Redis: restarting this process would not bring Redis back."""
    return "ok"
