# pyright: basic
"""Stage `llm`: Step1 on clone prompts exactly as serving writes them.

Codes that the tokenizers never make share one row of the output layer; it counts as often as it
stands there.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.contracts import SpeechRequest, VoicePrompt
from pipeline.stepaudio.checkpoint.tiny_configs import lm_config
from pipeline.stepaudio.llm.prompt import PromptBuilder
from pipeline.stepaudio.llm.step1 import (
    Step1Attention,
    Step1Config,
    Step1ForCausalLM,
    Step1Layer,
    alibi_slopes,
)
from pipeline.stepaudio.tokens import AUDIO_TOKENS, GROUP_TOKENS, VQ02_CODES, deinterleave
from pipeline.text.sounds.symbols import BORDER
from training.config import Recipe
from training.loop import Schedule, load_trained, train
from training.models.sizes import SIZES
from training.models.text_tokenizer import tokenizer_model
from training.speech.clips import Corpus
from training.speech.corpus import load_corpus
from training.speech.encoded import Encoded, load_tokens

EMBED_SCALE = 8.0  # factor on the embedding while training; folded in at export
# The output layer's factor at export: at the temperature that requests come with (0.7) the model
# then samples as at 0.5, where its free-running phone error is lower.
SHARPEN = 1.4
INIT_STD = 0.02
OUTPUT_INIT = 0.5  # of the layers that write to the residual stream
PROMPT_S, TARGET_S = (1.0, 7.5), (0.5, 8.5)  # how much speech is put in a row, drawn evenly
SHORT_S = 2.2  # the longest of both at first: alignment is learnt on single short clips
GROWS = (0.4, 0.75)  # shares of the steps between which lengths grow from short to full
# Real prompts are never quite what training heard: their audio gives tokens that no clip here has,
# and a foreign transcript is spelt in the nearest English sounds. So that the text to be said is
# what counts, some prompts are spoilt: stretches of audio become another voice's, words others.
SPOILT = 0.45  # share of the prompts
GARBLED, MISREAD = 0.6, 0.6  # of those, how many in their audio and in their text
SPOILT_PARTS = (0.1, 0.7)  # share of such a prompt's groups, or words
ALL_MISREAD = 0.4  # share of the misread ones that have no word right
BUCKETS = 6  # sequences are drawn in this many batches at a time and sorted by length
IGNORED = -100
TRAIN_SPLITS = ("train",)


@dataclass(frozen=True, slots=True, eq=False)
class Sequence:
    """ids: int64 (n,). is_target: which ids the model is to predict."""

    ids: NDArray[np.int64]
    is_target: NDArray[np.bool_]


class Head(nn.Module):
    """Which rows of `lm_head` training uses.

    Every code that occurs, the stop, and one shared row a codebook.
    """

    rows: Tensor
    bonus: Tensor
    class_of: Tensor

    def __init__(
        self, used: NDArray[np.bool_], audio_base: int, stop_id: int, vocabulary: int
    ) -> None:
        super().__init__()
        codes = np.flatnonzero(used)
        rest02 = np.flatnonzero(~used[:VQ02_CODES])
        rest06 = VQ02_CODES + np.flatnonzero(~used[VQ02_CODES:])
        self.shared = [audio_base + rest for rest in (rest02, rest06) if len(rest)]
        rows = [*(audio_base + codes), stop_id, *(rest[0] for rest in self.shared)]
        class_of = np.full(vocabulary, IGNORED)
        class_of[rows[: len(codes) + 1]] = np.arange(len(codes) + 1)
        bonus = np.zeros(len(rows), np.float32)
        for i, rest in enumerate(self.shared):
            bonus[len(codes) + 1 + i] = math.log(len(rest))
        for name, values in (("rows", np.array(rows)), ("bonus", bonus), ("class_of", class_of)):
            self.register_buffer(name, torch.from_numpy(values), persistent=False)

    def loss(self, hidden: Tensor, weight: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """hidden [N, D], ids [N] to predict → mean cross-entropy, and which were the likeliest."""
        logits = hidden @ weight[self.rows].T + self.bonus
        classes = self.class_of[ids]
        return F.cross_entropy(logits.float(), classes), logits.argmax(1) == classes

    def share_rows(self, weight: Tensor) -> None:
        """Copy the shared rows to all codes that they stand for, in place."""
        for rest in self.shared:
            weight[torch.from_numpy(rest)] = weight[int(rest[0])].clone()


class SequenceSource:
    """Draws clone sequences of one speaker.

    A few clips as the prompt, others as what is to be said.
    """

    def __init__(
        self, corpus: Corpus, encoded: Encoded, tokenizer: Path, spoils: bool = False
    ) -> None:
        """spoils: whether some prompts do not say what their text says."""
        self._corpus, self._encoded, self._spoils = corpus, encoded, spoils
        self.builder = PromptBuilder(tokenizer)
        self._voices = list(corpus.of_voice)
        self._texts = [corpus[i].text for i in range(len(corpus))]
        self._embedding = np.zeros(192, np.float32)

    def draw(self, rng: np.random.Generator, fullness: float = 1.0) -> Sequence:
        """fullness: 0 for single short clips, 1 for the full lengths."""
        voice = self._voices[int(rng.integers(len(self._voices)))]
        order = [int(i) for i in rng.permutation(self._corpus.of_voice[voice])]
        taken = []
        for shortest, longest in (PROMPT_S, TARGET_S):
            limit = SHORT_S + fullness * (longest - SHORT_S)
            taken.append(self._take(order, rng.uniform(shortest, limit), limit))
        prompt, target = taken
        return self.sequence(prompt, target, rng)

    def sequence(self, prompt: list[int], target: list[int], rng: np.random.Generator) -> Sequence:
        """Clips by number → a sequence."""
        heard, written = self._joined(prompt), self._text(prompt)
        is_spoilt = self._spoils and bool(rng.random() < SPOILT)
        if is_spoilt:
            heard, written = self._garbled(heard, rng), self._misread(written, rng)
        vq02, vq06 = deinterleave(heard)
        voice = VoicePrompt(
            vq02=vq02.astype(np.int16),
            vq06=vq06.astype(np.int16),
            prompt_mel=np.zeros((1, 80), np.float32),
            speaker_embedding=self._embedding,
            duration_s=1.0,
            fingerprint="",
            clip_digest=rng.bytes(8).hex(),
        )
        request = SpeechRequest(
            text=self._text(target),
            transcript=written,
        )
        vocabulary = self.builder.vocabulary
        spoken = self._joined(target) + vocabulary.audio_base
        head = self.builder.build(request, voice)
        ids = np.concatenate((head, spoken, [vocabulary.stop_id])).astype(np.int64)
        is_target = (ids >= vocabulary.audio_base) & (ids < vocabulary.audio_base + AUDIO_TOKENS)
        is_target[-1] = True
        if is_spoilt:
            is_target[: len(head)] = False
        return Sequence(ids, is_target)

    def _take(self, order: list[int], seconds: float, limit: float) -> list[int]:
        """Clips out of `order`, at least one, within `limit` if any is."""
        durations = self._corpus.durations_s
        fitting = [i for i in order if durations[i] <= limit] or order[:1]
        taken, total = [], 0.0
        for i in fitting:
            if not taken or total + durations[i] <= seconds:
                taken.append(i)
                total += durations[i]
        order[:] = [i for i in order if i not in taken]
        return taken

    def _garbled(self, tokens: NDArray[np.int32], rng: np.random.Generator) -> NDArray[np.int32]:
        """In some draws, some groups are those of any other clips."""
        if rng.random() >= GARBLED:
            return tokens
        groups = tokens.reshape(-1, GROUP_TOKENS).copy()
        spoilt = np.flatnonzero(rng.random(len(groups)) < rng.uniform(*SPOILT_PARTS))
        for at in spoilt:
            other = self._encoded.tokens[int(rng.integers(len(self._corpus)))]
            first = GROUP_TOKENS * int(rng.integers(len(other) // GROUP_TOKENS))
            groups[at] = other[first : first + GROUP_TOKENS]
        return groups.reshape(-1)

    def _misread(self, text: str, rng: np.random.Generator) -> str:
        """In some draws, some or all words are those of another clip."""
        if rng.random() >= MISREAD:
            return text
        other = self._texts[int(rng.integers(len(self._texts)))]
        if rng.random() < ALL_MISREAD:
            return other
        words, others, share = text.split(" "), other.split(" "), rng.uniform(*SPOILT_PARTS)
        return " ".join(
            others[int(rng.integers(len(others)))] if rng.random() < share else word
            for word in words
        )

    def _joined(self, clips: list[int]) -> NDArray[np.int32]:
        return np.concatenate([self._encoded.tokens[i] for i in clips])

    def _text(self, clips: list[int]) -> str:
        return BORDER.join(self._texts[i] for i in clips)


def make_source(recipe: Recipe, *splits: str, spoils: bool = False) -> SequenceSource:
    """Sequences of a split, or of several of the same speakers."""
    path = recipe.directory("llm") / "tokenizer.model"
    path.write_bytes(tokenizer_model())
    corpus, tokens = load_corpus(recipe, *splits), load_tokens(recipe, *splits)
    return SequenceSource(corpus, tokens, path, spoils)


def new_step1(recipe: Recipe, vocabulary: int) -> Step1ForCausalLM:
    """Freshly initialised."""
    torch.manual_seed(recipe.seed)
    model = Step1ForCausalLM(Step1Config.of(json.loads(lm_config(SIZES, vocabulary))))
    for name, parameter in model.named_parameters():
        if name.endswith(("embed_tokens.weight", "lm_head.weight")):
            nn.init.normal_(parameter, 0.0, INIT_STD)
        elif parameter.ndim > 1:
            gain = OUTPUT_INIT if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
            nn.init.normal_(parameter, 0.0, gain / math.sqrt(parameter.shape[1]))
    return model


def train_llm(recipe: Recipe) -> None:
    """Stage `llm`."""
    source = make_source(recipe, *TRAIN_SPLITS, spoils=True)
    held = make_source(recipe, "held")
    model, head = build(recipe, source)
    nn.Module.to(model, recipe.device)  # the base class narrows the signature wrongly
    head.to(recipe.device)
    section = recipe["llm"]
    validation = _validation_batches(held, recipe)
    growing = recipe.cycles("llm")[0]  # later cycles have full lengths from the start

    def loss_of(step: int, _: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        batch = _batch(source, recipe.seed, step, growing, int(section["batch_tokens"]))
        with recipe.reduced_precision():
            loss, right = batch_loss(model, head, batch)
        parts = {"accuracy": float(right)}
        if step % 250 == 0:
            parts["held"], parts["held_accuracy"] = _validate(model, head, validation)
        return loss, parts

    schedule = Schedule(
        recipe.cycles("llm"), float(section["lr"]), hold=0.35, betas=(0.9, 0.95), weight_decay=0.05
    )
    train(model, loss_of, schedule, recipe.directory("llm"), recipe.seed, "llm")


def build(recipe: Recipe, source: SequenceSource) -> tuple[Step1ForCausalLM, Head]:
    """The model and the rows of its head that training uses."""
    vocabulary = source.builder.vocabulary
    size = vocabulary.audio_base + AUDIO_TOKENS
    used = np.zeros(AUDIO_TOKENS, bool)
    used[np.unique(np.concatenate(load_tokens(recipe, *TRAIN_SPLITS).tokens))] = True
    return new_step1(recipe, size), Head(used, vocabulary.audio_base, vocabulary.stop_id, size)


def load_llm(recipe: Recipe) -> Step1ForCausalLM:
    """The trained model, ready to be saved.

    Embedding scale folded in, unused codes with their shared rows.
    """
    source = make_source(recipe, "train")
    model, head = build(recipe, source)
    load_trained(model, recipe.directory("llm"))
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(EMBED_SCALE)
        head.share_rows(model.lm_head.weight)
        model.lm_head.weight.mul_(SHARPEN)
    return model


def batch_loss(model: Step1ForCausalLM, head: Head, batch: list[Sequence]) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy and accuracy over the audio tokens of a batch."""
    longest = max(len(s.ids) for s in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    targets = torch.zeros(len(batch), longest, dtype=torch.bool)
    for i, sequence in enumerate(batch):
        ids[i, : len(sequence.ids)] = torch.from_numpy(sequence.ids)
        targets[i, : len(sequence.ids)] = torch.from_numpy(sequence.is_target)
    ids, targets = ids.to(model.lm_head.weight.device), targets.to(model.lm_head.weight.device)
    hidden = _hidden(model, ids[:, :-1])
    chosen = targets[:, 1:]
    loss, right = head.loss(hidden[chosen], model.lm_head.weight, ids[:, 1:][chosen])
    return loss, right.float().mean()


def _hidden(model: Step1ForCausalLM, ids: Tensor) -> Tensor:
    """As Step1Model.forward, with the embedding scaled and fused attention.

    Padding follows, so it needs no mask.
    """
    body = model.model
    length = ids.shape[1]
    position = torch.arange(length, device=ids.device)
    distance = position[:, None] - position
    bias = (
        -alibi_slopes(body.n_heads).to(ids.device)[:, None, None]
        * distance.clamp(min=0).float().sqrt()
    )
    bias = bias.masked_fill(distance < 0, -torch.inf)[None]
    x = body.embed_tokens(ids) * EMBED_SCALE
    for block in body.layers:
        layer = cast("Step1Layer", block)
        x = x + _attention(layer.self_attn, layer.input_layernorm(x), bias)
        x = x + layer.mlp(layer.post_attention_layernorm(x))
    return body.norm(x)


def _attention(attention: Step1Attention, x: Tensor, bias: Tensor) -> Tensor:
    size = attention.head_size
    q, k, v = (
        f(x).unflatten(-1, (-1, size)).transpose(1, 2)
        for f in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    repeat = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    return attention.o_proj(out.transpose(1, 2).flatten(2))


def _batch(
    source: SequenceSource, seed: int, step: int, steps: int, batch_tokens: int
) -> list[Sequence]:
    """The step's batch.

    One of BUCKETS that are drawn together, so that lengths within it are alike.
    """
    block, place = divmod(step, BUCKETS)
    if (block, seed) != _batch.key:
        rng = np.random.default_rng((seed, block, 7))
        fullness = float(np.interp(step / steps, GROWS, (0.0, 1.0)))
        _batch.key = (block, seed)
        _batch.batches = _bucketed(source, rng, batch_tokens, fullness)
    return _batch.batches[place % len(_batch.batches)]


_batch.key, _batch.batches = None, []


def _bucketed(
    source: SequenceSource, rng: np.random.Generator, batch_tokens: int, fullness: float = 1.0
) -> list[list[Sequence]]:
    drawn, total = [], 0
    while total < BUCKETS * batch_tokens:
        drawn.append(source.draw(rng, fullness))
        total += len(drawn[-1].ids)
    drawn.sort(key=lambda s: len(s.ids))
    batches: list[list[Sequence]] = [[]]
    for sequence in drawn:
        if batches[-1] and (len(batches[-1]) + 1) * len(sequence.ids) > batch_tokens * 1.1:
            batches.append([])
        batches[-1].append(sequence)
    rng.shuffle(batches)
    return batches


def _validation_batches(source: SequenceSource, recipe: Recipe) -> list[list[Sequence]]:
    rng = np.random.default_rng((recipe.seed, 11))
    return _bucketed(source, rng, 2000)[:4]


@torch.no_grad()
def _validate(
    model: Step1ForCausalLM, head: Head, batches: list[list[Sequence]]
) -> tuple[float, float]:
    results = [batch_loss(model, head, batch) for batch in batches]
    return tuple(float(torch.stack([r[i] for r in results]).mean()) for i in (0, 1))  # pyright: ignore[reportReturnType]
