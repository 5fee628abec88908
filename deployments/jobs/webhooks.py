"""Tells a caller's own server that a job ended, signed, at least once.

That somebody is to be told lies in the store until it was done, or was tried for long enough.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import os
import time
from typing import Any

import httpx

from deployments.config.job_settings import JobSettings
from deployments.jobs.documents import JobPlan
from deployments.jobs.store import JobName, JobStore, Standing
from deployments.outbound.addresses import AllowedHosts
from pipeline.errors import StageError, UnknownJobError, UnsupportedError

logger = logging.getLogger(__name__)

PARAM = "webhook"
SIGNATURE = "X-Timbre-Signature"
LOOK_S = 2.0
GIVE_UP_S = 3_600.0  # after a job's end
AGAIN_S, LONGEST_AGAIN_S = 5.0, 300.0
_OK = range(200, 300)


def check_webhook(settings: JobSettings, url: str) -> None:
    """Whether a job may tell this address. Contacts nobody. Raises UnsupportedError."""
    if not settings.webhook_hosts:
        raise UnsupportedError(
            "webhook: this service tells nobody of a job's end (jobs.webhook_hosts is empty); "
            "follow /v1/audio/jobs/{id}/events",
            param=PARAM,
        )
    AllowedHosts(settings.webhook_hosts).check(url, PARAM)
    if not os.environ.get(settings.webhook_secret_env):
        raise UnsupportedError(
            "webhook: this service has no secret to sign with, so it tells nobody", param=PARAM
        )


def signature(secret: str, at_unix_s: int, body: bytes) -> str:
    """`t=…,v1=…`: the HMAC-SHA256 of time, a full stop and body, so that none is sent twice."""
    signed = f"{at_unix_s}.".encode() + body
    return f"t={at_unix_s},v1={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}"


class Webhooks:
    """Of every job. Use it from one event loop. transport: what carries requests; None: sockets."""

    def __init__(
        self,
        settings: JobSettings,
        store: JobStore,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._hosts = AllowedHosts(settings.webhook_hosts)
        self._transport = transport
        self._tries: dict[JobName, tuple[int, float]] = {}

    async def run(self) -> None:
        """Tell whoever is to be told, until cancelled."""
        while self._settings.webhook_hosts:
            try:
                for name in await self._store.hooks():
                    await self._tell(name)
            except StageError as error:
                logger.info("nobody can be told of jobs: %s", error)
            await asyncio.sleep(LOOK_S)

    async def _tell(self, name: JobName) -> None:
        tries, next_s = self._tries.get(name, (0, 0.0))
        if time.monotonic() < next_s:
            return
        standing = await self._store.find(name)
        if standing is None or standing.state.status != "done":
            if standing is None or not standing.state.is_open:
                await self._over(name)
            return
        try:
            plan = await self._store.plan(name)
            await self._send(plan.webhook or "", told(standing, plan))
        except (UnknownJobError, UnsupportedError) as error:
            logger.warning("nobody is told of %s: %s", name.id, error)
        except (StageError, httpx.HTTPError, TimeoutError) as error:
            if time.time() - standing.state.at_unix_s < GIVE_UP_S:
                pause_s = min(AGAIN_S * 2 ** min(tries, 10), LONGEST_AGAIN_S)
                self._tries[name] = tries + 1, time.monotonic() + pause_s
                logger.info("%s: its caller could not be told: %r", name.id, error)
                return
            logger.warning("%s: its caller was not told: %r", name.id, error)
        await self._over(name)

    async def _over(self, name: JobName) -> None:
        self._tries.pop(name, None)
        await self._store.unhook(name)

    async def _send(self, url: str, event: dict[str, Any]) -> None:
        """Raises UnsupportedError, StageError, httpx.HTTPError, TimeoutError."""
        async with asyncio.timeout(self._settings.webhook_timeout_s):
            await self._post(url, event)

    async def _post(self, url: str, event: dict[str, Any]) -> None:
        target = await self._hosts.resolve(url, PARAM)
        body = json.dumps(event).encode()
        secret = os.environ.get(self._settings.webhook_secret_env, "")
        if not secret:
            raise UnsupportedError("there is no secret to sign with", param=PARAM)
        headers = {
            "Host": target.host_header,
            "User-Agent": "timbre",
            "Content-Type": "application/json",
            SIGNATURE: signature(secret, int(time.time()), body),
        }
        async with httpx.AsyncClient(
            transport=self._transport,
            timeout=self._settings.webhook_timeout_s,
            follow_redirects=False,
            trust_env=False,
        ) as client:
            # The body of the answer is not read: nobody bounds it.
            async with client.stream(
                "POST",
                target.pinned,
                content=body,
                headers=headers,
                extensions={"sni_hostname": target.host},
            ) as reply:
                if reply.status_code not in _OK:
                    raise StageError(f"the webhook answered {reply.status_code}")


def told(standing: Standing, plan: JobPlan) -> dict[str, Any]:
    """What is said of a job that ended."""
    state = standing.state
    status = "failed" if state.results is None else "completed"
    return {
        "id": f"{standing.name.id}.{standing.number}",
        "type": f"audio.job.{status}",
        "created_at": int(state.at_unix_s),
        "data": {
            "id": standing.name.id,
            "label": plan.label,
            "status": status,
            "segments": plan.n_segments,
            "bad": state.n_bad,
            "failed": state.n_failed,
        },
    }
