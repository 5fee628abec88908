"""What one caller may spend, for the one request that is being answered."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from deployments.config.tenants.quota_settings import Quota
from deployments.quotas.accounts import MINUTE_S, Account, Measure
from deployments.quotas.ledger import Grant, Ledger, Want
from deployments.quotas.purse import ShortError
from pipeline.errors import CapacityError, QuotaError, QuotaSpentError

MOST_WAIT_S = 120.0  # that OpenAI's clients wait; a longer time is a no to them
AT_ONCE = 1.0  # s of audio: smaller pieces are charged together
LEAST_SPEECH_S = 0.6  # of any reply, before it is made
ROUNDING = 1e-6  # of sums of fractions
_SAID = {
    Measure.REQUESTS: "{limit:g} requests a minute",
    Measure.AUDIO_MINUTE: "{limit:g} s of audio a minute",
    Measure.AUDIO_DAY: "{limit:g} s of audio a day",
    Measure.STREAMS: "{limit:g} replies at a time",
}


@dataclass(frozen=True, slots=True)
class Limited:
    """Whom a quota limits.

    of: tenant or key. owner: which one, for all routers alike. limits: what is counted of it.
    """

    of: str
    owner: str
    quota: Quota
    limits: Sequence[tuple[Account, float]]

    @classmethod
    def by(cls, quota: Quota, of: str, owner: str) -> Self:
        """By a quota."""
        found = ((measure, _limit_of(quota, measure)) for measure in Measure)
        limits = [(Account(owner, measure), limit) for measure, limit in found if limit is not None]
        return cls(of, owner, quota, limits)


class Charge:
    """What one request or reply costs; use it as a context: an error within gives it all back."""

    def __init__(self, grant: Grant | None = None) -> None:
        self._grant = grant
        self._untold = 0.0

    def sent(self, amount: float) -> None:
        """So much goes to the caller: seconds of audio, or requests."""
        self._untold += amount
        if self._untold >= AT_ONCE:
            self._spend()

    def _spend(self) -> None:
        untold, self._untold = self._untold, 0.0
        if self._grant is not None and untold > 0:
            self._grant.spend(untold)

    def refund(self) -> None:
        """Nobody had anything of it."""
        if self._grant is not None:
            self._grant.refund()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, Exception):  # not: whoever listened went away
            self._untold = 0.0
            self.refund()
        self._spend()
        if self._grant is not None:
            self._grant.close()


def _unheard(measure: str, of: str) -> None:
    del measure, of


class Spending:
    """Of one caller. refused: told of each refusal, by measure and whom it limits."""

    def __init__(
        self,
        limited: Sequence[Limited] = (),
        ledger: Ledger | None = None,
        refused: Callable[[str, str], None] = _unheard,
    ) -> None:
        self._limited, self._ledger, self._refused = limited, ledger, refused

    @property
    def is_limited(self) -> bool:
        """Whether any quota is this caller's."""
        return bool(self._limited)

    async def request(self, n_requests: int = 1) -> Charge:
        """Count requests, at once. Raises QuotaError, StageUnavailableError."""
        charge = await self._reserved({Measure.REQUESTS: n_requests})
        with charge:
            charge.sent(n_requests)
        return charge

    async def speech(self, expected_s: float) -> Charge:
        """Begin a reply that will probably sound so long. Raises as `request` does."""
        audio_s = max(expected_s, LEAST_SPEECH_S)
        return await self._reserved(
            {Measure.STREAMS: 1.0, Measure.AUDIO_MINUTE: audio_s, Measure.AUDIO_DAY: audio_s}
        )

    async def audio_wait_s(self) -> float:
        """Seconds until audio may be made for this caller, 0 for now."""
        try:
            with await self._taken(_audio(LEAST_SPEECH_S)):
                return 0.0
        except ShortError as short:
            return max(short.wait_s, 1.0)

    def spoke(self, audio_s: float) -> None:
        """Charge audio that was made in the background."""
        wants = self._wants(_audio(audio_s))
        if self._ledger is not None and wants:
            self._ledger.charge(wants)

    @property
    def streams(self) -> int | None:
        """Replies that may be spoken at a time, by the least of the caller's quotas."""
        limits = [quota.streams for _, quota in self.quotas if quota.streams is not None]
        return min(limits, default=None)

    @property
    def quotas(self) -> Sequence[tuple[str, Quota]]:
        """The caller's, and whose each is: tenant or key."""
        return [(one.of, one.quota) for one in self._limited]

    def full(self, what: str, of: str, message: str) -> QuotaSpentError:
        """The error of a store that is as full as the caller may make it."""
        self._refused(what, of)
        return QuotaSpentError(message, retry_after_s=MOST_WAIT_S)

    def headers(self) -> dict[str, str]:
        """What is left, as OpenAI's clients read it: of the account that has the least."""
        requests = self._told("requests", {Measure.REQUESTS: 0.0})
        return requests | self._told("audio-seconds", _audio(0.0))

    def _told(self, name: str, measures: Mapping[Measure, float]) -> dict[str, str]:
        wants = self._wants(measures)
        if self._ledger is None or not wants:
            return {}
        now_s = self._ledger.now()
        purses = [self._ledger.purse(account, limit) for account, limit, _ in wants]
        least = min(purses, key=lambda purse: purse.remaining(now_s))
        return {
            f"x-ratelimit-limit-{name}": f"{math.floor(least.limit)}",
            f"x-ratelimit-remaining-{name}": f"{math.floor(least.remaining(now_s) + ROUNDING)}",
            f"x-ratelimit-reset-{name}": duration(least.reset_s(now_s)),
        }

    def _wants(self, amounts: Mapping[Measure, float]) -> list[Want]:
        """Of every account that limits one of the measures; a tenant's before a key's."""
        wants: list[Want] = []
        for one in self._limited:
            for account, limit in one.limits:
                amount = amounts.get(account.measure)
                if amount is not None:
                    wants.append((account, limit, amount))
        return wants

    async def _reserved(self, amounts: Mapping[Measure, float]) -> Charge:
        try:
            return await self._taken(amounts)
        except ShortError as short:
            raise self._refusal(short) from None

    async def _taken(self, amounts: Mapping[Measure, float]) -> Charge:
        wants = self._wants(amounts)
        if self._ledger is None or not wants:
            return Charge()
        return Charge(await self._ledger.reserve(wants))

    def _refusal(self, short: ShortError) -> CapacityError:
        account, limit = short.purse.account, short.purse.limit
        of = next(one.of for one in self._limited if one.owner == account.owner)
        self._refused(account.measure.value, of)
        said = _SAID[account.measure].format(limit=limit)
        wait_s = max(short.wait_s, 1.0)
        is_spent = account.measure is Measure.AUDIO_DAY and wait_s > MOST_WAIT_S
        kind = QuotaSpentError if is_spent else QuotaError
        message = f"this {of} may use {said}, and has: there is more in {duration(wait_s)}"
        return kind(message, retry_after_s=min(wait_s, MOST_WAIT_S))


