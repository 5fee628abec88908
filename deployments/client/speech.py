"""One reply of speech: asked for, and poured where it is to go."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from deployments.client.outlets import Outlet
from deployments.client.service import Service

Heard = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Spoken:
    """What came. first_s, took_s: from the asking to the first byte, and to the last."""

    headers: Mapping[str, str]
    n_bytes: int
    first_s: float
    took_s: float

    def document(self, outlet: Outlet) -> dict[str, Any]:
        """For programs."""
        told = {
            "request_id": "x-request-id",
            "cache": "x-cache",
            "quality": "x-quality",
            "provenance": "x-provenance",
            "edit": "x-edit-id",
            "steps": "x-edit-steps",
            "clip_warning": "x-audio-warning",
        }
        return {
            "output": None if outlet.file is None else str(outlet.file),
            "format": outlet.audio_format,
            "bytes": self.n_bytes,
            "first_byte_s": round(self.first_s, 4),
            "took_s": round(self.took_s, 4),
            **{
                name: self.headers[header]
                for name, header in told.items()
                if header in self.headers
            },
        }


def spoken(
    service: Service, path: str, body: Mapping[str, Any], outlet: Outlet, heard: Heard
) -> Spoken:
    """The audio of a reply, poured as it comes. heard: told of the bytes so far."""
    began_s = time.monotonic()
    first_s: float | None = None
    with service.streamed("POST", path, json=dict(body)) as reply:
        with outlet.opened() as poured:
            for piece in reply.iter_bytes():
                if first_s is None:
                    first_s = time.monotonic() - began_s
                poured.write(piece)
                heard(poured.n_bytes)
        headers = _lower(reply.headers)
    took_s = time.monotonic() - began_s
    return Spoken(headers, poured.n_bytes, first_s or took_s, took_s)


def _lower(headers: httpx.Headers) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
