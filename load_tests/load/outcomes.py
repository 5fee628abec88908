"""Stage times of whole answers, as the service tells them once they ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import aiohttp

from load_tests.load.answers import OK, Answer

MOST = 120  # answers that are asked about, after the run
ANSWER_S = 10.0
TIMES = ("tokenizer_s", "llm_s", "vocoder_s", "total_s", "audio_s")


async def whole_stages(url: str, answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """Of answers from all over the run, in the order of the calls; those forgotten are left out."""
    named = sorted(
        (one for one in answers if one.outcome == "ok" and one.cache and one.request_id),
        key=lambda one: one.at_s,
    )
    step = -(-len(named) // MOST) or 1
    told: list[dict[str, Any]] = []
    timeout = aiohttp.ClientTimeout(total=ANSWER_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        for answer in named[::step]:
            address = f"{url.rstrip('/')}/v1/audio/speech/{answer.request_id}"
            try:
                async with session.get(address) as reply:
                    report = (await reply.json())["timbre"] if reply.status == OK else None
            except (aiohttp.ClientError, TimeoutError):
                break  # the service is gone: the run is not
            if report is not None:
                times = {name: report[name] for name in TIMES}
                told.append({"number": answer.number, "cache": answer.cache, **times})
    return told
