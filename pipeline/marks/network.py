# pyright: basic
"""PerthNet's implicit watermark: its two networks, and their weights in the package resemble-perth.

The package itself is not imported: it needs torchaudio, librosa and pkg_resources for what four
lines of torch do. T: frames of 10 ms; K: bins of 15.625 Hz below 2 kHz; H: width.
"""

from __future__ import annotations

import hashlib
import pickle
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.errors import CheckpointError, ConfigError

N_BINS = 128  # K, up to 2 kHz
WIDTH = 256  # H
CONTEXT_FRAMES = 15  # that a frame's residual depends on, to each side: five kernels of 7
PACKAGE = "perth"
WEIGHTS = Path("perth_net", "pretrained", "implicit", "perth_net_250000.pth.tar")
WEIGHTS_SHA256 = "a15bce457ebc53ce5e6c9c3f11df78cf7ee2bf9cdab0a798902135b4c4027670"
_KERNEL, _DEEP = 7, 5
_SLOW, _FAST = 1.25, 0.75  # speeds that the detector listens at beside the usual one


class _Conv(nn.Module):
    """A convolution along time that keeps its length; named as in the weights."""

    def __init__(self, n_in: int, n_out: int, kernel: int, *, is_last: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv1d(n_in, n_out, kernel, padding=kernel // 2)
        self._is_last = is_last

    def forward(self, x: Tensor) -> Tensor:  # [B, n_in, T] → [B, n_out, T]
        x = self.conv(x)
        return x if self._is_last else F.leaky_relu(x)


def _layers(n_out: int) -> nn.Sequential:
    deep = [_Conv(WIDTH, WIDTH, _KERNEL) for _ in range(_DEEP)]
    return nn.Sequential(_Conv(N_BINS, WIDTH, 1), *deep, _Conv(WIDTH, n_out, 1, is_last=True))


class Encoder(nn.Module):
    """Levels → what is added to them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = _layers(N_BINS)

    def forward(self, levels: Tensor, mask: Tensor) -> Tensor:
        """levels: [B, K, T]; mask: [B, T], 0 where nothing is to be added → [B, K, T]."""
        return self.layers(levels) * mask[:, None]


class Decoder(nn.Module):
    """Levels → how surely they are marked."""

    def __init__(self) -> None:
        super().__init__()
        self.slow_layers, self.normal_layers, self.fast_layers = (_layers(2) for _ in range(3))

    def forward(self, levels: Tensor, mask: Tensor) -> Tensor:
        """levels: [B, K, T]; mask: [B, T], 0 where nothing is to be heard → [B], about 0 to 1."""
        n_frames = levels.shape[2]
        speeds = ((self.slow_layers, _SLOW), (self.normal_layers, 1), (self.fast_layers, _FAST))
        heard: list[Tensor] = []
        for layers, speed in speeds:
            n_stretched = max(int(n_frames * speed), 1)
            stretched = F.interpolate(levels, n_stretched, mode="linear", align_corners=True)
            weights = F.interpolate(mask[:, None], n_stretched, mode="nearest")
            total = weights.sum(dim=2).clamp(min=1)
            heard.append((layers(stretched) * weights).sum(dim=2) / total)  # [B, 2]
        attention, marks = torch.stack(heard, dim=2).unbind(dim=1)  # [B, 3] each
        return (marks * attention.softmax(dim=1)).sum(dim=1)


class PerthNet(nn.Module):
    """Both networks, as the weights name them."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(), Decoder()


def load_networks() -> PerthNet:
    """The trained networks, from the installed package.

    Raises ConfigError where the package is missing, CheckpointError for other weights than ours.
    """
    path = _weights_path()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if hashlib.sha256(content).hexdigest() != WEIGHTS_SHA256:
        raise CheckpointError(f"{path} is not the watermark's weights of resemble-perth 1.0.1")
    del content
    network = PerthNet()
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["model"]
        kept = {name: value for name, value in state.items() if name.startswith(("enc", "dec"))}
        network.load_state_dict(kept)
    except (RuntimeError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"{path} does not fit: {reason}") from error
    return network.eval().requires_grad_(False)


def _weights_path() -> Path:
    spec = find_spec(PACKAGE)  # looks for it, runs nothing of it
    if spec is None or spec.origin is None:
        raise ConfigError(
            "marks need the package resemble-perth, which is not installed; install it, or set "
            "marks.enabled: false"
        )
    return Path(spec.origin).parent / WEIGHTS
