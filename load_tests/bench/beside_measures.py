# pyright: basic
"""One named measurement of whatever tree is on the path; the child of `beside_commit`.

    PYTHONPATH=TREE python -P load_tests/bench/beside_measures.py NAME

Run by its path with another commit's tree first on the module path, so it imports nothing of its
own tree: a name that moved is looked for in every module that ever held it. Prints one line of
JSON: medians by the clock and of the process's own CPU seconds, which other load touches less.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

THREADS = 1
RATE_HZ = 24_000  # of every tree's vocoder
KEPT_BYTES = 2**28  # of voices, in every stage that keeps any
TRANSCRIPT = "This is what was said in the clip."
KNOWN = "It is a known voice from now on."
TEXTS = (
    "One two three four five six seven eight.",
    "There was nothing to be seen from the window.",
    "He asked for the letter and went away.",
    "The water was cold and the boat was small.",
    "Nobody had told her about the second door.",
)
PROMPT_IDS = np.arange(300, 500, dtype=np.int32)  # any text: 200 tokens
ANSWER_TOKENS = 240

Spent = tuple[float, float]  # by the clock, and of the CPU


def moved(names: str, *modules: str) -> Any:
    """What was ever called one of `names` (`new|old`), from the first module that has it."""
    for module in modules:
        for name in names.split("|"):
            try:
                return getattr(importlib.import_module(module), name)
            except (ModuleNotFoundError, AttributeError):
                continue
    raise ModuleNotFoundError(f"{names} is in none of {', '.join(modules)}")


class Watch:
    """Started when made."""

    def __init__(self) -> None:
        self._started = time.perf_counter(), time.process_time()

    def spent(self, per: float = 1.0) -> Spent:
        """By the clock and of the CPU since, each divided by `per`."""
        wall_s, cpu_s = self._started
        return (time.perf_counter() - wall_s) / per, (time.process_time() - cpu_s) / per


class Tree:
    """The stages of the embedded model as this tree has them, made where they are asked for."""

    def __init__(self) -> None:
        layout = importlib.import_module("pipeline.stepaudio.layout")
        self.layout = layout.CheckpointLayout.at(layout.resolve_model("tiny"))
        self.contracts = importlib.import_module("pipeline.contracts")

    def encoder(self) -> Any:
        made = moved(
            "StepVoiceEncoder",
            "pipeline.stepaudio.tokenizer.voice_encoder",
            "pipeline.stepaudio.voice_encoder",
        )
        return made(self.layout.tokenizer, self.layout.vocoder, threads=THREADS)

    def decoder(self) -> Any:
        made = moved(
            "StepWaveDecoder",
            "pipeline.stepaudio.vocoder.wave_decoder",
            "pipeline.stepaudio.wave_decoder",
        )
        return made(self.layout.vocoder, threads=THREADS, prompt_memory_bytes=KEPT_BYTES)

    def engine(self, slots: int) -> Any:
        load = moved(
            "load_engine",
            "pipeline.stepaudio.llm.engine.loading",
            "pipeline.stepaudio.engine_loading",
        )
        stream = importlib.import_module("pipeline.local").OneStream
        settings = stream("cpu", threads=THREADS, slots=slots, prefix_cache_bytes=KEPT_BYTES)
        return load(self.layout, settings)

    def clip(self, i: int) -> Any:
        decode = moved("decode_clip", "pipeline.audio.decode", "pipeline.audio_decode")
        paths = [voice.path for voice in self._listed()]
        return decode(paths[i % len(paths)].read_bytes())

    def voices(self, n: int) -> list[Any]:
        encoder = self.encoder()
        made = [encoder.encode_blocking(self.clip(i)) for i in range(n)]
        encoder.close()
        return made

    def ids(self, voice: Any) -> np.ndarray:
        """A voice's own codes, as an answer."""
        n = min(len(voice.vq02) // 2, len(voice.vq06) // 3)
        interleave = importlib.import_module("pipeline.stepaudio.tokens").interleave
        return interleave(voice.vq02[: 2 * n], voice.vq06[: 3 * n])

    async def tokens(self, ids: np.ndarray) -> Any:
        yield self.contracts.TokenChunk(ids, last=True)

    def speaker(self, engine: Any, decoder: Any) -> Any:
        chained = moved("SpeechChain|ChainedSpeaker", "pipeline.chain", "pipeline.synthesis")
        prompts = importlib.import_module("pipeline.prompting").CheckpointPrompts
        return chained(prompts(self.layout.editx), engine, decoder)

    def request(self, text: str, seed: int) -> Any:
        sampling = self.contracts.Sampling(seed=seed)
        request = self.contracts.SpeechRequest
        fields = request.__dataclass_fields__
        named = {name: "clone_0" for name in ("speaker_name", "speaker") if name in fields}
        return request(text=text, transcript=TRANSCRIPT, sampling=sampling, **named)

    @staticmethod
    def _listed() -> list[Any]:
        return list(importlib.import_module("pipeline.voice_list").load_voices().values())


def first_audio(tree: Tree) -> tuple[list[Spent], str]:
    """From the request of a new text in a known voice to its first audio, stages in one process."""
    (voice,) = tree.voices(1)
    speaker = tree.speaker(tree.engine(1), tree.decoder())

    async def first(text: str, seed: int) -> Spent:
        watch = Watch()
        speech = speaker.speak(tree.request(text, seed), voice)
        async for chunk in speech:
            if len(chunk.samples):
                break
        spent = watch.spent()
        await speech.aclose()
        return spent

    async def all_of_them() -> list[Spent]:
        await first(KNOWN, 0)
        return [await first(text, i) for i, text in enumerate(TEXTS)]

    return asyncio.run(all_of_them()), "s"


def four_at_once(tree: Tree) -> tuple[list[Spent], str]:
    """Four requests at once in known voices: seconds for a second of audio, all together."""
    voices = tree.voices(4)
    speaker = tree.speaker(tree.engine(4), tree.decoder())

    async def spoken(i: int, text: str) -> int:
        speech = speaker.speak(tree.request(text, i), voices[i])
        return sum([len(chunk.samples) async for chunk in speech])

    async def crowd(text: str) -> Spent:
        watch = Watch()
        n_samples = sum(await asyncio.gather(*(spoken(i, text) for i in range(4))))
        return watch.spent(n_samples / RATE_HZ)

    async def crowds() -> list[Spent]:
        await crowd(KNOWN)
        return [await crowd(text) for text in TEXTS[:2]]

    return asyncio.run(crowds()), "s per s of audio"


def vocoder(tree: Tree, *, is_streamed: bool) -> tuple[list[Spent], str]:
    """An answer of 5 s whose tokens are all there, in a known voice of 5 s."""
    voice, other = tree.voices(2)
    decoder, ids = tree.decoder(), tree.ids(other)

    async def drain() -> None:
        async for _ in decoder.stream(tree.tokens(ids), voice):
            pass

    work = (lambda: asyncio.run(drain())) if is_streamed else lambda: decoder.decode(ids, voice)
    return timed(work, 5), "s"


def first_piece(tree: Tree) -> tuple[list[Spent], str]:
    """The vocoder's share of the first audio: tokens all there, never the same answer twice."""
    voice, *others = tree.voices(6)
    decoder = tree.decoder()
    answers = [tree.ids(other) for other in others]

    async def first() -> None:
        stream = decoder.stream(tree.tokens(answers.pop()), voice)
        await anext(stream)
        await stream.aclose()

    return timed(lambda: asyncio.run(first()), len(answers) - 1), "s"


def decode(tree: Tree, *, batch: int) -> tuple[list[Spent], str]:
    """The language model's answers to prompts of 200 tokens: seconds a token, all together."""
    engine = tree.engine(batch)

    async def answer(seed: int) -> int:
        sampling = tree.contracts.Sampling(seed=seed, max_tokens=ANSWER_TOKENS)
        return sum([len(chunk.ids) async for chunk in engine.stream(PROMPT_IDS, sampling)])

    async def turn(first: int) -> Spent:
        watch = Watch()
        n = sum(await asyncio.gather(*(answer(first + i) for i in range(batch))))
        return watch.spent(n)

    async def turns() -> list[Spent]:
        await turn(0)
        return [await turn(100 * i) for i in range(1, 4)]

    return asyncio.run(turns()), "s a token"


def tokenizer_miss(tree: Tree) -> tuple[list[Spent], str]:
    """A clip of 5 s through the encoders."""
    encoder, clip = tree.encoder(), tree.clip(0)
    return timed(lambda: encoder.encode_blocking(clip), 5), "s"


def cache_hit(tree: Tree, *, tier: str) -> tuple[list[Spent], str]:
    """A record's look-up, in memory or from a local directory by a cache that is new."""
    records = moved("to_record", "deployments.voices.records", "deployments.voices")
    schema = moved("VOICE_SCHEMA", "deployments.voices.records", "deployments.voices")
    open_cache = moved("open_cache", "cache_store.opening", "cache_store.tiered")
    keys = importlib.import_module("cache_store.keys")
    settings = importlib.import_module("cache_store.settings").CacheSettings
    record, key = records(tree.voices(1)[0]), keys.VoiceKey("shared", "ab" * 32, "cd" * 32)

    async def made() -> Any:
        return record

    async def look_ups(directory: str) -> list[Spent]:
        taken: list[Spent] = []
        writer = open_cache(settings(url=directory, l2="off"), schema)
        await writer.start()
        await writer.get_or_compute(key, made, durable=True)
        for _ in range(20):
            reader = writer
            if tier == "l3":
                reader = open_cache(settings(url=directory, l2="off"), schema)
                await reader.start()
            watch = Watch()
            found = await reader.get(key)
            taken.append(watch.spent())
            assert found is not None
            assert found.tier == tier, found.tier
            if reader is not writer:
                await reader.close()
        await writer.close()
        return taken

    with tempfile.TemporaryDirectory() as directory:
        return asyncio.run(look_ups(str(Path(directory) / "cache"))), "s"


def timed(work: Callable[[], object], repeats: int) -> list[Spent]:
    """One more run goes before and does not count."""
    work()
    taken: list[Spent] = []
    for _ in range(repeats):
        watch = Watch()
        work()
        taken.append(watch.spent())
    return taken


Measure = Callable[[Tree], tuple[list[Spent], str]]
MEASURES: dict[str, Measure] = {
    "first_audio": first_audio,
    "first_piece": first_piece,
    "vocoder_whole": lambda tree: vocoder(tree, is_streamed=False),
    "vocoder_stream": lambda tree: vocoder(tree, is_streamed=True),
    "four_at_once": four_at_once,
    "llm_batch_1": lambda tree: decode(tree, batch=1),
    "llm_batch_8": lambda tree: decode(tree, batch=8),
    "tokenizer_miss": tokenizer_miss,
    "cache_l1": lambda tree: cache_hit(tree, tier="l1"),
    "cache_l3": lambda tree: cache_hit(tree, tier="l3"),
}


def main() -> None:
    # An editable installation finds modules that the tree on the path does not have.
    sys.meta_path[:] = [
        one for one in sys.meta_path if "Editable" not in getattr(one, "__name__", "")
    ]
    found = Path(str(importlib.import_module("pipeline").__file__)).parents[1]
    if found != Path.cwd():
        raise SystemExit(f"the package is that of {found}, not of this tree")
    torch.set_num_threads(THREADS)
    taken, unit = MEASURES[sys.argv[1]](Tree())
    by_clock, of_cpu = (statistics.median(values) for values in zip(*taken, strict=True))
    print(json.dumps({"value": by_clock, "cpu": of_cpu, "unit": unit}))


if __name__ == "__main__":
    main()
