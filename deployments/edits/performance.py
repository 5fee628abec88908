"""One chain, made or found again: its steps in turn, the last of them as it comes.

A step is asked for as any speech is, with the tokens of the one before: what was made of the same
tokens with the same seed is found, by any router, and the rest is made.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Iterator, Sequence, Set
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace

import numpy as np

from cache_store.erasures import Watch
from cache_store.keys import ClipKey
from deployments.config.settings import Reuse
from deployments.edits.account import Account
from deployments.edits.book import MOST_BYTES, EditBook, new_edit_id
from deployments.edits.documents import Edit, EditSource, EditStep
from deployments.edits.joints import Ends
from deployments.edits.sources import Source, Sources
from deployments.edits.tracks import Track, needs_words, tracks_of
from deployments.speech.library import SpeechLibrary
from pipeline.contracts import (
    NOT_REUSED,
    Drawn,
    Int16Array,
    Quality,
    SpeechChunk,
    SpeechRequest,
    Stream,
    Usage,
    VoicePrompt,
    VoiceReference,
)
from pipeline.errors import InputError, StageError, TimbreError, UnknownEditError
from pipeline.serving.terms import USUAL
from pipeline.synthesis import ResolvedVoice
from pipeline.wording import TEXT_PARAM, TRANSCRIPT_PARAM

logger = logging.getLogger(__name__)

TRIES, TRY_AGAIN_S = 100, 0.05  # for tokens that another process is about to publish
KEPT: Reuse = "reuse"
MAX_STEPS = 32  # of a chain, however often it was gone on from: all of them are asked for each time


@dataclass(frozen=True, slots=True)
class EditOrder:
    """What is asked for."""

    steps: tuple[EditStep, ...] = ()
    """The new ones."""
    transcript: str = ""
    """What is said in the audio that is sent, or in the clip of a voice."""
    edit_id: str | None = None
    """The edit that is continued, or asked for."""
    upto: int | None = None
    """How many of its steps; None for all."""
    reuse: Reuse | None = None
    is_flat: bool = False
    """Its only step came without a list of steps."""

    @property
    def edit_field(self) -> str:
        """How refusals name what says which edit is meant."""
        return "from" if self.steps else "edit"

    def field(self, index: int, name: str) -> str:
        """How refusals name a field of a new step."""
        return name if self.is_flat else f"steps.{index}.{name}"


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """A step's result."""

    tokens: Int16Array
    """(5k,), of all parts."""
    n_samples: int
    """24 kHz."""
    quality: Quality
    """Of all steps up to it, as usage."""
    usage: Usage


