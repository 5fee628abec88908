"""Calls every route with generated requests, and holds the replies to the API's own description.

    python -m load_tests.conformance [--calls 3000] [--seed 1] [--url http://127.0.0.1:8000]

Counts as a fault: a status of the 500s, one that the route does not document by its number, a body
or header that its schema does not allow (an undescribed key among them), another content type.
Without an address the application runs in this process, with fakes of the stages and a store of its
own; with one, voices and consents are made and deleted in that service.
"""

from __future__ import annotations

import argparse
import base64
import copy
import itertools
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import msgpack
import schemathesis
from hypothesis import strategies as st
from schemathesis.engine import events, from_schema
from schemathesis.engine.recorder import ScenarioRecorder
from schemathesis.python.asgi import shutdown_lifespans
from schemathesis.transport.serialization import Binary

from tests.audio_files import tone, wav

PAGE = "/openapi.json"
CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance",
    "response_headers_conformance", "response_schema_conformance", "unsupported_method",
)  # fmt: skip
CLIP = wav(tone(16_000, 1.0), 16_000)
CLIP_TEXT = base64.b64encode(CLIP).decode()
CLIPS = frozenset(
    {
        "audio", "audio_sample", "file", "files", "recording", "ref_audio", "prompt_audio_base64",
        "input_audio_base64",
    }
)  # fmt: skip
UPLOADS = {"/v1/audio/voices": "audio_sample", "/v1/voices/add": "files"}  # each with its clip
SUBTITLES = ("application/x-subrip", "text/vtt")
MOST_TURNS = 20
_uploads = itertools.count()
LONGEST_FAULT_CHARS = 1_500


@dataclass(slots=True)
class Findings:
    """What the calls came to. faults: one text each. replies: by operation and status."""

    faults: list[str] = field(default_factory=list[str])
    replies: Counter[tuple[str, int]] = field(default_factory=Counter[tuple[str, int]])

    @property
    def calls(self) -> int:
        return self.replies.total()

    @property
    def statuses(self) -> dict[str, list[int]]:
        """By operation."""
        found: dict[str, list[int]] = {}
        for label, status in sorted(self.replies):
            found.setdefault(label, []).append(status)
        return found

    def add(self, event: events.EngineEvent) -> None:
        if isinstance(event, events.ScenarioFinished):
            self._add(event.recorder)
        elif isinstance(event, events.NonFatalError):
            self.faults.append(f"{event.label}: {event.info.format()}")
        elif isinstance(event, events.FatalError):
            raise event.exception

    def _add(self, recorder: ScenarioRecorder) -> None:
        for case_id, interaction in recorder.interactions.items():
            if interaction.response is not None:
                operation = recorder.cases[case_id].value.operation
                self.replies[operation.label, interaction.response.status_code] += 1
        for case_id, checks in recorder.checks.items():
            for check in checks:
                if check.failure_info is not None:
                    case = recorder.cases[case_id].value
                    failure = check.failure_info.failure
                    told = f"{case.operation.label}: {failure.title}\n{failure.message}"
                    sent = check.failure_info.code_sample
                    self.faults.append(
                        f"{told[:LONGEST_FAULT_CHARS]}\n{sent[:LONGEST_FAULT_CHARS]}"
                    )