def _limit_of(quota: Quota, measure: Measure) -> float | None:
    match measure:
        case Measure.REQUESTS:
            return quota.requests_per_minute
        case Measure.AUDIO_MINUTE:
            return quota.audio_s_per_minute
        case Measure.AUDIO_DAY:
            return quota.audio_s_per_day
        case Measure.STREAMS:
            return quota.streams


def _audio(amount_s: float) -> Mapping[Measure, float]:
    return {Measure.AUDIO_MINUTE: amount_s, Measure.AUDIO_DAY: amount_s}


def duration(seconds: float) -> str:
    """As OpenAI writes it: 120ms, 6.5s, 2m3s, 1h0m5s."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1e3)}ms"
    if seconds < MINUTE_S:
        return f"{math.ceil(seconds * 10) / 10:g}s"
    minutes, rest_s = divmod(math.ceil(seconds), int(MINUTE_S))
    hours, minutes = divmod(minutes, int(MINUTE_S))
    return f"{hours}h{minutes}m{rest_s}s" if hours else f"{minutes}m{rest_s}s"


CURRENT: ContextVar[Spending | None] = ContextVar("spending", default=None)
_UNLIMITED = Spending()


def spending() -> Spending:
    """Of the request that is being answered: whoever answers needs not be told whose it is."""
    return CURRENT.get() or _UNLIMITED
