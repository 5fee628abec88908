"""A plan in words, and for programs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from deployments.capacity.limits import Around
from deployments.capacity.plan import Plan, Question
from deployments.capacity.profile import Profile


def document(profile: Profile, question: Question, plan: Plan) -> dict[str, Any]:
    """As JSON has it, which knows no infinity: what nothing reaches saturates at null."""
    told = asdict(plan)
    for one in told["around"]:
        if math.isinf(one["saturates_rps"]):
            one["saturates_rps"] = None
    hardware = {
        "name": profile.name,
        "how": profile.how,
        "price_usd_h": profile.price_usd_h,
        "price_of": profile.price_of,
        "sources": profile.sources,
    }
    return {"hardware": hardware, "question": asdict(question), "plan": told}


def lines(profile: Profile, question: Question, plan: Plan) -> Iterator[str]:
    """For a terminal."""
    cards = ", ".join(f"{n} {what}" for what, n in plan.cards_of.items() if n)
    yield f"{plan.cards} × {profile.name} ({cards}), {profile.how}"
    yield f"replicas       {', '.join(f'{what} {n}' for what, n in plan.replicas.items())}"
    rows = ", ".join(map(str, plan.chunk_rows))
    yield f"settings       vocoder.chunk_rows [{rows}], quiet_first_rows {plan.chunk_rows[0]}"
    first = plan.first_audio_s
    yield (
        f"first audio    p50 {first['p50']:.2f} s, p95 {first['p95']:.2f} s of what is made; "
        f"asked for {question.first_audio_s:g} s"
    )
    yield f"refused        {100 * plan.refused:.1f} %; ran dry {100 * plan.ran_dry:.1f} %"
    yield f"carries        {plan.most_rps:,.2f} requests a second within the target"
    yield (
        f"costs          ${plan.usd_h:,.2f} an hour, ${plan.usd_spoken_h:.3f} an hour of speech, "
        f"${plan.usd_month:,.0f} a month ({profile.price_of})"
    )
    for one in plan.around:
        yield f"{one.what:14} {_around(one)}"


def _around(one: Around) -> str:
    at = "nothing of this load reaches it"
    if math.isfinite(one.saturates_rps):
        whole = "one" if one.most is None else f"all {one.most}"
        at = f"{whole} saturated at {one.saturates_rps:,.0f} requests a second"
    short = "" if one.is_enough else f", AND THERE CAN BE {one.most} AT MOST"
    return f"{one.needed:,} needed{short}; {at}"
