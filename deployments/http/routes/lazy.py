"""A route that is looked through by its first request, not as it is added.

FastAPI reads the signature, makes the models and the validators of every endpoint when it is added:
for all of ours that is a fifth of a second of a router's start, mostly for what nobody will call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi.routing import APIRoute
from starlette.routing import compile_path


class LazyRoute(APIRoute):
    """Knows at once what requests are matched by; the rest when it is first asked for.

    What FastAPI raises of an endpoint that it cannot serve is raised by then.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **how: Any) -> None:
        self._how = how
        self.path, self.endpoint = path, endpoint
        self.path_regex, self.path_format, self.param_convertors = compile_path(path)
        self.methods = {method.upper() for method in how.get("methods") or ["GET"]}

    def __getattr__(self, name: str) -> Any:
        """Called for what is not there: all of it comes, once."""
        how: dict[str, Any] | None = vars(self).pop("_how", None)
        if how is None:
            raise AttributeError(name)
        super().__init__(self.path, self.endpoint, **how)
        return getattr(self, name)
