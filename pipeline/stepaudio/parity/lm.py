# pyright: basic
"""Parity of the LLM stage with golden data: logits and greedy answer, prompt ids, tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.contracts import Int32Array, Mode, Sampling, SpeechRequest, VoicePrompt
from pipeline.stepaudio.llm.prompt import PromptBuilder, audio_token_string, speaker_name
from pipeline.stepaudio.llm.runner import Step1Runner
from pipeline.stepaudio.llm.sampling import AudioVocabulary, DrawState, Sampler
from pipeline.stepaudio.llm.step1 import Step1Config, Step1ForCausalLM
from pipeline.stepaudio.parity.golden import Check, fill
from pipeline.stepaudio.tokens import deinterleave, interleave

LOGITS_TOLERANCE = 1e-4
_PREFILL_CHUNK_TOKENS = 64
_STOP_ID = 3  # of every Step1


def golden_model(json_path: Path, device: torch.device | str) -> Step1ForCausalLM:
    """Step1 of a golden file's sizes with its parameters, float32."""
    fields = json.loads(json_path.read_text("utf-8"))
    seed, head_scale = fields.pop("seed"), fields.pop("lm_head_scale")
    model = Step1ForCausalLM(Step1Config.of(fields)).eval().requires_grad_(False)
    fill(model, seed)
    model.lm_head.weight.mul_(head_scale)
    return model.to(device)


@torch.inference_mode()
def check_lm(json_path: Path, device: torch.device | str) -> list[Check]:
    """Compare `lm_….json` and its `.npz`: logits of the plain and the slot form, greedy answer."""
    model = golden_model(json_path, device)
    with np.load(json_path.with_suffix(".npz"), allow_pickle=False) as golden:
        ids, expected = golden["input_ids"].reshape(-1), golden["logits"]
        positions, greedy = golden["positions"], golden["greedy"]
    logits = model(torch.from_numpy(ids).to(device)[None])[0, positions].cpu().numpy()
    stepped, answer = _greedy(model, ids.astype(np.int32), positions, len(greedy))
    n_wrong = int((answer != greedy).sum())
    return [
        Check("logits", float(np.abs(logits - expected).max()), LOGITS_TOLERANCE),
        Check("logits, slots", float(np.abs(stepped - expected).max()), LOGITS_TOLERANCE),
        Check("greedy tokens", n_wrong, 0),
    ]


def _greedy(
    model: Step1ForCausalLM, ids: Int32Array, positions: Int32Array, n_tokens: int
) -> tuple[np.ndarray, np.ndarray]:
    """Logits at the prompt positions and the greedy answer, through a slot."""
    size = model.config.vocab_size
    vocabulary = AudioVocabulary(0, _STOP_ID, size)
    runner = Step1Runner(model, vocabulary, slots=1, max_context_tokens=len(ids) + n_tokens)
    sampler = Sampler(vocabulary, runner.device)
    slot = range(1)

    def run(token: int, position: int) -> torch.Tensor:
        return runner.step(slot, [token], [position], position)[:, :size]

    stepped = []
    for position in positions.tolist():
        if position:
            runner.prefill(0, ids[:position], 0)
        stepped.append(run(int(ids[position]), position)[0].cpu().numpy())
    for start in range(0, len(ids) - 1, _PREFILL_CHUNK_TOKENS):
        end = min(start + _PREFILL_CHUNK_TOKENS, len(ids) - 1)
        runner.prefill(0, ids[start:end], start)
    draws = DrawState(Sampling(temperature=0, grammar=False), vocabulary, ids)
    answer: list[int] = []
    token = int(ids[-1])
    for _ in range(n_tokens):
        logits = torch.full((1, size + 1), -torch.inf, device=runner.device)
        logits[:, :size] = run(token, len(ids) - 1 + len(answer))
        token = sampler.draw(logits, [draws.row()])[0]
        draws.accept(token)
        answer.append(token)
    return np.stack(stepped), np.array(answer)


def check_prompts(json_path: Path) -> list[Check]:
    """Compare `prompts….json`: audio-token string, 2:3 interleave and back, ids of every case."""
    golden = json.loads(json_path.read_text("utf-8"))
    builder = PromptBuilder(json_path.parent / golden["tokenizer"])
    voice = voice_of(golden)
    n = voice.n_groups
    back02, back06 = deinterleave(interleave(voice.vq02, voice.vq06))
    n_wrong = _differences(back02, voice.vq02[: 2 * n]) + _differences(back06, voice.vq06[: 3 * n])
    text_equal = audio_token_string(voice) == golden["audio_token_string"]
    checks = [
        Check("audio token string", float(not text_equal), 0),
        Check("interleave and back", n_wrong, 0),
    ]
    for index, case in enumerate(golden["cases"]):
        ids = builder.build(request_of(case), voice_of(golden, case.get("speaker")))
        name = f"prompt {index}: {case.get('edit_type') or 'clone'}"
        checks.append(Check(name, _differences(ids, np.array(case["ids"])), 0))
    return checks


def voice_of(golden: dict[str, Any], speaker: str | None = None) -> VoicePrompt:
    """A voice prompt from the codes of a `prompts….json`, of the clip that names a speaker."""
    vq02, vq06 = (np.array(golden[name], np.int16) for name in ("vq02", "vq06"))
    return VoicePrompt(
        vq02=vq02,
        vq06=vq06,
        prompt_mel=np.zeros((0, 80), np.float32),
        speaker_embedding=np.zeros(192, np.float32),
        duration_s=0.0,
        fingerprint="",
        clip_digest=(speaker or "").removeprefix(speaker_name("")),
    )


def request_of(case: dict[str, Any]) -> SpeechRequest:
    """The request behind one case of a `prompts….json`."""
    if case["kind"] == Mode.CLONE:
        return SpeechRequest(text=case["text"], transcript=case["prompt_text"])
    return SpeechRequest(
        text=case["text"] or "",
        transcript=case["audio_text"],
        mode=Mode(case["edit_type"]),
        info=case["edit_info"] or "",
    )


def _differences(found: np.ndarray, expected: np.ndarray) -> int:
    """Positions that differ, a difference in length included."""
    n = min(len(found), len(expected))
    return int((found[:n] != expected[:n]).sum()) + abs(len(found) - len(expected))
