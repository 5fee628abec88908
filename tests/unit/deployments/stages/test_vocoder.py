"""The vocoder's replica with fakes of its models: streams, places, refusals, what is told of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ray.serve import metrics

from cache_store.settings import CacheSettings
from deployments.admission.gate import Places
from deployments.config.settings import Settings
from deployments.config.stage_settings import LLMSettings, VocoderSettings
from deployments.liveness import signs
from deployments.scaling.policy import Work
from deployments.stages import vocoder
from deployments.stages.vocoder import VocoderReplica
from deployments.telemetry.transfers import stamped
from pipeline import prompting
from pipeline.contracts import (
    AudioChunk,
    SpeechRequest,
    Stream,
    TokenChunk,
    VoicePrompt,
)
from pipeline.errors import CapacityError, StageUnavailableError, TooLargeError
from pipeline.serving import terms as on_terms
from pipeline.serving.listener import Listener
from pipeline.serving.terms import Terms
from pipeline.stepaudio.vocoder import wave_decoder
from pipeline.stepaudio.vocoder.decode_worker import Timed
from pipeline.stepaudio.vocoder.voice_state import StateShelf
from tests.async_generators import generators
from tests.fakes import FakeDecoder, FakeHandle, FakePrompts, voice_prompt, without_signs
from tests.unit.deployments.stages.test_room import Metric

pytestmark = pytest.mark.unit

REQUEST = SpeechRequest("One.Two.", "Hi.")
CLIP = "ab" * 32


class Decoder(FakeDecoder):
    """A decoder whose streams take a byte a token row of the prompt."""

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()
        self.owners: list[str] = []
        self.shelves: list[StateShelf | None] = []
        self.listeners: list[Listener | None] = []
        self.timed: Timed | None = None
        self.state_fingerprint = "ef" * 32
        self.is_half = False
        self.forgotten: list[str] = []
        self.illness: Exception | None = None
        self.cache_bytes = 7
        self.memory = SimpleNamespace(
            stream_bytes=lambda rows, first=None: rows + (first or 0), shared_bytes=0
        )

    @property
    def active_streams(self) -> int:
        return self.open_streams

    def stream(
        self,
        tokens: Stream[TokenChunk],
        voice: VoicePrompt,
        first_chunk_rows: int | None = None,
        owner: str = "",
        shelf: StateShelf | None = None,
        listener: Listener | None = None,
    ) -> AsyncGenerator[AudioChunk]:
        self.owners.append(owner)
        self.shelves.append(shelf)
        self.listeners.append(listener)
        return super().stream(tokens, voice, first_chunk_rows)

    def tell_times(self, timed: Timed) -> None:
        self.timed = timed

    def forget(self, voice: str) -> None:
        self.forgotten.append(voice)

    def check_health(self) -> None:
        if self.illness is not None:
            raise self.illness


class LLM:
    """Two groups for every prompt, the second one when the gate is open."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.clips: list[str] = []
        self.terms: list[tuple[Any, ...]] = []

    async def stream_aloud(self, *asked: Any) -> AsyncGenerator[object]:
        self.clips.append(asked[2])
        self.terms.append(asked[3:])
        for last in (False, True):
            yield stamped(TokenChunk(np.array([0, 0, 1024, 1024, 1024], np.int32), last))
            await self.gate.wait()


class Service:
    """A replica of two places and an LLM behind it."""

    def __init__(self, **vocoder: Any) -> None:
        self.llm = LLM()
        self.handle = FakeHandle(self.llm)
        settings = Settings(
            vocoder=VocoderSettings(max_streams=2, queue_size=1, **vocoder),
            llm=LLMSettings(queue_timeout_s=0.05),
            cache=CacheSettings(url="none"),
        )
        handles: Any = {"base": self.handle}
        self.replica = VocoderReplica(settings, handles)
        self.decoder: Any = self.replica._decoder

    def speak(self, request: SpeechRequest = REQUEST, clip: str = "") -> AsyncGenerator[Any]:
        sent = stamped(replace(voice_prompt(), clip_digest=clip))
        return without_signs(self.replica.speak_aloud(request, sent))


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    monkeypatch.setattr(wave_decoder, "StepWaveDecoder", Decoder)
    monkeypatch.setattr(prompting, "CheckpointPrompts", lambda _: FakePrompts())
    for kind in ("Counter", "Gauge", "Histogram"):
        monkeypatch.setattr(metrics, kind, Metric)
    for name in ("adopt_serve_logging", "apply_device_limits", "decode_once", "warm_up"):
        monkeypatch.setattr(vocoder, name, lambda *_, **__: None)
    return Service()


async def test_a_chunk_goes_through_three_generators(service: Service) -> None:
    with generators() as begun:
        chunks = [sent.value async for sent in service.speak()]
    assert [chunk.last for chunk in chunks] == [False, False, False, True]
    streams = [name for name in begun if not name.startswith("StageLoad.")]  # a context manager
    # the decoder's stream is a value; see test_wave_decoder
    assert streams == ["with_signs.<locals>.signed", "VocoderReplica.speak", "SpeechChain.speak"]
    assert service.decoder.owners == service.llm.clips == ["", ""]
    assert service.handle.cancelled == 2
    status = await service.replica.status()
    assert status == {
        "streams_active": 0,
        "streams_behind": 0,
        "waiting": 0,
        "queue_age_s": 0.0,
        "capacity": status["capacity"],
        "reserved": 0.0,
        "cache_bytes": 7,
        "admitted_bytes": 0,
        "states_found_total": 0,
        "states_missed_total": 0,
    }


