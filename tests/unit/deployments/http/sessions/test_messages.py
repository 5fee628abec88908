"""What a message may cost, before anything is made of it."""

from __future__ import annotations

import json

import pytest

from deployments.config.session_settings import SessionSettings
from deployments.http.sessions.messages import read_message
from pipeline.errors import TooLargeError

pytestmark = pytest.mark.unit
LIMITS = SessionSettings(max_message_bytes=100, max_config_bytes=300)


def message(kind: str, field: str, n_bytes: int) -> str:
    """One of so many bytes."""
    bare = json.dumps({"type": kind, field: ""})
    return json.dumps({"type": kind, field: "a" * (n_bytes - len(bare))})


@pytest.mark.parametrize(
    ("kind", "field", "most_bytes"),
    [("input.text", "text", 100), ("session.config", "instructions", 300)],
)
def test_a_message_has_a_size_by_its_kind(kind: str, field: str, most_bytes: int):
    assert read_message(message(kind, field, most_bytes), LIMITS)
    with pytest.raises(TooLargeError, match=f"{most_bytes + 1} bytes, {most_bytes} are allowed"):
        read_message(message(kind, field, most_bytes + 1), LIMITS)


def test_a_message_beyond_all_sizes_is_not_parsed():
    with pytest.raises(TooLargeError, match="the message has 301 bytes"):
        read_message("[" * 301, LIMITS)
