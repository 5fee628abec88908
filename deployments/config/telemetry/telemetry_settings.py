"""What the service tells of itself, metrics aside: traces, slow requests, what its caches save."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from deployments.config.section import Seconds, Strict


class TelemetrySettings(Strict):
    """Traces, the log of slow requests, and the account of what was saved."""

    otlp_endpoint: Annotated[str, Field(pattern=r"^https?://")] | None = None
    """Where traces go: the address of an OpenTelemetry collector that takes OTLP over HTTP, such as
    http://collector:4318/v1/traces. None makes none; else timbre[tracing] must be installed."""
    sampled_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Of requests, how many are traced."""
    follows_callers: bool = False
    """Go on with the trace of a caller's traceparent, sampled as it says. For a service whose
    callers are one's own: a stranger would have every request of his traced."""
    slow_s: Seconds = 5.0
    """A reply whose first audio came later, or whose last byte came so much later than it plays,
    is written to the log with the account of its stages."""
    gpu_hour_price: Annotated[float, Field(ge=0)] = 0.0
    """What an hour of one GPU of the stages costs, in any currency: the account of what the caches
    save reckons with it."""
    most_accounts: Annotated[int, Field(ge=1, le=2_000)] = 2_000
    """Pairs of tenant and voice that are told apart in the account of the caches; what more there
    are is counted together. One takes some 100 bytes, in the store, once for each router, which
    writes them as one document: it has room for 2,000 with the longest names of tenants."""
    account_every_s: Seconds = 60.0
    """How often a router writes its part of that account."""
    account_days: Annotated[int, Field(ge=1, le=3_650)] = 400
    """How long a day's part of it is kept."""
