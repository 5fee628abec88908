# pyright: basic
"""The vocoder against golden data of the reference: encoder, mel, streamed mel, F0, waveform."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.stepaudio import tokens
from pipeline.stepaudio.config import VocoderConfig
from pipeline.stepaudio.parity.golden import Check, fill
from pipeline.stepaudio.vocoder.flow.flow import DEFAULT_STEPS, Flow, Schedule, stretch_mel
from pipeline.stepaudio.vocoder.hift.generator import Hift

HIDDEN_TOLERANCE = 1e-4
MEL_TOLERANCE = 1e-3
WAVE_TOLERANCE = 1e-4

Golden = Mapping[str, NDArray[Any]]


@torch.inference_mode()
def check_vocoder(json_path: Path, device: str | torch.device = "cpu") -> list[Check]:
    """Run every comparison of one golden vocoder.

    `vocoder_NAME.json`, with `.npz` and `.names.json` beside it. Weight norm is folded first, as in
    production. F0 is in Hz: its tolerance is that of hidden states, relative above 1 Hz.
    Raises CheckpointError when the sizes make no vocoder.
    """
    sections = json.loads(json_path.read_text())
    names = json.loads(json_path.with_suffix(".names.json").read_text())
    config = VocoderConfig.from_sections(sections)
    flow = Flow(config)
    hift = Hift(config.hift, config.f0_predictor)
    checks = [
        Check("flow parameters", _name_mismatches(flow, names["flow"]), 0),
        Check("hift parameters", _name_mismatches(hift, names["hift"]), 0),
    ]
    for module in (flow, hift):
        fill(module, sections["seed"])
    hift.fuse_weight_norm()
    flow, hift = flow.to(device).eval(), hift.to(device).eval()
    with np.load(json_path.with_suffix(".npz"), allow_pickle=False) as golden:
        checks += _check_flow(flow, golden, sections.get("n_timesteps", DEFAULT_STEPS))
        checks += _check_hift(hift, golden)
    return checks


def _name_mismatches(module: nn.Module, expected: Mapping[str, list[int]]) -> float:
    """How many parameters are missing, unexpected or misshapen."""
    ours = {name: list(tensor.shape) for name, tensor in module.state_dict().items()}
    wrong = [name for name in ours.keys() | expected.keys() if ours.get(name) != expected.get(name)]
    return float(len(wrong))


def _check_flow(flow: Flow, golden: Golden, n_steps: int) -> list[Check]:
    device = flow.decoder.noise.device
    rows, prompt_rows = (tokens.to_rows(golden[key]) for key in ("token", "prompt_token"))
    flow.decoder.noise = torch.from_numpy(golden["rand_noise"]).to(device)
    inputs = FlowInputs(flow, rows, prompt_rows, golden)
    schedule = flow.schedule(n_steps)
    mu, _ = flow.mu(torch.cat((inputs.prompt_rows, inputs.rows), dim=1))
    mel = flow.inference(
        inputs.rows, inputs.prompt_rows, inputs.prompt_mel, inputs.embedding, schedule
    )
    mel_stream = inputs.stream(schedule, golden["mel_stream_chunks"].tolist())
    return [
        Check("dual_token", largest_difference(rows[None], golden["dual_token"]), 0),
        Check("mu", largest_difference(mu, golden["mu"]), HIDDEN_TOLERANCE),
        Check("mel", largest_difference(mel, golden["mel"]), MEL_TOLERANCE),
        Check("mel_stream", largest_difference(mel_stream, golden["mel_stream"]), MEL_TOLERANCE),
    ]


class FlowInputs:
    """Golden inputs as tensors of batch one on the flow's device."""

    def __init__(
        self, flow: Flow, rows: NDArray[Any], prompt_rows: NDArray[Any], golden: Golden
    ) -> None:
        device = flow.decoder.noise.device
        self.flow = flow
        self.rows = torch.from_numpy(rows)[None].to(device)
        self.prompt_rows = torch.from_numpy(prompt_rows)[None].to(device)
        mel = torch.from_numpy(golden["prompt_feat"]).to(device)
        self.prompt_mel = stretch_mel(mel, len(prompt_rows) * flow.frames_per_row)
        self.embedding = torch.from_numpy(golden["embedding"]).to(device)

    def stream(self, schedule: Schedule, chunk_frames: list[int]) -> Tensor:
        """The mel in chunks of the given frames, no cache trimmed. [1, M, T]"""
        flow, n_ahead, done = self.flow, self.flow.lookahead_rows, 0
        cache = flow.setup_cache(
            self.prompt_rows, self.rows[:, :n_ahead], self.prompt_mel, self.embedding, schedule
        )
        chunks: list[Tensor] = []
        for n_frames in chunk_frames:
            end = done + n_frames // flow.frames_per_row
            ahead = self.rows[:, end : end + n_ahead]
            chunk, cache = flow.inference_chunk(
                self.rows[:, done:end], ahead, self.embedding, cache, schedule
            )
            chunks.append(chunk)
            done = end
        return torch.cat(chunks, dim=2)


def _check_hift(hift: Hift, golden: Golden) -> list[Check]:
    device = hift.window.device
    mel = torch.from_numpy(golden["mel"]).to(device)
    f0 = hift.f0_predictor(mel)
    wave = hift.decode(mel, torch.from_numpy(golden["source"]).to(device))
    f0_scale = max(1.0, float(np.abs(golden["f0"]).max()))
    return [
        Check("f0", largest_difference(f0, golden["f0"]), HIDDEN_TOLERANCE * f0_scale),
        Check("wav", largest_difference(wave, golden["wav"]), WAVE_TOLERANCE),
    ]


def largest_difference(ours: Tensor | NDArray[Any], theirs: NDArray[Any]) -> float:
    """Largest absolute difference; infinite when shapes differ or anything is not a number."""
    array = ours.cpu().numpy() if isinstance(ours, Tensor) else ours
    if array.shape != theirs.shape or not np.isfinite(array).all():
        return float("inf")
    return float(np.abs(array.astype(np.float64) - theirs).max(initial=0.0))
