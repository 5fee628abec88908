"""Speech that this process makes, for those of other processes who listen in.

Sent through the cluster's index, which knows who makes what.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cache_store.claims import Coordinator
from cache_store.errors import StoreError
from cache_store.keys import SpeechKey
from deployments.speech.records import to_note
from deployments.speech.tape import SAMPLE_BYTES, Tape

SEND_SAMPLES = 45_000  # Ray sends arguments below 100 KB along with the call
LOOK_S = 0.5  # how often is asked whether anybody listens while there is nothing to send
AGAIN_S = 0.2  # after the index could not be reached
FINISH_S = 2.0  # longest wait for the index to have it all


class Relay:
    """Sends a tape on as it grows.

    asked: called after every answer of the index, which says whether anybody listens.
    """

    def __init__(
        self, shared: Coordinator, key: SpeechKey, tape: Tape, asked: Callable[[], None]
    ) -> None:
        self._shared = shared
        self._key = key
        self._tape = tape
        self._asked = asked
        self.is_heard = False
        self._task = asyncio.create_task(self._run())

    async def finish(self) -> None:
        """Wait until those who listen can hear the end, which the tape has; not for long."""
        if self.is_heard:
            await asyncio.wait([self._task], timeout=FINISH_S)
        self.stop()

    def stop(self) -> None:
        """Send nothing more."""
        self._task.cancel()
        self.is_heard = False

    async def _run(self) -> None:
        sent = 0
        if not self._tape.n_samples:  # nobody can listen yet, and whoever asked waits
            await self._tape.more(LOOK_S)
        while True:
            tape = self._tape
            samples = tape.samples_from(sent, SEND_SAMPLES)
            is_whole = tape.is_whole and sent + len(samples) == tape.n_samples
            try:
                told = await self._shared.add(
                    self._key,
                    sent * SAMPLE_BYTES,
                    samples.tobytes(),
                    to_note(tape.quality, tape.usage, is_single=tape.is_single),
                    is_whole=is_whole,
                )
            except StoreError:
                self.is_heard = False
                self._asked()
                await asyncio.sleep(AGAIN_S)
                continue
            if told is None:  # another process has the lease, or the clip was removed
                self.is_heard = False
                self._asked()
                return
            expected = sent + len(samples)
            sent = told.total_bytes // SAMPLE_BYTES
            self.is_heard = told.is_heard
            self._asked()
            if is_whole and sent == tape.n_samples:
                return
            if sent < expected and len(samples):  # no room there, or it began anew
                await asyncio.sleep(AGAIN_S)
            elif sent == tape.n_samples and not tape.is_whole:
                await tape.more(LOOK_S)
