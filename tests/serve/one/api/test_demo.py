"""What the demo plays, heard by judges that are not ours."""

from __future__ import annotations

from pathlib import Path

import pytest
from faster_whisper.audio import decode_audio

from deployments.local.demo import TEXT, speak_once, write_wav
from tests.serve.service_client import ServiceClient
from training.judging.strangers import RATE_HZ, Strangers

pytestmark = pytest.mark.serve
MAX_WORD_ERROR = 0.1


def test_a_stranger_understands_what_the_demo_plays(client: ServiceClient, tmp_path: Path) -> None:
    path = tmp_path / "demo.wav"
    write_wav(speak_once(client.service.url, "aria"), path)
    strangers = Strangers(tmp_path / "whisper")
    verdict = strangers.judge(decode_audio(str(path), sampling_rate=RATE_HZ), TEXT)
    assert verdict.word_error <= MAX_WORD_ERROR, verdict.heard
