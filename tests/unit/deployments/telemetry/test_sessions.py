"""What is counted of sessions over WebSockets."""

from __future__ import annotations

import pytest

from tests.http_app import http_app
from tests.talk import talk
from tests.unit.deployments.telemetry.conftest import Seen

pytestmark = pytest.mark.unit


async def test_sessions_their_ends_and_their_interruptions(seen: Seen) -> None:
    async with http_app() as app:
        async with talk(app.app) as one, talk(app.app) as other:
            for talking in (one, other):
                talking.configure()
                talking.say("ping")
                await talking.until("pong")
            assert max(value for (value,) in seen["timbre_sessions"]) == 2
            one.say("input.cancel", played_ms=0)
            await one.until("input.cancelled")
            one.say("session.close")
            assert await one.closed() == 1000
    assert seen["timbre_sessions"][-1] == (0,)
    assert [reason for _, reason in seen["timbre_sessions_ended"]] == ["closed", "gone"]
    assert len(seen["timbre_input_cancels"]) == len(seen["timbre_input_cancel_s"]) == 1
