"""The body of `/v1/audio/speech`: three dialects on one route, whose fields may stand together.

The top level ignores fields it does not know, as its peers do, because clients send extras;
`step_audio` and `extra_params`, whose keys change what is spoken, refuse unknown keys.
"""

from __future__ import annotations

from dataclasses import replace

from pydantic import ConfigDict

from deployments.config.settings import Limits
from deployments.http.dialects.omni import OmniFields, read_omni
from deployments.http.dialects.openai import OpenAIFields, read_openai
from deployments.http.dialects.parsed_request import Clip, ParsedRequest, Wish, order_of
from deployments.http.dialects.predecessor import PredecessorFields, read_predecessor


class SpeechBody(OmniFields, PredecessorFields, OpenAIFields):
    """`POST /v1/audio/speech`."""

    model_config = ConfigDict(populate_by_name=True)
    keeps_empty = OpenAIFields.keeps_empty | OmniFields.keeps_empty


def parse_request(body: SpeechBody, limits: Limits, upload: Clip | None = None) -> ParsedRequest:
    """Check a body against the limits.

    upload: a clip that came as a file, and the name of its part.
    Raises InputError naming the field, what was found and what is allowed.
    """
    return order_of(read_wish(body), limits, upload)


def read_wish(body: SpeechBody) -> Wish:
    """What a body's dialects ask for together.

    `stream: true` means events to vLLM-Omni's clients, audio as it is made to the predecessor's.
    """
    wish = read_predecessor(body, read_omni(body, read_openai(body)))
    if body.stream_format is not None or body.step_audio is not None:
        wish = replace(wish, is_sse=body.stream_format == "sse")
    return replace(wish, is_whole=wish.is_whole and not wish.is_sse)
