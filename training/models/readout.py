# pyright: basic
"""What a tokenizer's codes are read for: the phone, and the tone or stress, at given times."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

MARKS_WEIGHT = 0.5  # of tones and stress beside phones


def readout_loss(logits: Tensor, labels: NDArray[np.integer]) -> tuple[Tensor, float]:
    """Cross-entropy and accuracy.

    logits: [T, slots * classes], of each code. labels: (T * slots,).
    """
    wanted = torch.from_numpy(labels).to(logits.device)
    flat = logits.reshape(len(wanted), -1)
    return F.cross_entropy(flat, wanted), float((flat.argmax(1) == wanted).float().mean())
