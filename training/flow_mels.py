# pyright: basic
"""Stage `flow_mels`: mels of training clips as the flow makes them from the clips' own tokens.

The vocoder's last steps learn from them what it will be given when it serves. Knows no waveform.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from training.config import Recipe
from training.corpus import Corpus
from training.flow import load_flow, make_source
from training.progress import progress

PROMPT_S = (1.5, 6.0)  # how long a prompt may be


class FlowMels:
    """`mels[i]`: float32 [T, M] of clip `indices[i]`, frame by frame as long as the clip's own."""

    def __init__(self, indices: NDArray[np.int64], mels: list[NDArray[np.float32]]) -> None:
        self.indices, self.mels = indices, mels


@torch.inference_mode()
def make_flow_mels(recipe: Recipe) -> None:
    """Write them; what is there is kept."""
    path = recipe.directory("flow_mels") / "mels.npz"
    if path.is_file():
        return
    source, flow = make_source(recipe, "train"), load_flow(recipe).to(recipe.device)
    schedule = flow.schedule(int(recipe["flow_mels"]["euler_steps"]))
    rng = np.random.default_rng((recipe.seed, 13))
    indices, mels = [], []
    count = int(recipe["flow_mels"]["clips"])
    for index, prompt in progress(_pairs(source.corpus, rng, count), "flow_mels", count):
        rows, _ = source.clip(index)
        prompt_rows, prompt_mel = source.clip(prompt)
        embedding = source.embedding(prompt)
        batch = (x[None].to(recipe.device) for x in (rows, prompt_rows, prompt_mel, embedding))
        indices.append(index)
        mels.append(flow.inference(*batch, schedule)[0].T.half().cpu().numpy())
    offsets = np.cumsum([0] + [len(mel) for mel in mels])
    np.savez(path, indices=np.array(indices), mels=np.concatenate(mels), offsets=offsets)


def load_flow_mels(recipe: Recipe) -> FlowMels:
    """Raises FileNotFoundError when the stage `flow_mels` has not run."""
    with np.load(recipe.directory("flow_mels") / "mels.npz") as stored:
        flat, offsets = stored["mels"].astype(np.float32), stored["offsets"]
        mels = [flat[a:b] for a, b in itertools.pairwise(offsets)]
        return FlowMels(stored["indices"], mels)


def _pairs(corpus: Corpus, rng: np.random.Generator, count: int) -> Iterator[tuple[int, int]]:
    """Random clips, each with another clip of its speaker as the prompt."""
    fitting = (corpus.durations_s > PROMPT_S[0]) & (corpus.durations_s < PROMPT_S[1])
    for index in rng.choice(len(corpus), min(count, len(corpus)), replace=False):
        own = corpus.of_voice[corpus.voices[index]]
        prompts = own[fitting[own] & (own != index)]
        if len(prompts):
            yield int(index), int(rng.choice(prompts))