async def test_a_voice_with_a_clip_has_a_shelf_for_its_state(service: Service) -> None:
    for clip in ("", CLIP):
        async with aclosing(service.speak(clip=clip)) as speech:
            await anext(speech)
    assert [shelf is not None for shelf in service.decoder.shelves] == [False, True]
    assert service.llm.clips == ["", CLIP]


# Settings that leave samples as they are: who is admitted, what is kept, where it runs.
SILENT = {
    "gpu_memory_gib", "max_streams", "prompt_memory_mib", "queue_size", "quiet_first_rows",
    "threads", "voice_affinity",
}  # fmt: skip


async def test_what_is_kept_of_a_clip_is_its_tenants(service: Service) -> None:
    """Clips that two tenants have are two; the tenant without a key has digests as they are."""
    for tenant in ("", "shared", "acme", "other"):
        request = replace(REQUEST, terms=Terms(tenant=tenant))
        async for _ in service.speak(request, CLIP):
            pass
    names = {CLIP, f"acme:{CLIP}", f"other:{CLIP}"}
    assert set(service.decoder.owners) == set(service.llm.clips) == names
    keys = {(shelf.key.namespace, shelf.key.clip_digest) for shelf in service.decoder.shelves}
    assert keys == {(tenant, CLIP) for tenant in ("shared", "acme", "other")}


@pytest.mark.usefixtures("service")
async def test_its_name_has_every_setting_that_changes_samples() -> None:
    other: dict[str, dict[str, object]] = {
        "chunk_rows": {"chunk_rows": (9, 24)},
        "device": {"device": "cuda", "gpu_memory_gib": 1.0, "max_batch": 1},
        "max_batch": {"max_batch": 2},
        "prompt": {"prompt": "exact"},
        "steps": {"steps": 4},
    }
    of_a_gpu = {"half"}  # test_float16_is_part_of_its_name_and_can_be_switched_off
    assert set(VocoderSettings.model_fields) - SILENT - of_a_gpu == set(other)
    names = [(await Service(**one).replica.name()).fingerprint for one in ({}, *other.values())]
    assert len(set(names)) == len(names)


async def test_whoever_leaves_frees_the_place_the_stream_and_the_llm(service: Service) -> None:
    service.llm.gate.clear()
    async with aclosing(service.speak()) as speech:
        await anext(speech)
        assert (await service.replica.status())["streams_active"] == 1
    assert (await service.replica.status())["streams_active"] == 0
    assert service.handle.cancelled == 1
    assert service.replica._load.running == 0


async def test_streams_that_step_aside_are_told_of(service: Service) -> None:
    service.llm.gate.clear()
    behind = replace(REQUEST, is_behind=True)
    async with aclosing(service.speak(behind)) as one, aclosing(service.speak()) as other:
        await anext(one)
        await anext(other)
        status = await service.replica.status()
        assert (status["streams_active"], status["streams_behind"]) == (2, 1)
        with pytest.raises(CapacityError):
            await anext(service.speak(behind))
        assert (await service.replica.status())["streams_behind"] == 1
    assert (await service.replica.status())["streams_behind"] == 0


@pytest.mark.usefixtures("virtual_time")
async def test_a_full_replica_lets_one_wait_and_refuses_others(service: Service) -> None:
    service.llm.gate.clear()
    held = [service.speak() for _ in range(2)]
    for speech in held:
        await anext(speech)
    waiting = asyncio.ensure_future(anext(service.speak()))
    await asyncio.sleep(0.01)
    with pytest.raises(CapacityError, match="wait already"):
        await anext(service.speak())
    with pytest.raises(CapacityError, match="vocoder is full"):
        await waiting
    for speech in held:
        await speech.aclose()
    assert (await anext(service.speak())).value.samples.size


@pytest.mark.usefixtures("virtual_time")
async def test_the_llm_hears_when_an_answer_is_due_and_the_decoder_for_whom(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signs, "EVERY_S", None)  # which would move the clock
    streamed = replace(REQUEST, terms=Terms(due_s=2.0))
    batch = replace(REQUEST, terms=Terms(on_terms.Service.BATCH))
    for request in (streamed, batch):
        async for _ in service.speak(request):
            pass
    assert [terms[0] for terms in service.llm.terms[:2]] == [False, False]
    assert [terms[1] for terms in service.llm.terms[:2]] == [pytest.approx(2.0)] * 2
    assert service.llm.terms[2:] == [(False, None)] * 2
    assert all(isinstance(one, Listener) for one in service.decoder.listeners)


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("method", ["speak", "speak_aloud"])
async def test_only_who_asks_for_signs_of_life_hears_them(service: Service, method: str) -> None:
    """A router of before an update does not know what they are."""
    service.llm.gate.clear()
    asyncio.get_running_loop().call_later(3.5 * signs.EVERY_S, service.llm.gate.set)
    stream = getattr(service.replica, method)(REQUEST, stamped(voice_prompt()))
    heard = [one async for one in stream]
    assert (signs.ALIVE in heard) is (method == "speak_aloud")
    assert heard[-1].value.last


