"""Which async generators of ours run: each is a frame to close and to cancel."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.conftest import ROOT

OURS = tuple(str(ROOT / package) for package in ("pipeline", "deployments"))


@contextmanager
def generators() -> Iterator[list[str]]:
    """The async generators of our packages that begin meanwhile."""
    before, begun = sys.get_asyncgen_hooks(), list[str]()

    def begins(generator: Any) -> None:
        if generator.ag_code.co_filename.startswith(OURS):
            begun.append(generator.ag_code.co_qualname)
        if before.firstiter is not None:
            before.firstiter(generator)

    sys.set_asyncgen_hooks(begins, before.finalizer)
    try:
        yield begun
    finally:
        sys.set_asyncgen_hooks(*before)
