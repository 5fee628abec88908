"""Measures the vocoder: streaming against offline, batches against singles, steps, and over HTTP.

    python -m load_tests.bench_vocoder [--device cuda] [--model DIR] [--no-http] [--json FILE]
    python -m load_tests.bench_vocoder --full [--device cuda] [--repeats 1] [--json FILE]

--full takes the released sizes with seeded random weights, and on a CPU only compares streaming
with offline. On a GPU the bars for first audio are those of the whole chain, met by live streams
whose tokens come at --tokens-per-s from the start; prompt and text of the LLM come on top.
Comparisons are ratios within one run. Steps are compared with ten by mel-L1, on the listed voices'
own speech; with random weights, on random tokens, that says how the solver converges, not how a
voice sounds.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import torch
import yaml

from deployments.local.address import find_free_port
from deployments.local.service import LocalService
from load_tests.provenance import provenance
from load_tests.report import Row, median_s, percentile, publish
from pipeline.audio.decode import decode_clip
from pipeline.continuity import Continuity, PlaybackMeter
from pipeline.contracts import OUTPUT_SAMPLE_RATE_HZ, TokenChunk, VoicePrompt
from pipeline.stepaudio import tokens
from pipeline.stepaudio.checkpoint.tiny_configs import SIZES, vocoder_config
from pipeline.stepaudio.config import VocoderConfig
from pipeline.stepaudio.layout import CheckpointLayout, resolve_model
from pipeline.stepaudio.tokenizer.voice_encoder import StepVoiceEncoder
from pipeline.stepaudio.vocoder.flow import Flow
from pipeline.stepaudio.vocoder.hift import Hift
from pipeline.stepaudio.vocoder.wave_decoder import StepWaveDecoder
from pipeline.voice_list import load_voices
from tests.vocoder_files import make_ids, make_voice, token_stream

ROOT = Path(__file__).parents[1]
UTTERANCE_GROUPS = 80  # 9.6 s
PROMPT_GROUPS = 50  # 6 s
BATCH = 8
STREAMS = 4
REQUESTS_ALONE = 8
ROUNDS = 3
STEPS = (10, 6, 4)
QUIET_ROWS = 10  # vocoder.quiet_first_rows
BYTES_PER_SAMPLE = 2
TEXT = "One two three four five six seven eight nine ten. And now once more, from ten to one."


FULL_SIZES = replace(
    SIZES["tiny"],
    flow_width=512,
    flow_heads=8,
    flow_units=2048,
    flow_blocks=6,
    flow_up_blocks=4,
    dit_width=512,
    dit_heads=8,
    dit_head_width=64,
    dit_depth=16,
    hift_channels=512,
    f0_channels=512,
)


def write_full_vocoder(directory: Path) -> Path:
    """A vocoder directory of the released sizes, weights as torch draws them from one seed."""
    yaml_text = vocoder_config(FULL_SIZES).replace("mlp_ratio: 2.0", "mlp_ratio: 4.0")
    (directory / "cosyvoice.yaml").write_text(yaml_text)
    config = VocoderConfig.load(directory)
    torch.manual_seed(0)
    torch.save(Flow(config).state_dict(), directory / "flow.pt")
    torch.save(Hift(config.hift, config.f0_predictor).state_dict(), directory / "hift.pt")
    return directory


def measure_streaming(
    decoder: StepWaveDecoder, device: str, n_groups: int, n_prompt: int, repeats: int
) -> list[Row]:
    """Compute of a stream whose tokens are all there, against the same utterance at once."""
    ids, voice = make_ids(n_groups), make_voice(n_prompt)
    audio_s = n_groups * 0.12

    async def drain() -> None:
        async for _ in decoder.stream(token_stream(ids, n_groups), voice):
            pass

    async def first_piece() -> None:
        stream = decoder.stream(token_stream(ids, n_groups), voice)
        await anext(stream)
        await stream.aclose()

    offline_s = median_s(lambda: decoder.decode(ids, voice), repeats)
    stream_s = median_s(lambda: asyncio.run(drain()), repeats)
    first_s = median_s(lambda: asyncio.run(first_piece()), repeats)
    bar = 0.02 if device != "cpu" else None
    return [
        Row(
            f"offline RTF, {audio_s:g} s of audio, {n_prompt * 0.12:g} s prompt",
            offline_s / audio_s,
            "",
            bar,
        ),
        Row("streaming RTF, the same", stream_s / audio_s, ""),
        Row("streaming compute against offline", stream_s / offline_s, "x", 2.5),
        Row("first piece, all tokens there", first_s * 1e3, "ms"),
    ]


def measure_batch(decoder: StepWaveDecoder) -> list[Row]:
    """Eight utterances of mixed lengths at once against one after another."""
    jobs = [(make_ids(20 + 5 * i, i), make_voice(20 + 4 * i, i)) for i in range(BATCH)]
    alone_s = median_s(lambda: [decoder.decode(*job) for job in jobs], 3)
    together_s = median_s(lambda: decoder.decode_batch(jobs), 3)
    return [Row("8 singles against a batch of 8, mixed lengths", alone_s / together_s, "x")]


def measure_stream_batches(vocoder: Path, device: str) -> list[Row]:
    """Eight streams at once: chunks one by one against chunks of several streams together."""
    took_s = {}
    jobs = [(make_ids(40, i), make_voice(30 + i, i)) for i in range(BATCH)]
    for max_batch in (1, BATCH):
        decoder = StepWaveDecoder(vocoder, device, threads=1, max_batch=max_batch)

        async def drain(
            ids: np.ndarray, voice: VoicePrompt, decoder: StepWaveDecoder = decoder
        ) -> None:
            async for _ in decoder.stream(token_stream(ids, 3), voice):
                pass

        async def everyone(drain: object = drain) -> None:
            await asyncio.gather(*(drain(*job) for job in jobs))  # type: ignore[operator]

        took_s[max_batch] = median_s(lambda run=everyone: asyncio.run(run()), 3)
        decoder.close()
    return [Row("8 streams: one by one against batched chunks", took_s[1] / took_s[BATCH], "x")]


def measure_prompt_memory(vocoder: Path, device: str) -> list[Row]:
    """First piece of the same request again, with and without the voice kept."""
    ids, voice = make_ids(UTTERANCE_GROUPS), make_voice(PROMPT_GROUPS)
    took_s = []
    for kept_bytes in (0, 2**33):
        decoder = StepWaveDecoder(vocoder, device, threads=1, prompt_memory_bytes=kept_bytes)

        async def first_piece(decoder: StepWaveDecoder = decoder) -> None:
            stream = decoder.stream(all_at_once(ids), voice)
            await anext(stream)
            await stream.aclose()

        took_s.append(median_s(lambda run=first_piece: asyncio.run(run()), 5))
        decoder.close()
    return [Row("first piece: voice new against kept, same first rows", took_s[0] / took_s[1], "x")]


async def paced(ids: np.ndarray, tokens_per_s: float) -> AsyncIterator[TokenChunk]:
    """Chunks of fifteen tokens as a language model of that speed would send them."""
    size, started_s = 3 * tokens.GROUP_TOKENS, time.perf_counter()
    for end in range(size, len(ids) + size, size):
        due_s = started_s + min(end, len(ids)) / tokens_per_s
        await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
        yield TokenChunk(ids[end - size : end], last=end >= len(ids))


def measure_live(
    vocoder: Path, device: str, n_streams: int, tokens_per_s: float, bar_s: float
) -> list[Row]:
    """Streams of new voices at once, with tokens that come as a language model sends them."""
    max_batch = BATCH if device != "cpu" else 1
    decoder = StepWaveDecoder(vocoder, device, threads=1, max_batch=max_batch)
    first_rows = QUIET_ROWS if n_streams == 1 else None  # as the service chooses

    async def listened(seed: int) -> Continuity:
        ids, voice = make_ids(UTTERANCE_GROUPS, seed), make_voice(PROMPT_GROUPS, seed)
        meter = PlaybackMeter(time.perf_counter())
        async for chunk in decoder.stream(paced(ids, tokens_per_s), voice, first_rows):
            meter.sent(len(chunk.samples) / OUTPUT_SAMPLE_RATE_HZ, time.perf_counter())
        return meter.account()

    async def everyone(seed: int) -> list[Continuity]:
        return await asyncio.gather(*(listened(seed + i) for i in range(n_streams)))

    asyncio.run(everyone(0))
    heard = [one for turn in range(1, ROUNDS + 1) for one in asyncio.run(everyone(turn * 100))]
    decoder.close()
    name = f"{n_streams} live, {tokens_per_s:g} tokens/s each"
    is_gpu = device != "cpu"
    return [
        Row(
            f"{name}: first audio, worst",
            max(one.ttfa_s or 0.0 for one in heard),
            "s",
            bar_s if is_gpu else None,
        ),
        Row(
            f"{name}: underruns",
            sum(one.underruns for one in heard),
            "",
            0.0 if is_gpu else None,
        ),
        Row(f"{name}: longest gap", max(one.longest_gap_s for one in heard), "s"),
    ]


async def all_at_once(ids: np.ndarray) -> AsyncIterator[TokenChunk]:
    yield TokenChunk(ids, last=True)


Job = tuple[np.ndarray, VoicePrompt]


def real_jobs(layout: CheckpointLayout) -> list[Job]:
    """Every listed voice speaks the next one's clip, by that clip's own tokens."""
    encoder = StepVoiceEncoder(layout.tokenizer, layout.vocoder, threads=1)
    clips = [decode_clip(voice.path.read_bytes()) for voice in load_voices().values()]
    voices = [encoder.encode_blocking(clip) for clip in clips]
    encoder.close()
    spoken = [tokens.interleave(*whole_groups(voice)) for voice in voices]
    return list(zip(spoken[1:] + spoken[:1], voices, strict=True))


def whole_groups(voice: VoicePrompt) -> tuple[np.ndarray, np.ndarray]:
    return voice.vq02[: 2 * voice.n_groups], voice.vq06[: 3 * voice.n_groups]


def measure_steps(vocoder: Path, device: str, jobs: list[Job]) -> list[Row]:
    """Cost and mel-L1 of fewer Euler steps, against ten, on whole utterances."""
    mels: dict[int, list[torch.Tensor]] = {}
    took_s: dict[int, float] = {}
    for steps in STEPS:
        decoder = StepWaveDecoder(vocoder, device, threads=1, steps=steps)
        seen: list[torch.Tensor] = []
        hook = decoder._model.hift.f0_predictor.register_forward_pre_hook(
            lambda _, args, seen=seen: seen.append(args[0])
        )
        for job in jobs:
            decoder.decode(*job)
        hook.remove()
        mels[steps] = seen
        took_s[steps] = median_s(lambda d=decoder: d.decode(*jobs[0]), 3)
        decoder.close()
    level = _mean([mel.abs() for mel in mels[10]])
    rows = []
    for steps in STEPS[1:]:
        pairs = zip(mels[steps], mels[10], strict=True)
        l1 = _mean([(few - ten).abs() for few, ten in pairs])
        rows.append(Row(f"{steps} steps against 10: mel-L1 (mean |mel| {level:.3f})", l1, "ln"))
        rows.append(Row(f"{steps} steps against 10: time", took_s[steps] / took_s[10], "x"))
    return rows


def _mean(mels: list[torch.Tensor]) -> float:
    """Over all frames of mels of any lengths."""
    return float(torch.cat([mel.flatten() for mel in mels]).mean())


@contextmanager
def service(directory: Path, model: str):  # noqa: ANN201 - a context manager of a URL
    """The shipped CPU service on a free port, stopped at the end."""
    config = yaml.safe_load((ROOT / "serve_config.cpu.yaml").read_text())
    config["http_options"]["port"] = find_free_port("127.0.0.1", 0)
    path = directory / "serve_config.yaml"
    args = config["applications"][0]["args"]
    args.update(model=model, config_file=str(path), cache={"url": str(directory / "voices")})
    path.write_text(yaml.safe_dump(config))
    local = LocalService(directory)
    running = local.start(path, {"PYTHONPATH": str(ROOT)}, lambda _: None, print)
    try:
        yield running.url
    finally:
        local.stop()


def listen(url: str, seed: int) -> tuple[Continuity, float]:
    """One streamed request as a player hears it, and its total seconds."""
    body = {"input": TEXT, "voice": "aria", "seed": seed, "response_format": "pcm"}
    started_s = time.perf_counter()
    meter = PlaybackMeter(started_s)
    speech = f"{url}/v1/audio/speech"
    with httpx.stream("POST", speech, json=body, timeout=120, trust_env=False) as reply:
        assert reply.status_code == httpx.codes.OK, reply.status_code
        for piece in reply.iter_raw():
            samples = len(piece) / BYTES_PER_SAMPLE
            meter.sent(samples / OUTPUT_SAMPLE_RATE_HZ, time.perf_counter())
    return meter.account(), time.perf_counter() - started_s


def measure_http(model: str) -> list[Row]:
    """Alone and with four streams at a time, on a service of its own."""
    with tempfile.TemporaryDirectory() as name, service(Path(name), model) as url:
        listen(url, 0)
        alone = [listen(url, 1 + i) for i in range(REQUESTS_ALONE)]
        crowd: list[tuple[Continuity, float]] = []
        with ThreadPoolExecutor(STREAMS) as pool:
            for turn in range(ROUNDS):
                seeds = [100 + turn * STREAMS + i for i in range(STREAMS)]
                crowd += pool.map(lambda seed: listen(url, seed), seeds)
    ttfa = [c.ttfa_s or 0.0 for c, _ in alone]
    crowd_ttfa = [c.ttfa_s or 0.0 for c, _ in crowd]
    rtf = [took_s / c.audio_s for c, took_s in alone]
    mean_audio_s = float(np.mean([c.audio_s for c, _ in alone + crowd]))
    return [
        Row(
            f"HTTP alone: TTFA p50 ({mean_audio_s:.1f} s of audio)", percentile(ttfa, 0.5), "s", 0.6
        ),
        Row("HTTP alone: TTFA p95", percentile(ttfa, 0.95), "s"),
        Row("HTTP alone: RTF p50", percentile(rtf, 0.5), "", 0.5),
        Row("HTTP alone: underruns", sum(c.underruns for c, _ in alone), ""),
        Row("HTTP, 4 streams: TTFA p50", percentile(crowd_ttfa, 0.5), "s"),
        Row("HTTP, 4 streams: TTFA p95", percentile(crowd_ttfa, 0.95), "s", 2.5),
        Row("HTTP, 4 streams: underruns", sum(c.underruns for c, _ in crowd), "", 0.0),
        Row("HTTP, 4 streams: seconds dry", sum(c.underrun_s for c, _ in crowd), "s"),
        Row("HTTP, 4 streams: longest gap", max(c.longest_gap_s for c, _ in crowd), "s"),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default="tiny", help="tiny, or a checkpoint directory")
    parser.add_argument("--full", action="store_true", help="released sizes, random weights")
    parser.add_argument("--groups", type=int, default=UTTERANCE_GROUPS, help="of 120 ms, spoken")
    parser.add_argument("--prompt-groups", type=int, default=PROMPT_GROUPS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="of the decoder")
    parser.add_argument("--tokens-per-s", type=float, default=200.0, help="of live streams")
    parser.add_argument("--no-http", action="store_true", help="start no service")
    parser.add_argument("--json", type=Path, help="also write the results here")
    options = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = True  # as the replica has it
    with tempfile.TemporaryDirectory() as name:
        if options.full:
            vocoder = write_full_vocoder(Path(name))
        else:
            vocoder = CheckpointLayout.at(resolve_model(options.model)).vocoder
        rows = measure(vocoder, options)
    if not (options.no_http or options.full):
        rows += measure_http(options.model)
    model = "released sizes, random weights" if options.full else options.model
    about = {**provenance(options.device), "model": model}
    return publish(rows, about, options.json)


def measure(vocoder: Path, options: argparse.Namespace) -> list[Row]:
    """Everything that needs no service."""
    device = options.device
    decoder = StepWaveDecoder(vocoder, device, threads=options.threads)
    sizes = (options.groups, options.prompt_groups, options.repeats)
    rows = measure_streaming(decoder, device, *sizes)
    if options.full and device == "cpu":  # minutes for every other comparison
        decoder.close()
        return rows
    rows += measure_batch(decoder)
    decoder.close()
    rows += measure_stream_batches(vocoder, device)
    rows += measure_prompt_memory(vocoder, device)
    rows += measure_live(vocoder, device, 1, options.tokens_per_s, 0.25)
    crowd = STREAMS if device == "cpu" else BATCH
    rows += measure_live(vocoder, device, crowd, options.tokens_per_s, 0.5)
    if options.full:
        jobs = [(make_ids(40), make_voice(20))]
    else:
        jobs = real_jobs(CheckpointLayout.at(resolve_model(options.model)))
    return rows + measure_steps(vocoder, device, jobs)


if __name__ == "__main__":
    sys.exit(main())
