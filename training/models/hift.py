# pyright: basic
"""Stages `f0` and `hift`.

The vocoder's F0 predictor, then its waveform generator, on short segments without a GAN.

The loss matches magnitudes at four resolutions, and pooled power: magnitudes in log alone
undershoot the harmonics.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.stepaudio.config import VocoderConfig
from pipeline.stepaudio.tokenizer.features import slaney_filters
from pipeline.stepaudio.vocoder.hift.generator import F0Predictor, Hift
from training.config import Recipe
from training.loop import Schedule, load_trained, train
from training.models.sizes import vocoder_config
from training.speech.clips import HOP_SAMPLES, RATE_HZ, Clip, Corpus
from training.speech.corpus import load_corpus
from training.speech.mels import draw_gain, mel_of, to_float

F0_UNIT_HZ = 100.0  # the predictor learns in units near one; folded into its last layer later
F0_FRAMES = 64
F0_CONTEXT = 6  # frames whose value depends on what lies outside the segment
# (n_fft, hop). Windows shorter than two pitch periods would see where in a period a pulse falls,
# which the mel does not say: the generator would blur what it cannot know.
RESOLUTIONS = ((512, 128), (1024, 256), (1920, 480))
MEL_WEIGHT, LEVEL_WEIGHT, ENVELOPE_WEIGHT = 4.0, 0.5, 5.0
ENERGY_FLOOR = 1e-7  # -70 dB
MEL_FFT = 1920
EAR_HZ = 1500.0  # bins weigh 1 / (1 + frequency / EAR_HZ): as dense as the mel, not as the bins
SOURCE_WEIGHT = 0.15  # of each sine in the excitation, at first
SILENCE = 0.03  # share of segments that are digital silence or a quiet hiss
EDGE_SAMPLES = 960  # the generator pads a segment's ends with zeros, the clip does not
FLOOR = 2e-3  # of a bin's magnitude: about 80 dB below a loud vowel
MEL_FLOOR = 1e-5  # as in the served mel
ENVELOPE_FFT, ENVELOPE_WINDOW, ENVELOPE_FRAMES = 1024, 614, 30  # 25.6 ms; 0.38 s
ENVELOPE_CLIP_DB = 15.0
ENVELOPE_SILENT = 1e-2


@dataclass(frozen=True, slots=True)
class Segment:
    """mel: [M, T]; samples: [T * 480]; f0: [T] Hz."""

    mel: Tensor
    samples: Tensor
    f0: Tensor


def train_f0(recipe: Recipe) -> None:
    """Stage `f0`."""
    torch.manual_seed(recipe.seed)
    corpus = load_corpus(recipe, "train")
    predictor = F0Predictor(vocoder_config().f0_predictor).to(recipe.device)
    section = recipe["f0"]

    def loss_of(step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        batch = [draw_segment(corpus, rng, F0_FRAMES) for _ in range(section["batch"])]
        mel, f0 = torch.stack([s.mel for s in batch]), torch.stack([s.f0 for s in batch])
        mel = mel + 0.05 * torch.from_numpy(rng.standard_normal(mel.shape, np.float32))
        mel, f0 = mel.to(recipe.device), f0.to(recipe.device)
        error = (predictor(mel) - f0 / F0_UNIT_HZ).abs()[:, F0_CONTEXT:-F0_CONTEXT]
        target = f0[:, F0_CONTEXT:-F0_CONTEXT]
        # steps between voiced and unvoiced are half a frame wide at best: they weigh less
        edge = F.max_pool1d((target == 0).float(), 3, 1, 1) * (target > 0)
        loss = (error * (1 - 0.7 * edge)).mean()
        relative = (error * F0_UNIT_HZ)[target > 0] / target[target > 0]
        return loss, {"median_relative": float(relative.detach().median())}

    schedule = Schedule(recipe.cycles("f0"), float(section["lr"]), weight_decay=0.0)
    train(predictor, loss_of, schedule, recipe.directory("f0"), recipe.seed, "f0")


def load_f0(recipe: Recipe) -> F0Predictor:
    """The trained predictor, in Hz."""
    predictor = F0Predictor(vocoder_config().f0_predictor)
    load_trained(predictor, recipe.directory("f0"))
    with torch.no_grad():
        for parameter in predictor.classifier.parameters():
            parameter.mul_(F0_UNIT_HZ)
    return predictor


def new_hift(config: VocoderConfig) -> Hift:
    """Untrained. Its F0 predictor takes no part: the stage `f0` trains another."""
    hift = Hift(config.hift, config.f0_predictor)
    hift.f0_predictor.requires_grad_(False)
    nn.init.constant_(hift.m_source.l_linear.weight, SOURCE_WEIGHT)
    return hift


def train_hift(recipe: Recipe) -> None:
    """Stage `hift`."""
    torch.manual_seed(recipe.seed)
    corpus = load_corpus(recipe, "train")
    section = recipe["hift"]
    hift = new_hift(vocoder_config()).to(recipe.device)
    if section["compile"]:
        compiled(hift)

    def loss_of(step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        batch = draw_batch(corpus, rng, int(section["batch"]), int(section["frames"]))
        mel, f0, noise, target = (x.to(recipe.device) for x in batch)
        made = hift.decode(mel, hift.m_source(f0, noise))
        return spectral_loss(made, target)

    schedule = Schedule(
        recipe.cycles("hift"), float(section["lr"]), betas=(0.8, 0.99), weight_decay=0.0, clip=20.0
    )
    train(hift, loss_of, schedule, recipe.directory("hift"), recipe.seed, "hift")


def compiled(hift: Hift) -> None:
    """Let torch.compile make the generator's loop."""
    hift._upsample = torch.compile(hift._upsample, dynamic=False)


