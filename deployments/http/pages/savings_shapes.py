"""What is told of what the caches saved."""

from __future__ import annotations

from pydantic import BaseModel


class SavedBy(BaseModel):
    """By one cache. saved_s: what its hits would have cost to compute."""

    hits: int
    computes: int
    saved_s: float
    money: float


class SavedByBoth(BaseModel):
    """By both caches."""

    voices: SavedBy
    speech: SavedBy


class SavedForTenant(SavedByBoth):
    """In all voices of a tenant; empty for those that were too many to tell apart."""

    tenant: str


class SavedInVoice(SavedForTenant):
    """In one voice of a tenant. owner: stands for its clip. voice: its name, where it is known."""

    owner: str
    voice: str | None


class SavingsReport(BaseModel):
    """In the last days. gpu_hour_price: what money is reckoned with."""

    object: str
    days: int
    gpu_hour_price: float
    total: SavedByBoth
    by_tenant: list[SavedForTenant]
    by_voice: list[SavedInVoice]
