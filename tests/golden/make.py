# pyright: basic
"""Makes the golden files of this directory: python -m tests.golden.make DIRECTORY.

DIRECTORY holds the reference implementation's own golden files. What is small of them is copied;
the rest is computed here at smaller inputs, by modules that first agree with every file of it.
"""

from __future__ import annotations

import json
import shutil
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.stepaudio import tokens
from pipeline.stepaudio.config import MelConfig, VocoderConfig
from pipeline.stepaudio.layout import PACKAGED_TINY, CheckpointLayout
from pipeline.stepaudio.llm.prompt import PromptBuilder
from pipeline.stepaudio.parity.frontend import FRONTEND_CONF
from pipeline.stepaudio.parity.golden import fill
from pipeline.stepaudio.parity.lm import request_of, voice_of
from pipeline.stepaudio.parity.run import run_parity
from pipeline.stepaudio.parity.vocoder import FlowInputs
from pipeline.stepaudio.tokenizer import features
from pipeline.stepaudio.tokenizer.linguistic import LinguisticEncoder, nearest_codes
from pipeline.stepaudio.vocoder.flow.flow import DEFAULT_STEPS, Flow
from pipeline.stepaudio.vocoder.hift.generator import Hift
from pipeline.voice_list import load_voices

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SEED = 11
INPUT_GRID, OUTPUT_GRID = (
    2.0**-5,
    2.0**-14,
)  # multiples of these pack well; tolerances begin at 1e-4
CLIP_FROM_S, FRONTEND_S, VQ02_S = 0.5, 0.25, 0.9
N_PROMPT_TOKENS, N_TOKENS, STREAM_FRAMES = 10, 10, (4, 8)  # 5 tokens are 3 rows, 6 frames of mel
N_PROMPT_FRAMES = 11  # one short of its rows, so that it is stretched
KEPT_CASES = (0, 1, 3, 4, 7, 8, 9, 11)  # of the reference's prompts: every kind of instruction


def main(reference: Path) -> None:
    failed = [check for _, check in run_parity(reference) if not check.ok]
    if failed:
        sys.exit(f"these modules are no source of golden data: {failed}")
    for name in ("lm_public.json", "lm_public.npz", "vocoder_public.json"):
        shutil.copyfile(reference / name, HERE / name)
    names = json.loads((reference / "vocoder_public.names.json").read_text())
    _write_json("vocoder_public.names.json", names)
    for name in ("vq02_public.json", "vq02_public.am.mvn"):
        shutil.copyfile(reference / name, HERE / name)
    with torch.inference_mode():
        _write("frontend_public.npz", _frontend())
        _write("vq02_public.npz", _vq02(HERE / "vq02_public.json"))
        _write(
            "vocoder_public.npz", _vocoder(json.loads((HERE / "vocoder_public.json").read_text()))
        )
    _write_json("prompts.json", _prompts(json.loads((reference / "prompts.json").read_text())))


def _frontend() -> dict[str, Any]:
    samples, rate_hz = _clip(FRONTEND_S)
    clip = _waveform(samples)
    own_wav = _coarse(features.clip_tokenizer_wav(clip, rate_hz))
    whisper = features.whisper_mel(torch.from_numpy(own_wav), 128)
    return {
        "wav": samples,
        "sample_rate": rate_hz,
        "prompt_mel": _coarse(features.clip_prompt_mel(clip, rate_hz, MelConfig())[None]),
        "speaker_fbank": _coarse(features.clip_speaker_fbank(clip, rate_hz)),
        "tokenizer_wav": own_wav,
        "whisper_mel": _coarse(whisper),
    }


def _vq02(json_path: Path) -> dict[str, Any]:
    conf = json.loads(json_path.read_text())
    seed = conf.pop("seed")
    encoder = LinguisticEncoder(conf, FRONTEND_CONF, json_path.with_suffix(".am.mvn"), "cpu")
    fill(encoder.encoder, seed)
    clip, rate_hz = _clip(VQ02_S)
    samples = (features.clip_tokenizer_wav(_waveform(clip), rate_hz) * 32_767).numpy()
    samples = samples.astype(np.int16)
    hidden = encoder.encode(_waveform(samples))
    codebook = _normal((64, conf["output_size"]))
    codes = nearest_codes(hidden, torch.from_numpy(codebook))
    return {"wav": samples, "enc_out": _coarse(hidden), "codebook": codebook, "codes": codes}


