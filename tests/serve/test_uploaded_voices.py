"""An uploaded voice on the running service: everywhere at once, after kill -9, gone for good."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from tests.serve.conftest import running, write_config
from tests.serve.service_client import ServiceClient, listed_clip
from tests.waiting import eventually

pytestmark = pytest.mark.serve
VOICES = "/v1/audio/voices"


def two_routers(directory: Path) -> Path:
    """A config with two routers, and a store that outlives the service."""
    config = write_config(directory, cache={"url": str(directory / "voices")})
    raw = yaml.safe_load(config.read_text())
    for deployment in raw["applications"][0]["deployments"]:
        if deployment["name"] == "Router":
            deployment["autoscaling_config"] |= {"min_replicas": 2, "max_replicas": 2}
            deployment["ray_actor_options"]["num_cpus"] = 0.1
    config.write_text(yaml.safe_dump(raw))
    return config


def uploaded(client: ServiceClient, name: str) -> dict[str, Any]:
    clip, transcript = listed_clip("elena")
    reply = client.http.post(
        VOICES,
        data={"name": name, "consent": "I agree that my voice is cloned.", "ref_text": transcript},
        files={"audio_sample": ("v.wav", clip, "audio/wav")},
    )
    assert reply.status_code == httpx.codes.OK, reply.text
    return reply.json()["voice"]


def killed(client: ServiceClient) -> None:
    """kill -9 of every process of the service."""
    root = psutil.Process(client.service.pid)
    for process in [root, *root.children(recursive=True)]:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def test_a_voice_is_everywhere_at_once_survives_kill_9_and_stays_deleted(tmp_path: Path):
    config = two_routers(tmp_path)
    with running(tmp_path, config) as first:
        assert eventually(lambda: len(first.replicas("Router")) == 2)
        kept, gone = uploaded(first, "Zoe"), uploaded(first, "Yan")
        assert kept["quality"]["findings"] == []
        replies = [first.speak(voice=named) for named in ("Zoe", kept["id"], "zoe") * 3]
        assert {reply.status_code for reply in replies} == {httpx.codes.OK}
        assert len({reply.content for reply in replies}) == 1
        spoken = replies[0].content
        assert {first.speak(voice="Yan").status_code for _ in range(4)} == {httpx.codes.OK}
        assert first.http.delete(f"{VOICES}/{gone['id']}").json()["deleted"] is True
        refused = [first.speak(voice=named) for named in ("Yan", gone["id"]) * 4]
        assert {reply.status_code for reply in refused} == {httpx.codes.NOT_FOUND}
        killed(first)
    with running(tmp_path, config) as second:
        listed = second.http.get(VOICES).json()["uploaded_voices"]
        assert [voice["id"] for voice in listed] == [kept["id"]]
        again = second.speak(voice={"id": kept["id"]})
        assert (again.status_code, again.headers["x-cache"]) == (httpx.codes.OK, "l3")
        assert again.content == spoken
        assert second.encodes() == 0
        assert second.speak(voice="Yan").status_code == httpx.codes.NOT_FOUND
        reply = second.http.delete(f"{VOICES}/Zoe")
        assert reply.json()["success"] is True
        assert second.speak(voice="Zoe").status_code == httpx.codes.NOT_FOUND
        assert second.http.get(VOICES).json()["uploaded_voices"] == []
