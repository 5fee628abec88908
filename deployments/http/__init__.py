"""The HTTP API: routes, request bodies, replies."""
