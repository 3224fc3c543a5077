"""Integration with Pyramid: directives, request attributes, the tween and subscribers."""