def conform(
    page: dict[str, Any], calls: int, *, seed: int, is_thorough: bool = True, **where: Any
) -> Findings:
    """At least so many calls, and the page's examples.

    page: the API's description. is_thorough: also the borders of every schema, some thousand calls.
    where: `app` or `base_url`. Equal arguments make equal calls.
    """
    _know_our_bodies()
    operations = sum(len(methods) for methods in page["paths"].values())
    findings = Findings()
    for turn in range(MOST_TURNS):
        left = calls - findings.calls
        if left <= 0 and turn:
            break
        config = _config(
            seed + turn,
            max(1, left // (2 * operations)),
            is_first=turn == 0,
            is_thorough=is_thorough,
        )
        schema = schemathesis.openapi.from_dict(strict(page), config=config)
        schema.app = where.get("app")
        if "base_url" in where:
            schema.config.update(base_url=where["base_url"])
        for event in from_schema(schema).execute():
            findings.add(event)
    return findings


def strict(page: dict[str, Any]) -> dict[str, Any]:
    """The description with nothing left open: no status by default, no key of a reply untold."""
    closed = copy.deepcopy(page)
    for methods in closed["paths"].values():
        for operation in methods.values():
            operation["responses"].pop("default", None)
            for reply in operation["responses"].values():
                for content in reply.get("content", {}).values():
                    if "schema" in content:
                        content["schema"] = _closed(content["schema"], closed)
    return closed


def _closed(schema: Any, page: dict[str, Any]) -> Any:
    """A reply's schema without references, whose objects have no other keys than those named."""
    if isinstance(schema, list):
        return [_closed(one, page) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _closed(page["components"]["schemas"][name], page)
    closed = {key: _closed(value, page) for key, value in schema.items()}
    if "properties" in closed:
        closed.setdefault("additionalProperties", False)
    return closed


def _config(seed: int, examples: int, *, is_first: bool, is_thorough: bool) -> schemathesis.Config:
    return schemathesis.Config.from_dict(
        {
            "seed": seed,
            "cache": {"enabled": False},
            "continue-on-failure": True,
            "warnings": False,
            "analysis": {"constants": {"enabled": False}},  # words of our sources: another run's
            "checks": {"enabled": False} | {name: {"enabled": True} for name in CHECKS},
            "generation": {"deterministic": True, "max-examples": examples, "no-shrink": True},
            "phases": {
                "examples": {"enabled": is_first},
                "coverage": {"enabled": is_first and is_thorough},
                "stateful": {"generation": {"mode": "positive"}},
            },
        }
    )


def _packable(value: Any) -> Any:
    """A JSON value whose integers msgpack can hold; larger ones as floats."""
    if isinstance(value, dict):
        return {key: _packable(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_packable(one) for one in value]
    is_large = isinstance(value, int) and not -(2**63) <= value < 2**64
    return float(value) if is_large else value


@cache
def _know_our_bodies() -> None:
    """What schemathesis cannot send by itself: clips, half of the time; msgpack; subtitles."""
    schemathesis.hook("before_call")(_made_apt)
    schemathesis.openapi.format("binary", st.just(CLIP) | st.binary(max_size=64))

    @schemathesis.serializer("application/msgpack")
    def _packed(_context: schemathesis.SerializationContext, value: Any) -> bytes:
        return msgpack.Packer().pack(_packable(value))

    for kind in SUBTITLES:

        @schemathesis.serializer(kind)
        def _plain(_context: schemathesis.SerializationContext, value: Any) -> bytes:
            return str(value).encode("utf-8", "surrogatepass")


def _made_apt(_context: schemathesis.HookContext, case: schemathesis.Case, _how: Any) -> None:
    """What chance seldom finds.

    Examples, and half of what else stands as text where a clip belongs, become one; every other
    upload gets a name that is free, and a consent.
    """
    is_form = (case.media_type or "").startswith("multipart")
    case.body = _filled(case.body, Binary(CLIP) if is_form else CLIP_TEXT)
    if case.path in UPLOADS and isinstance(case.body, dict) and next(_uploads) % 2:
        case.body |= {"name": f"Zoe {next(_uploads)}", "consent": "I agree.", "type": None}
        case.body |= {UPLOADS[case.path]: Binary(CLIP) if is_form else CLIP_TEXT}


def _filled(tree: Any, clip: str) -> Any:
    if isinstance(tree, list):
        return [_filled(one, clip) for one in tree]
    if not isinstance(tree, dict):
        return tree
    return {
        name: clip if name in CLIPS and _is_for_a_clip(value) else _filled(value, clip)
        for name, value in tree.items()
    }


def _is_for_a_clip(value: Any) -> bool:
    is_text = isinstance(value, str) and not isinstance(value, Binary)
    return is_text and ("…" in value or len(value) % 2 == 0)


@contextmanager
def application() -> Iterator[Any]:
    """The HTTP application in this process."""
    from tests.http_app import ServedApp

    with TemporaryDirectory() as directory:
        try:
            yield ServedApp(cache={"url": directory, "l2": "off"})
        finally:
            shutdown_lifespans()


def told(findings: Findings) -> Iterable[str]:
    for label, statuses in findings.statuses.items():
        counts = ", ".join(f"{status} ×{findings.replies[label, status]}" for status in statuses)
        yield f"{label:50} {counts}"
    yield from (f"\n{fault}" for fault in findings.faults)
    yield f"\n{findings.calls} calls, {len(findings.faults)} faults"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=3_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--url", help="a service that runs; otherwise in this process")
    options = parser.parse_args()
    if options.url:
        page = httpx.get(options.url + PAGE).json()
        findings = conform(page, options.calls, seed=options.seed, base_url=options.url)
    else:
        with application() as app:
            findings = conform(app.page, options.calls, seed=options.seed, app=app)
    print("\n".join(told(findings)))
    return 1 if findings.faults else 0


if __name__ == "__main__":
    sys.exit(main())