@pytest.mark.usefixtures("virtual_time")
async def test_what_would_run_dry_is_refused_at_once_and_told_how_long(service: Service) -> None:
    for _ in range(40):
        service.decoder.timed(64, 1, 20.0)
    service.llm.gate.clear()
    async with aclosing(service.speak()) as speech:
        await anext(speech)
        with pytest.raises(CapacityError) as caught:
            await anext(service.speak())
        assert caught.value.wait_s is not None
        assert caught.value.retry_after_s is not None
        assert caught.value.holds_s > 0
        status = await service.replica.status()
        assert (status["reserved"], status["streams_active"]) == (1.0, 1)
        assert status["capacity"] < 1


async def test_a_stream_that_never_fits_names_the_field_where_that_is_why(service: Service) -> None:
    service.replica._admission._places = Places(2, 30)
    with pytest.raises(TooLargeError) as caught:
        await anext(service.speak(SpeechRequest("x", "y", first_chunk_rows=100)))
    assert caught.value.param == "initial_codec_chunk_frames"
    service.replica._admission._places = Places(2, 1)
    with pytest.raises(TooLargeError) as caught:
        await anext(service.speak())
    assert caught.value.param is None


async def test_it_forgets_a_voice_and_tells_of_its_illness(service: Service) -> None:
    await service.replica.forget(CLIP)
    assert service.decoder.forgotten == [CLIP]
    await service.replica.check_health()
    service.decoder.illness = StageUnavailableError("the vocoder has lost its device")
    with pytest.raises(StageUnavailableError):
        await service.replica.check_health()


async def test_it_tells_of_streams_their_queue_and_their_bytes(service: Service) -> None:
    replica = service.replica
    assert replica.work() == Work(0, 2)
    service.llm.gate.clear()
    held = [service.speak() for _ in range(2)]
    for speech in held:
        await anext(speech)
    waiting = asyncio.create_task(anext(service.speak()))
    await asyncio.sleep(0.01)
    work = replica.work()
    assert (work.busy, work.refused, replica.in_work) == (2, 0, 3)
    assert work.queue_age_s >= 0.01
    with pytest.raises(CapacityError):
        await anext(service.speak())
    with pytest.raises(CapacityError):
        await waiting
    work = replica.work()
    assert (work.refused, work.queue_age_s, work.cache_bytes) == (2, 0, 0)
    replica._budget_bytes = 100
    work = replica.work()
    assert (work.cache_bytes, work.cache_limit_bytes) == (replica._admission.used_bytes, 100)
    assert work.cache_bytes > 0
    for speech in held:
        await speech.aclose()
    assert [replica.work().busy for _ in range(2)] == [2, 0]


async def test_streams_are_marked_unless_their_terms_say_otherwise(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[bool] = []

    def stream(*asked: Any, is_marked: bool = True) -> AsyncGenerator[AudioChunk]:
        told.append(is_marked)
        return Decoder.stream(service.decoder, *asked)

    monkeypatch.setattr(service.decoder, "stream", stream)
    for is_marked in (True, False):
        request = replace(REQUEST, text="One.", terms=Terms(is_marked=is_marked))
        async for _ in service.speak(request):
            pass
    assert told == [True, False]


@pytest.mark.usefixtures("service")
async def test_marks_are_part_of_its_name_and_of_its_decoder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[dict[str, Any]] = []

    def decoder(*asked: Any, **how: Any) -> Decoder:
        made.append(how)
        return Decoder(*asked, **how)

    monkeypatch.setattr(wave_decoder, "StepWaveDecoder", decoder)
    monkeypatch.setenv("TIMBRE_MARKS__ENABLED", "true")
    marked = (await Service().replica.name()).fingerprint
    monkeypatch.setenv("TIMBRE_MARKS__ENABLED", "false")
    unmarked = (await Service().replica.name()).fingerprint
    assert [how["marks"] for how in made] == [True, False]
    assert marked != unmarked


async def test_float16_is_part_of_its_name_and_can_be_switched_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def decoder(*asked: Any, **how: Any) -> Decoder:
        made = Decoder(*asked, **how)
        made.is_half = how["graphs"]  # as on a GPU
        return made

    monkeypatch.setattr(wave_decoder, "StepWaveDecoder", decoder)
    half = (await Service().replica.name()).fingerprint
    monkeypatch.setenv("TIMBRE_VOCODER__HALF", "false")
    assert (await Service().replica.name()).fingerprint != half


async def test_it_listens_for_marks(service: Service) -> None:
    silence = np.zeros(24_000, np.int16)
    found = await service.replica.find_mark(silence)
    assert not found.is_marked
    assert found.heard_s == 1.0