def _vocoder(sections: dict[str, Any]) -> dict[str, Any]:
    config = VocoderConfig.from_sections(sections)
    flow, hift = Flow(config), Hift(config.hift, config.f0_predictor)
    for module in (flow, hift):
        fill(module, sections["seed"])
    hift.fuse_weight_norm()
    flow, hift = flow.eval(), hift.eval()
    token, prompt_token = _mixed(N_TOKENS, 1), _mixed(N_PROMPT_TOKENS, 2)
    rows, prompt_rows = tokens.to_rows(token), tokens.to_rows(prompt_token)
    n_frames = (len(rows) + len(prompt_rows)) * flow.frames_per_row
    given: dict[str, Any] = {
        "token": token,
        "prompt_token": prompt_token,
        "prompt_feat": _normal((1, N_PROMPT_FRAMES, 80)),
        "embedding": _normal((1, 192)),
        "rand_noise": _normal((1, 80, n_frames)),
        "mel_stream_chunks": np.array(STREAM_FRAMES),
    }
    flow.decoder.noise = torch.from_numpy(given["rand_noise"])
    inputs = FlowInputs(flow, rows, prompt_rows, given)
    schedule = flow.schedule(DEFAULT_STEPS)
    mu, _ = flow.mu(torch.cat((inputs.prompt_rows, inputs.rows), dim=1))
    mel = _coarse(
        flow.inference(
            inputs.rows, inputs.prompt_rows, inputs.prompt_mel, inputs.embedding, schedule
        )
    )
    n_samples = mel.shape[2] * 480
    source = _on_grid(0.1 * np.sin(np.arange(n_samples) * 0.05), INPUT_GRID / 8)[None, None]
    on_mel = torch.from_numpy(mel)
    return given | {
        "dual_token": rows[None],
        "mu": _coarse(mu),
        "mel": mel,
        "mel_stream": _coarse(inputs.stream(schedule, list(STREAM_FRAMES))),
        "f0": _coarse(hift.f0_predictor(on_mel)),
        "source": source,
        "wav": _coarse(hift.decode(on_mel, torch.from_numpy(source))),
    }


def _prompts(reference: dict[str, Any]) -> dict[str, Any]:
    """The reference's cases with the embedded checkpoint's tokenizer in place of its own."""
    model = CheckpointLayout.at(PACKAGED_TINY).text_tokenizer
    name = "../../" + model.relative_to(ROOT).as_posix()
    kept = {**reference, "tokenizer": name, "cases": [reference["cases"][i] for i in KEPT_CASES]}
    builder = PromptBuilder(model)
    for case in kept["cases"]:
        case["ids"] = builder.build(request_of(case), voice_of(kept, case.get("speaker"))).tolist()
    return kept


def _clip(seconds: float) -> tuple[NDArray[np.int16], int]:
    """A voice of the package, from the middle of its speech."""
    (voice, *_) = load_voices().values()
    with wave.open(str(voice.path)) as reader:
        rate_hz = reader.getframerate()
        reader.setpos(int(CLIP_FROM_S * rate_hz))
        return np.frombuffer(reader.readframes(int(seconds * rate_hz)), np.int16), rate_hz


def _mixed(n_tokens: int, seed: int) -> NDArray[np.int64]:
    """Tokens as they lie in a stream, two of vq02 and three of vq06."""
    draw = np.random.RandomState(SEED + seed)
    n_groups = n_tokens // 5
    vq02 = draw.randint(0, 1024, 2 * n_groups).astype(np.int16)
    vq06 = draw.randint(0, 4096, 3 * n_groups).astype(np.int16)
    return tokens.interleave(vq02, vq06).astype(np.int64)


def _normal(shape: tuple[int, ...]) -> NDArray[np.float32]:
    return _on_grid(np.random.RandomState(SEED).standard_normal(shape), INPUT_GRID)


def _coarse(tensor: torch.Tensor) -> NDArray[np.float32]:
    return _on_grid(tensor.numpy(), OUTPUT_GRID)


def _on_grid(array: NDArray[Any], grid: float) -> NDArray[np.float32]:
    return (np.round(array / grid) * grid).astype(np.float32)


def _waveform(samples: NDArray[np.int16]) -> torch.Tensor:
    return torch.from_numpy(samples.astype(np.float32) / 32_768)


def _write(name: str, arrays: dict[str, Any]) -> None:
    np.savez_compressed(HERE / name, **arrays)


def _write_json(name: str, document: dict[str, Any]) -> None:
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    (HERE / name).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