def draw_batch(
    corpus: Corpus, rng: np.random.Generator, n_segments: int, n_frames: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mel, F0, noise of the source and waveform of random segments, on the CPU.

    F0 is the measured one: at a predicted one, high harmonics would miss the target's.
    """
    batch = [draw_segment(corpus, rng, n_frames) for _ in range(n_segments)]
    mel, f0, target = (
        torch.stack([getattr(s, k) for s in batch]) for k in ("mel", "f0", "samples")
    )
    n_sines = vocoder_config().hift.nb_harmonics + 1
    noise = torch.from_numpy(rng.standard_normal((*target.shape, n_sines), np.float32))
    return mel, f0, noise, target


def draw_segment(corpus: Corpus, rng: np.random.Generator, n_frames: int) -> Segment:
    """A random stretch of a random clip at a random level.

    The mel is that of the clip, not of the stretch alone.
    """
    while True:
        clip = corpus[int(rng.integers(len(corpus)))]
        if len(clip.f0) > n_frames + 4:
            break
    first = int(rng.integers(2, len(clip.f0) - n_frames - 2))
    return cut_segment(clip, first, n_frames, rng)


def cut_segment(clip: Clip, first: int, n_frames: int, rng: np.random.Generator) -> Segment:
    """`n_frames` mel frames of the clip from frame `first` on."""
    context = 2  # frames: the mel's window is four hops wide
    low, high = (first - context) * HOP_SAMPLES, (first + n_frames + context) * HOP_SAMPLES
    gain = draw_gain(rng)
    samples = to_float(clip.audio24[low:high]) * gain
    is_silent = rng.random() < SILENCE
    if is_silent:
        hiss = 10 ** rng.uniform(-6, -3)
        samples = torch.from_numpy(rng.standard_normal(len(samples)).astype(np.float32) * hiss)
    mel = mel_of(samples)[context : context + n_frames].T
    inner = samples[context * HOP_SAMPLES : (context + n_frames) * HOP_SAMPLES]
    f0 = np.zeros(n_frames, np.float32) if is_silent else clip.f0[first : first + n_frames].copy()
    return Segment(mel.contiguous(), inner, torch.from_numpy(f0))


@functools.cache
def _window(n_fft: int, device: torch.device) -> Tensor:
    return torch.hann_window(n_fft, device=device)


def _magnitude(samples: Tensor, n_fft: int, hop: int) -> Tensor:
    window = _window(n_fft, samples.device)
    spectrum = torch.stft(samples, n_fft, hop, window=window, return_complex=True)
    return (spectrum.real.square() + spectrum.imag.square() + 1e-10).sqrt()


@functools.cache
def _mel_filters(n_fft: int, device: torch.device) -> Tensor:
    return torch.from_numpy(slaney_filters(RATE_HZ, n_fft, 80, 0.0, 8000.0)).to(device)


@functools.cache
def _bin_weights(n_fft: int, device: torch.device) -> Tensor:
    """[n_fft // 2 + 1, 1], mean one."""
    weights = 1 / (1 + torch.arange(n_fft // 2 + 1, device=device) * RATE_HZ / n_fft / EAR_HZ)
    return (weights / weights.mean())[:, None]


def spectral_loss(made: Tensor, target: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Waveforms [B, L] → loss and its parts."""
    made, target = made[:, EDGE_SAMPLES:-EDGE_SAMPLES], target[:, EDGE_SAMPLES:-EDGE_SAMPLES]
    total, device = made.new_zeros(()), made.device
    parts = {"log": 0.0, "convergence": 0.0, "power": 0.0}
    for n_fft, hop in RESOLUTIONS:
        a, b = _magnitude(made, n_fft, hop), _magnitude(target, n_fft, hop)
        weights = _bin_weights(n_fft, device)
        log = (((a + FLOOR).log() - (b + FLOOR).log()).abs() * weights).mean()
        # over the whole batch: a quiet segment alone would outweigh all others
        off, all_ = ((x.square() * weights).sum() for x in (a - b, b))
        convergence = (off / all_.clamp(min=1.0)).sqrt()
        power = _power_error(a, b, (max(4, n_fft // 64), max(1, 1024 // hop)))
        total = total + log + 1.0 * convergence + 0.3 * power
        for name, value in (("log", log), ("convergence", convergence), ("power", power)):
            parts[name] += float(value.detach()) / len(RESOLUTIONS)
    filters = _mel_filters(MEL_FFT, device)
    mel_a, mel_b = (filters @ _magnitude(x, MEL_FFT, MEL_FFT // 8) for x in (made, target))
    mel = ((mel_a + MEL_FLOOR).log() - (mel_b + MEL_FLOOR).log()).abs().mean()
    energy_a, energy_b = (x.square().mean(1) + ENERGY_FLOOR for x in (made, target))
    level = (energy_a.log() - energy_b.log()).abs().mean()
    envelope = envelope_loss(made, target)
    parts |= {name: float(x.detach()) for name, x in (("mel", mel), ("level", level))}
    parts["envelope"] = float(envelope.detach())
    return total + MEL_WEIGHT * mel + LEVEL_WEIGHT * level + ENVELOPE_WEIGHT * envelope, parts


def _power_error(a: Tensor, b: Tensor, pool: tuple[int, int]) -> Tensor:
    """Of magnitudes [B, F, T]: mean difference of pooled log power, low frequencies first."""
    weights = F.avg_pool2d(_bin_weights(2 * a.shape[1] - 2, a.device)[None], (pool[0], 1))
    power_a, power_b = (F.avg_pool2d(x.square()[:, None], pool) + FLOOR**2 for x in (a, b))
    return ((power_a.log() - power_b.log()).abs() * weights).mean()


def envelope_loss(made: Tensor, target: Tensor) -> Tensor:
    """How far the envelopes of third-octave bands are from moving together, 0 to 2.

    STOI's own measure (Taal et al. 2011) at 24 kHz, on stretches of 0.38 s in which the target
    sounds.
    """
    a, b = (_envelopes(x).unfold(2, ENVELOPE_FRAMES, 2) for x in (made, target))  # [B, 15, S, 30]
    scale = (b.square().sum(-1, keepdim=True) / (a.square().sum(-1, keepdim=True) + 1e-9)).sqrt()
    a = torch.minimum(a * scale, b * (1 + 10 ** (ENVELOPE_CLIP_DB / 20)))
    a, c = a - a.mean(-1, keepdim=True), b - b.mean(-1, keepdim=True)
    correlation = (a * c).sum(-1) / (a.norm(dim=-1) * c.norm(dim=-1) + 1e-6)
    sounds = (b.square().sum((1, 3)) > ENVELOPE_SILENT)[:, None].float()
    return ((1 - correlation) * sounds).sum() / (sounds.sum() * a.shape[1]).clamp(min=1)


@functools.cache
def _third_octaves(device: torch.device) -> Tensor:
    """[15, bins], from 150 Hz on."""
    frequency = torch.arange(ENVELOPE_FFT // 2 + 1) * RATE_HZ / ENVELOPE_FFT
    centre = 150 * 2 ** (torch.arange(15) / 3)[:, None]
    above, below = frequency >= centre * 2 ** (-1 / 6), frequency < centre * 2 ** (1 / 6)
    return (above & below).float().to(device)


def _envelopes(samples: Tensor) -> Tensor:
    """[B, L] → amplitudes [B, 15, frames of 12.8 ms]."""
    spectrum = torch.stft(
        samples,
        ENVELOPE_FFT,
        ENVELOPE_WINDOW // 2,
        ENVELOPE_WINDOW,
        window=_window(ENVELOPE_WINDOW, samples.device),
        center=False,
        return_complex=True,
    )
    power = spectrum.real.square() + spectrum.imag.square()
    return (_third_octaves(samples.device) @ power + 1e-9).sqrt()
