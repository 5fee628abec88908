"""A job of a hundred segments: begun on a service that loses its parts, ended on another one."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from tests.serve.service_client import ServiceClient
from tests.waiting import wait_until

N_SEGMENTS = 100
WORDS = ("Yes.", "No.", "Good.", "Maybe.", "Well done.")
VOICES = ("aria", "bruno")
GIVE_UP_S = 300.0
BEGINS = re.compile(r"segment (\d+) begins")


@dataclass(frozen=True, slots=True)
class LongJob:
    """Its name, and which segments were begun, by the logs of services that are gone."""

    id: str
    begun: list[int] = field(default_factory=list[int])

    @classmethod
    def ask(cls, client: ServiceClient) -> LongJob:
        body = {"inputs": _inputs(), "response_format": "wav", "seed": 7}
        made = client.http.post("/v1/audio/jobs", json=body)
        return cls(made.raise_for_status().json()["id"])

    def look(self, client: ServiceClient) -> dict[str, Any]:
        return client.http.get(f"/v1/audio/jobs/{self.id}").raise_for_status().json()

    def wait_for(self, client: ServiceClient, done: int) -> None:
        """Until so many segments are done."""
        wait_until(lambda: self.look(client)["progress"]["done"] >= done, GIVE_UP_S, every_s=0.2)

    def wait_for_its_end(self, client: ServiceClient) -> None:
        wait_until(lambda: self.look(client)["status"] == "completed", GIVE_UP_S)

    def note_begun(self, client: ServiceClient) -> None:
        """What the service's log says by now."""
        self.begun.extend(int(number) for number in BEGINS.findall(client.log()))

    def require_whole(self, client: ServiceClient) -> None:
        """All segments in order, and a file of them."""
        told = self.look(client)
        assert told["progress"]["done"] == N_SEGMENTS
        assert told["progress"]["failed"] == 0
        manifest = client.http.get(f"/v1/audio/jobs/{self.id}/manifest").json()
        assert [one["text"] for one in manifest["segments"]] == [one["text"] for one in _inputs()]
        assert [one["segment"] for one in manifest["segments"]] == list(range(N_SEGMENTS))
        begins = [one["begin_s"] for one in manifest["segments"]]
        assert begins == sorted(begins)
        audio = client.http.get(f"/v1/audio/jobs/{self.id}/audio")
        assert len(audio.content) == manifest["file"]["size_bytes"]


def _inputs() -> list[dict[str, str]]:
    return [
        {"text": WORDS[number % len(WORDS)], "voice": VOICES[number % len(VOICES)]}
        for number in range(N_SEGMENTS)
    ]
