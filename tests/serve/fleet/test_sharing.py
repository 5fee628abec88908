"""Two routers and two vocoders have one memory: what one had encoded, the other finds."""

from __future__ import annotations

import pytest

from tests.serve.service_client import ServiceClient, clip_of_its_own, cloned
from tests.waiting import eventually

pytestmark = pytest.mark.serve


def test_routers_share_what_one_of_them_had_encoded(many: ServiceClient):
    """Two routers and two vocoders: one encode, the other router answers from the object store."""
    request, before = cloned(*clip_of_its_own(), cache="off"), many.encodes()
    assert eventually(lambda: len(many.replicas("Router")) == 2)
    tiers: set[str] = set()
    contents: set[bytes] = set()

    def both_have_answered() -> bool:
        replies = [many.http.post("/v1/audio/speech", json=request) for _ in range(8)]
        tiers.update(reply.headers["x-cache"] for reply in replies)
        contents.update(reply.content for reply in replies)
        return {"miss", "l2"} <= tiers

    assert eventually(both_have_answered), tiers
    assert many.encodes() == before + 1
    assert tiers <= {"miss", "l1", "l2"}
    assert len(contents) == 1
