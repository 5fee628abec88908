"""The section of the settings about who is served when not all can be."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from deployments.config.section import Positive, Seconds, Strict

Weight = Annotated[float, Field(gt=0)]


class AdmissionSettings(Strict):
    """Requests that would run dry, come too late or take from others are refused at once."""

    enabled: bool = True
    """Predict from measured times what can be served; off, only places and memory are counted."""
    first_audio_s: Seconds = 2.5
    """A streamed answer whose first audio is predicted later than this gets 503."""
    whole_s: Seconds = 30.0
    """The same for the end of an answer that is sent whole, on top of the time that it sounds."""
    headroom: Annotated[float, Field(ge=1)] = 1.25
    """Chunks are taken to be so many times slower than they were measured; more after a listener
    ran dry."""
    batch_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the vocoder's max_streams, and of its queue, that jobs and batches may have; one
    stream at least. They are begun while no other request waits."""
    max_retry_after_s: Positive = 30
    """Most that Retry-After says."""
    tenant_streams: Positive | None = None
    """Most answers of one tenant that one vocoder has in work or in its queue; more get 429. None:
    no limit but the fair share, which counts only while others want some."""
    tenant_weights: dict[str, Weight] = Field(default_factory=dict[str, float])
    """Shares of tenants by namespace, in proportion; 1 for those that are not listed."""
