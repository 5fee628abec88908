# pyright: basic
"""Stage `flow`: flow matching from token rows, speaker and prompt to mel.

For whole utterances and for chunks.

An item is clips of one speaker in a row; the first part is the prompt, whose mel is given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.stepaudio.tokens import GROUP_ROWS, to_rows
from pipeline.stepaudio.vocoder.flow.flow import Flow
from pipeline.stepaudio.vocoder.wave_decoder import CHUNK_ROWS, RECENT_FRAMES
from training.config import Recipe
from training.loop import Schedule, load_trained, train
from training.models.masks import batched_modulation, block_mask, encode, estimate
from training.models.sizes import vocoder_config
from training.speech.clips import Corpus
from training.speech.corpus import load_corpus
from training.speech.encoded import Encoded, load_embeddings, load_tokens
from training.speech.mels import draw_gain, mel_of, to_float

MEL_MEAN = -5.0  # where the estimator's output begins
PROMPTED = 0.8  # share of items with a prompt
UNGUIDED = 0.15  # share trained without any condition, for classifier-free guidance
CHUNKED = 0.5  # share of batches with block-causal attention
LENGTHS = (120, 144, 144, 192, 288, 480)  # mel frames of an item, drawn by batch
PRIOR_WEIGHT = 0.5
SQUEEZE = 0.04  # largest stretch of prompts' mels, as serving stretches untrimmed clips
WIDE_GAIN = 0.1  # share of items far from the usual level: only a prompt tells it
EMA = 0.998


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """rows: int64 [R, 2]; mel: [2R, M]; prompt_rows: how many rows are the prompt's.

    embedding: [192].
    """

    rows: Tensor
    mel: Tensor
    prompt_rows: int
    embedding: Tensor


class ItemSource:
    """Draws items of a fixed length."""

    def __init__(self, corpus: Corpus, encoded: Encoded, embeddings: NDArray[np.float32]) -> None:
        self._corpus, self._encoded, self._embeddings = corpus, encoded, embeddings
        self._voices = list(corpus.of_voice)

    def draw(self, rng: np.random.Generator, n_frames: int) -> Item:
        """Clips of a random speaker, cut to `n_frames`.

        The prompt ends where a clip ends, or anywhere.
        """
        own = self._corpus.of_voice[self._voices[int(rng.integers(len(self._voices)))]]
        n_rows, gain = n_frames // 2, draw_gain(rng, WIDE_GAIN)
        rows, mels, ends, total = [], [], [], 0
        while total < n_rows:
            clip_rows, mel = self._clip(int(own[int(rng.integers(len(own)))]), gain)
            if not rows:  # the first clip begins anywhere
                skip = int(rng.integers(max(1, len(clip_rows) // GROUP_ROWS))) * GROUP_ROWS
                clip_rows, mel = clip_rows[skip:], mel[2 * skip :]
            rows.append(clip_rows)
            mels.append(mel)
            total += len(clip_rows)
            ends.append(total)
        embedding = torch.from_numpy(self._embeddings[int(own[int(rng.integers(len(own)))])])
        prompt_rows = _prompt_rows(rng, ends, n_rows)
        mel = torch.cat(mels)[:n_frames]
        return Item(torch.cat(rows)[:n_rows], mel, prompt_rows, embedding)

    def _clip(self, index: int, gain: float) -> tuple[Tensor, Tensor]:
        rows = torch.from_numpy(to_rows(self._encoded.tokens[index]))
        mel = mel_of(to_float(self._corpus[index].audio24) * gain)
        n_frames = 2 * len(rows)
        if len(mel) < n_frames:
            mel = torch.cat((mel, mel[-1:].expand(n_frames - len(mel), -1)))
        return rows, mel[:n_frames]


def _prompt_rows(rng: np.random.Generator, ends: list[int], n_rows: int) -> int:
    if rng.random() >= PROMPTED:
        return 0
    longest = n_rows - 15
    fitting = [end for end in ends if 10 <= end <= longest]
    if fitting and rng.random() < 0.8:
        return fitting[int(rng.integers(len(fitting)))]
    return GROUP_ROWS * int(rng.integers(4, longest // GROUP_ROWS))


def train_flow(recipe: Recipe) -> None:
    """Stage `flow`."""
    torch.manual_seed(recipe.seed)
    section = recipe["flow"]
    source, held = make_source(recipe, "train"), make_source(recipe, "held")
    flow = new_flow().to(recipe.device)
    frames_a_batch = int(section["batch"]) * int(section["frames"])

    def loss_of(step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        with recipe.reduced_precision():
            loss, parts = batch_loss(flow, source, rng, frames_a_batch)
        if step % 200 == 0:
            with torch.no_grad():
                fixed = np.random.default_rng(3)
                shown = [batch_loss(flow, held, fixed, frames_a_batch)[1] for _ in range(3)]
                parts["held_velocity"] = float(np.mean([p["velocity"] for p in shown]))
                parts["held_prior"] = float(np.mean([p["prior"] for p in shown]))
        return loss, parts

    schedule = Schedule(
        recipe.cycles("flow"), float(section["lr"]), hold=0.15, weight_decay=0.01, ema=EMA
    )
    train(flow, loss_of, schedule, recipe.directory("flow"), recipe.seed, "flow")


def make_source(recipe: Recipe, split: str) -> ItemSource:
    """Items of a split."""
    return ItemSource(
        load_corpus(recipe, split), load_tokens(recipe, split), load_embeddings(recipe, split)
    )


def new_flow() -> Flow:
    """Freshly initialised: gates closed, output at a silent mel."""
    flow = Flow(vocoder_config())
    estimator = flow.decoder.estimator
    gated = (*estimator.blocks, estimator.final_layer)
    for module in (cast("nn.Linear", part.get_submodule("adaLN_modulation.1")) for part in gated):
        nn.init.zeros_(module.weight)
        nn.init.zeros_(module.bias)
    nn.init.zeros_(estimator.final_layer.linear.weight)
    nn.init.constant_(estimator.final_layer.linear.bias, MEL_MEAN)
    nn.init.constant_(flow.encoder_proj.bias, MEL_MEAN)
    return flow


def load_flow(recipe: Recipe) -> Flow:
    """The trained model."""
    return load_trained(Flow(vocoder_config()), recipe.directory("flow"))  # pyright: ignore[reportReturnType]


def batch_loss(
    flow: Flow, source: ItemSource, rng: np.random.Generator, frames_a_batch: int
) -> tuple[Tensor, dict[str, float]]:
    """A fresh batch's loss: velocity on the target, and the encoder's own guess at the mel."""
    n_frames = LENGTHS[int(rng.integers(len(LENGTHS)))]
    n_items = max(2, frames_a_batch // n_frames)
    items = [source.draw(rng, n_frames) for _ in range(n_items)]
    device = flow.encoder_proj.weight.device
    rows = torch.stack([item.rows for item in items]).to(device)
    mel = torch.stack([item.mel for item in items])  # [B, T, M]
    prompt_frames = 2 * torch.tensor([item.prompt_rows for item in items])
    prompt_mel = _squeezed(mel, prompt_frames, rng).to(device)
    mel = mel.to(device)
    rows_mask, frames_mask = None, None
    if rng.random() < CHUNKED:
        rows_mask, frames_mask = (mask.to(device) for mask in _masks(items))
    embedding = torch.stack([item.embedding for item in items]).to(device)
    mu = flow.encoder_proj(encode(flow.encoder, flow.input_embedding(rows), rows_mask))
    in_prompt = torch.arange(n_frames)[None] < prompt_frames[:, None]
    in_prompt = in_prompt[..., None].to(device)  # [B, T, 1]
    condition = _condition(flow, mu, embedding, prompt_mel * in_prompt)
    kept = torch.from_numpy((rng.random(n_items) >= UNGUIDED).astype(np.float32)).to(device)
    velocity = _velocity_loss(
        flow, mel, condition * kept[:, None, None], ~in_prompt, frames_mask, rng
    )
    prior = (mu - mel).abs().mean()
    return velocity + PRIOR_WEIGHT * prior, {
        "velocity": float(velocity.detach()),
        "prior": float(prior.detach()),
    }


def _velocity_loss(
    flow: Flow,
    mel: Tensor,
    condition: Tensor,
    counted: Tensor,
    mask: Tensor | None,
    rng: np.random.Generator,
) -> Tensor:
    """Mean squared error of the velocity at a random time.

    Condition [B, 3M, T], counted [B, T, 1].
    """
    share = torch.from_numpy(rng.random(len(mel)).astype(np.float32)).to(mel.device)
    times = 1 - torch.cos(share * 0.5 * math.pi)
    noise = torch.from_numpy(rng.standard_normal(mel.shape, np.float32)).to(mel.device)
    at = times[:, None, None]
    noisy = (1 - at) * noise + at * mel
    modulation = batched_modulation(flow.decoder.estimator, times)
    stacked = torch.cat((noisy.transpose(1, 2), condition), 1)
    made = estimate(flow.decoder.estimator, stacked, modulation, mask).transpose(1, 2)
    error = (made - (mel - noise)).square().mean(2, keepdim=True)
    return (error * counted).sum() / counted.sum()


def _condition(flow: Flow, mu: Tensor, embedding: Tensor, prompt_mel: Tensor) -> Tensor:
    """As the served model stacks it. [B, T, M] → [B, 3M, T]"""
    speaker = flow.spk_embed_affine_layer(F.normalize(embedding, dim=1))
    speaker = speaker[:, None].expand(-1, mu.shape[1], -1)
    return torch.cat((mu, speaker, prompt_mel), 2).transpose(1, 2)


def _squeezed(mel: Tensor, prompt_frames: Tensor, rng: np.random.Generator) -> Tensor:
    """Each prompt's mel read a little too slowly, by nearest frames."""
    out = mel.clone()
    for i, n in enumerate(prompt_frames.tolist()):
        if n and rng.random() < 0.5:
            source = (torch.arange(n) * (1 - rng.uniform(0, SQUEEZE))).long()
            out[i, :n] = mel[i, source]
    return out


def _masks(items: list[Item]) -> tuple[Tensor, Tensor]:
    """What streaming lets a position see.

    Bool [B, R, R] for the encoder, [B, 2R, 2R] for the estimator.

    The prompt is a block, then come chunks as the serving code makes them.
    """
    n_rows, encoder, estimator = len(items[0].rows), [], []
    for item in items:
        starts, at, number = [0], item.prompt_rows, 0
        while at < n_rows:
            if at:
                starts.append(at)
            at += CHUNK_ROWS[min(number, len(CHUNK_ROWS) - 1)]
            number += 1
        rows = torch.tensor(starts)
        encoder.append(block_mask(rows, n_rows))
        frames = block_mask(2 * rows, 2 * n_rows, 2 * item.prompt_rows, RECENT_FRAMES)
        estimator.append(frames)
    return torch.stack(encoder), torch.stack(estimator)
