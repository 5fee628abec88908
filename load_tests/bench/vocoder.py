"""Measures the vocoder: streaming against offline, batches against singles, steps, and over HTTP.

    python -m load_tests.bench.vocoder [--device cuda] [--model DIR] [--no-http] [--json FILE]
    python -m load_tests.bench.vocoder --full [--device cuda] [--repeats 1] [--json FILE]

--full takes the released sizes with seeded random weights, and on a CPU only compares streaming
with offline. On a GPU the bars for first audio are those of the whole chain, met by live streams
whose tokens come at --tokens-per-s from the start; prompt and text of the LLM come on top.
Comparisons are ratios within one run. Steps are compared with ten by mel-L1, on the listed voices'
own speech; with random weights, on random tokens, that says how the solver converges, not how a
voice sounds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import torch
import yaml

from deployments.local.address import find_free_port
from deployments.local.service import LocalService
from load_tests.bench.full_vocoder import write_full_vocoder
from load_tests.bench.provenance import provenance
from load_tests.bench.report import Row, percentile, publish
from load_tests.bench.vocoder_streams import (
    BATCH,
    PROMPT_GROUPS,
    ROUNDS,
    UTTERANCE_GROUPS,
    Job,
    measure_batch,
    measure_live,
    measure_prompt_memory,
    measure_steps,
    measure_stream_batches,
    measure_streaming,
)
from pipeline.audio.decode import decode_clip
from pipeline.continuity import Continuity, PlaybackMeter
from pipeline.contracts import OUTPUT_SAMPLE_RATE_HZ, VoicePrompt
from pipeline.stepaudio import tokens
from pipeline.stepaudio.layout import CheckpointLayout, resolve_model
from pipeline.stepaudio.tokenizer.voice_encoder import StepVoiceEncoder
from pipeline.stepaudio.vocoder.wave_decoder import StepWaveDecoder
from pipeline.voice_list import load_voices
from tests.vocoder_files import make_ids, make_voice

ROOT = Path(__file__).parents[2]
STREAMS = 4
REQUESTS_ALONE = 8
BYTES_PER_SAMPLE = 2
TEXT = "One two three four five six seven eight nine ten. And now once more, from ten to one."


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
    return meter.continuity(), time.perf_counter() - started_s


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
