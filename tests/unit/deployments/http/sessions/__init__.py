"""Tests of sessions over WebSockets."""

from tests.fakes import SAMPLES_PER_GROUP

FRAME = 2 * SAMPLES_PER_GROUP  # bytes of a fake's chunk as pcm