class Performance:
    """Voices and synthesizer of one chain; see pipeline.synthesis for both.

    Use `resolve` first. What is removed from its beginning on, it does not bring back.
    """

    def __init__(
        self,
        order: EditOrder,
        namespace: str,
        sources: Sources,
        speech: SpeechLibrary,
        book: EditBook | None,
        watch: Watch,
        variants: Set[str],
    ) -> None:
        """book: None where no edits are written down. watch: of removals from now on.

        variants: of the language model, as they are deployed.
        """
        self._order = order
        self._namespace = namespace
        self._sources = sources
        self._speech = speech
        self._book = book
        self._variants = variants
        self._watch, self._speech_watch = watch, speech.begin_watch()
        self._steps = order.steps
        self._n_inherited = 0
        self._voice: str | None = None
        self._found: Sequence[Source] = ()
        self._tracks: Sequence[Track] = ()
        self._models: dict[str, str | None] = {}
        self._terms = USUAL
        self._is_begun = False
        self.account = Account()
        self.answered_by: list[str] = []  # of each step, in its first part
        self.edit_id: str | None = None

    async def resolve(self, reference: VoiceReference) -> ResolvedVoice:
        """See VoiceResolver; ignores the reference of an order that continues an edit.

        Raises UnknownEditError as well, and InputError for what could not be written down.
        """
        order, namespace = self._order, self._namespace
        recalled = None if order.edit_id is None else await self._recall(order.edit_id)
        if self._is_for_the_book:
            said = EditSource(clip_digest="", encoder="", transcript=order.transcript)
            await asyncio.to_thread(self._check_size, recalled.sources if recalled else (said,))
        if recalled is not None:
            self._found = await self._sources_of(recalled)
        elif reference.upload is not None:
            self._found = await self._sources.of_upload(
                namespace,
                reference.upload,
                order.transcript,
                needs_words=needs_words(order.steps),
            )
        else:
            self._voice, found = await self._sources.of_voice(
                namespace,
                reference.name,
                order.transcript,
                needs_words=needs_words(order.steps),
            )
            self._found = [found]
        del reference
        n_before = self._n_inherited
        self._tracks = tracks_of(
            self._found,
            self._steps,
            lambda index, name: order.field(index - n_before, name),
            is_continued=order.edit_id is not None,
        )
        for variant in {step.variant for step in self._steps}:
            self._models[variant] = await self._speech.models_now(variant)
        first = self._tracks[0]
        return replace(first.voice, transcript=first.lines[0].transcript)

    async def speak(
        self, request: SpeechRequest, voice: VoicePrompt
    ) -> AsyncGenerator[SpeechChunk]:
        """See Synthesizer. The last step; those before it are made first, and not heard.

        request, voice: of the first step and part, which this knows, as all others; but the terms.
        """
        self._terms = request.terms
        del request, voice
        last = len(self._steps) - 1
        for number, track in enumerate(self._tracks, 1):
            source = await self._drawn(track, last)
            is_first, is_end = number == 1, number == len(self._tracks)
            opened = await self._opened(last, track, source)
            ends = Ends(at_start=not is_first, at_end=not is_end)
            with self._blamed(last):
                async with aclosing(opened) as speech:
                    async for chunk in speech:
                        self._told(last, chunk)
                        await self._begin()
                        yield self.account.told(ends.faded(chunk), is_end=is_end)

    async def made(self) -> Made:
        """All of it, as a whole."""
        answers = [await self._answer(track) for track in self._tracks]
        return Made(
            np.concatenate([drawn.ids for drawn, _ in answers]),
            sum(n_samples for _, n_samples in answers),
            self.account.quality,
            self.account.usage,
        )

    async def written(self) -> Edit:
        """The document of the edit that is asked for. Raises UnknownEditError."""
        if self._book is None:
            raise UnknownEditError(
                "this service keeps no edits (cache.url: none)",
                param=self._order.edit_field,
            )
        try:
            return await self._book.find(self._namespace, self._order.edit_id or "")
        except UnknownEditError as error:
            raise error.about(self._order.edit_field) from error

    @property
    def _is_for_the_book(self) -> bool:
        return self._book is not None and bool(self._order.steps) and self._order.reuse != "off"

    def _check_size(self, sources: Sequence[EditSource]) -> None:
        """How every text is read is written down with it. Blocks for many pronunciations."""
        edit = Edit(created_unix_s=0, sources=tuple(sources), steps=self._steps)
        n_bytes = len(json.dumps(edit.written()))
        if n_bytes > MOST_BYTES:
            is_read_so = any(step.reading is not None for step in self._steps)
            raise InputError(
                f"the steps and the pronunciations that their texts may need take {n_bytes} bytes, "
                f"{MOST_BYTES} are allowed; with cache: off nothing is written down",
                param="pronunciation" if is_read_so else "steps",
            )

    async def _recall(self, edit_id: str) -> Edit:
        """The edit that is continued, or asked for."""
        edit = await self.written()
        upto = len(edit.steps) if self._order.upto is None else self._order.upto
        if not 1 <= upto <= len(edit.steps):
            raise InputError(
                f"the edit has no step {upto}; allowed: 1 to {len(edit.steps)}",
                param="from.step" if self._order.steps else "step",
            )
        self._steps = (*edit.steps[:upto], *self._order.steps)
        if len(self._steps) > MAX_STEPS:
            raise InputError(
                f"the edit would have {len(self._steps)} steps; {MAX_STEPS} are allowed",
                param="steps",
            )
        self._check_variants(edit.steps[:upto])
        self._n_inherited, self._voice = upto, edit.voice
        self.edit_id = None if self._order.steps else edit_id
        return edit

    async def _sources_of(self, edit: Edit) -> Sequence[Source]:
        try:
            return await self._sources.recalled(self._namespace, edit)
        except UnknownEditError as error:
            raise error.about(self._order.edit_field) from error

    def _check_variants(self, steps: Sequence[EditStep]) -> None:
        gone = {step.variant for step in steps} - self._variants
        if gone:
            raise UnknownEditError(
                f"the edit was made by a variant of the model, {', '.join(gone)}, that is not "
                "deployed here any more: make it again",
                param=self._order.edit_field,
            )

    async def _drawn(self, track: Track, before: int) -> Drawn | None:
        """The tokens that the step `before` takes; None for those of the clip itself."""
        source: Drawn | None = None
        for index in range(before):
            source, _ = await self._answered(index, track, source)
        return source

    async def _answer(self, track: Track) -> tuple[Drawn, int]:
        last = len(self._steps) - 1
        return await self._answered(last, track, await self._drawn(track, last))

    async def _answered(self, index: int, track: Track, source: Drawn | None) -> tuple[Drawn, int]:
        """A step's tokens and how many samples it has, as soon as it is whole."""
        for attempt in range(TRIES):
            opened = await self._opened(index, track, source, is_again=attempt > 0)
            with self._blamed(index):
                last, n_samples = await _heard(opened)
            if last.drawn is not None:
                break
            await asyncio.sleep(TRY_AGAIN_S)  # heard while another process made it
        else:
            raise StageError("the tokens of a step are not to be had; ask again")
        self.account.ended(last)
        self._told(index, last)
        if not len(last.drawn.ids):
            raise StageError("the model produced no audio for this request; try another seed")
        return last.drawn, n_samples

    async def _opened(
        self, index: int, track: Track, source: Drawn | None, *, is_again: bool = False
    ) -> Stream[SpeechChunk]:
        """A step's answer from its start. is_again: what was asked for a moment ago."""
        step, line = self._steps[index], track.lines[index]
        voice = replace(track.voice, transcript=line.transcript)
        asked = step.request(line.transcript, line.text)
        is_begun = index > 0 or track is not self._tracks[0]
        terms = replace(self._terms, is_begun=is_begun)
        request = replace(voice.completed(asked), source=source, terms=terms)
        now = self._models[step.variant]
        is_inherited = index < self._n_inherited
        if is_inherited and now is not None and now != step.models:
            found = await self._speech.find(request, voice, self._namespace, step.models)
            if found is None:
                raise UnknownEditError(
                    f"step {index + 1} was made by models that speak here no more, and is not "
                    "kept any longer: make it again with POST /v1/audio/edits",
                    param=self._order.edit_field,
                )
            return found
        reuse = KEPT if is_inherited or is_again else self._order.reuse
        return await self._speech.open(
            request, voice, reuse, self._namespace, self._speech_watch, keeps_any=True
        )

    def _told(self, index: int, chunk: SpeechChunk) -> None:
        if len(self.answered_by) == index:
            source = chunk.times.speech
            self.answered_by.append("miss" if source == NOT_REUSED else f"speech-{source}")

    async def _begin(self) -> None:
        """Write the chain down when its last step begins: from then on it can be continued."""
        if self._is_begun:
            return
        self._is_begun = True
        if self._book is None or not self._is_for_the_book or None in self._models.values():
            return
        edit = Edit(
            created_unix_s=int(time.time()),
            voice=self._voice,
            sources=tuple(source.written for source in self._found),
            steps=tuple(self._signed(index) for index in range(len(self._steps))),
        )
        edit_id = new_edit_id(self._namespace, edit.sources[0].clip_digest)
        try:
            if self._is_allowed():
                await self._book.add(self._namespace, edit_id, edit)
            if self._is_allowed():
                self.edit_id = edit_id
            else:
                await self._book.remove(self._namespace, edit_id, edit)
        except TimbreError as error:
            logger.warning("an edit was made and could not be written down: %s", error)

    def _signed(self, index: int) -> EditStep:
        step = self._steps[index]
        if index < self._n_inherited:
            return step
        return step.model_copy(update={"models": self._models[step.variant]})

    def _is_allowed(self) -> bool:
        """Whether none of its clips was removed meanwhile."""
        clips = [ClipKey(self._namespace, one.voice.clip_digest) for one in self._found]
        return all(self._watch.allows(clip.owner) for clip in clips)

    @contextmanager
    def _blamed(self, index: int) -> Iterator[None]:
        """Faults that a stage found name the caller's field."""
        fields = {
            TEXT_PARAM: self._order.field(index - self._n_inherited, "text"),
            TRANSCRIPT_PARAM: "transcript",
        }
        try:
            yield
        except InputError as error:
            if error.param not in fields:
                raise
            raise type(error)(error.message, param=fields[error.param]) from error


async def _heard(speech: Stream[SpeechChunk]) -> tuple[SpeechChunk, int]:
    """An answer's last chunk, and the samples of all."""
    n_samples = 0
    async with aclosing(speech) as chunks:
        async for chunk in chunks:
            n_samples += len(chunk.samples)
            if chunk.last:
                return chunk, n_samples
    raise StageError("a step's speech ended without its last chunk")
