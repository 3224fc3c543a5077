"""What Pyramid sees: directives, request methods, the tween, the end of a request."""
