"""The recipe's own mathematics: quantizer, masks, output rows, training loop, error counting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.stepaudio.vocoder.flow.dit import Retention
from pipeline.stepaudio.vocoder.flow.flow import Flow
from training.config import Recipe
from training.judging.memory import TITLE, stage_of
from training.judging.phoneme_judge import errors, phone_ids
from training.judging.trials import faults_of
from training.loop import Schedule, is_done, train
from training.models.hift import envelope_loss, spectral_loss
from training.models.linguistic_tokenizer import LinguisticNet, _make_cmvn
from training.models.llm import Head, SequenceSource
from training.models.masks import batched_modulation, block_mask, encode, estimate
from training.models.quantizer import Quantizer
from training.models.sizes import vocoder_config
from training.models.text_tokenizer import tokenizer_model
from training.run import main
from training.speech.clips import Clip, Corpus, write_shard
from training.speech.encoded import Encoded

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def flow() -> Flow:
    torch.manual_seed(0)
    flow = Flow(vocoder_config()).eval().requires_grad_(False)
    for parameter in flow.parameters():
        nn.init.normal_(parameter, 0.0, 0.1)
    return flow


def test_unmasked_passes_equal_the_served_ones(flow: Flow) -> None:
    x = flow.input_embedding(torch.randint(0, 1024, (2, 20, 2)))
    torch.testing.assert_close(encode(flow.encoder, x, None), flow.encoder(x)[0])
    estimator = flow.decoder.estimator
    stacked = torch.randn(2, 320, 30)
    served = estimator(stacked, estimator.modulations(torch.tensor([0.3]))[0])[0]
    modulation = batched_modulation(estimator, torch.tensor([0.3, 0.3]))
    torch.testing.assert_close(
        estimate(estimator, stacked, modulation, None), served, atol=1e-4, rtol=1e-4
    )


def test_masked_passes_equal_the_served_chunks(flow: Flow) -> None:
    x = flow.input_embedding(torch.randint(0, 1024, (1, 30, 2)))
    first, cache = flow.encoder(x[:, :12], x[:, 12:15])
    second, _ = flow.encoder(x[:, 12:], None, cache)
    mask = block_mask(torch.tensor([0, 12]), 30)[None]
    torch.testing.assert_close(encode(flow.encoder, x, mask), torch.cat((first, second), 1))

    estimator = flow.decoder.estimator
    stacked = torch.randn(1, 320, 60)
    modulation = estimator.modulations(torch.tensor([0.3]))[0]
    prompt, cache = estimator(stacked[..., :20], modulation)
    parts = [prompt]
    for first_frame in (20, 40):  # the last chunk no longer sees all of the one before
        chunk = stacked[..., first_frame : first_frame + 20]
        part, cache = estimator(chunk, modulation, cache, Retention(20, 8))
        parts.append(part)
    mask = block_mask(torch.tensor([0, 20, 40]), 60, prompt=20, recent=8)[None]
    made = estimate(estimator, stacked, batched_modulation(estimator, torch.tensor([0.3])), mask)
    torch.testing.assert_close(made, torch.cat(parts, 2), atol=1e-4, rtol=1e-4)


def test_quantizer_finds_clusters_and_follows_them() -> None:
    generator = torch.Generator().manual_seed(1)
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    drawn = torch.randint(3, (600,), generator=generator)
    vectors = centres[drawn] + 0.1 * torch.randn(600, 2, generator=generator)
    quantizer = Quantizer(3, 2)
    quantizer.start(vectors, 10, generator)
    assert (
        len({(int(a), int(b)) for a, b in zip(drawn, quantizer.codes(vectors), strict=True)}) == 3
    )
    moved = (vectors + 1.0).requires_grad_()
    for _ in range(300):
        chosen, loss = quantizer(moved)
    nearest = torch.cdist(centres + 1.0, quantizer.codebook).min(1).values
    assert float(nearest.max()) < 0.1
    chosen.sum().backward()
    assert moved.grad is not None
    torch.testing.assert_close(moved.grad, torch.ones_like(moved))
    assert float(loss.detach()) < 0.01


def test_shared_rows_count_as_often_as_they_stand() -> None:
    used = np.zeros(5120, bool)
    used[[0, 3, 1024, 1030]] = True
    base, stop, size = 10, 3, 10 + 5120
    head = Head(used, base, stop, size)
    torch.manual_seed(0)
    hidden, weight = torch.randn(7, 8), torch.randn(size, 8)
    head.share_rows(weight)
    ids = torch.tensor([base, base + 3, base + 1024, base + 1030, stop, base, stop])
    loss, _ = head.loss(hidden, weight, ids)
    allowed = [stop, *range(base, size)]
    logits = (hidden @ weight.T)[:, allowed]
    targets = torch.tensor([allowed.index(int(i)) for i in ids])
    torch.testing.assert_close(loss, nn.functional.cross_entropy(logits, targets))


def _fit(directory: Path, steps: int, stop_at: int | None) -> torch.Tensor:
    torch.manual_seed(0)
    module = nn.Linear(3, 1)

    def loss_of(step: int, rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        if step == stop_at:
            raise KeyboardInterrupt
        x = torch.from_numpy(rng.standard_normal((8, 3)).astype(np.float32))
        return (module(x) - x.sum(1, keepdim=True)).square().mean(), {}

    train(module, loss_of, Schedule((steps,), 0.05, ema=0.9), directory, 1, "fit")
    return module.weight.detach().clone()


def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    expected = _fit(whole, 60, None)
    monkeypatch.setattr("training.loop.SAVE_EVERY_S", 0.0)  # after every step
    with pytest.raises(KeyboardInterrupt):
        _fit(parts, 60, 30)
    assert not is_done(parts, 60)
    torch.testing.assert_close(_fit(parts, 60, None), expected)
    assert is_done(parts, 60)


def test_each_cycle_begins_warm_and_ends_cold() -> None:
    schedule = Schedule((1000, 500), 0.1, hold=0.2)
    assert schedule.steps == 1500
    rates = [schedule.rate(step) for step in range(1500)]
    assert rates[0] == rates[1000] < 0.01
    assert rates[150] == rates[1100] == 0.1
    assert rates[999] == pytest.approx(0.003, rel=0.01)
    assert rates[1499] == pytest.approx(0.003, rel=0.01)


@pytest.mark.parametrize(("steps", "cycles"), [(1000, (100,)), ([1000, 5, 40], (100, 1, 4))])
def test_a_recipe_names_one_cycle_or_several(
    steps: int | list[int], cycles: tuple[int, ...]
) -> None:
    recipe = Recipe(Path(), {"llm": {"steps": steps}}, seed=0, scale=0.1)
    assert recipe.cycles("llm") == cycles
    assert recipe.steps("llm") == sum(cycles)


def write_corpus(directory: Path, samples: np.ndarray, texts: list[str]) -> Corpus:
    """One speaker's clips, which all sound alike."""
    clips = [
        Clip(samples, samples, 0, text, text, *(np.zeros(1, kind) for kind in "hbfff"))
        for text in texts
    ]
    write_shard(directory / "0", clips)
    return Corpus(directory)


@pytest.mark.slow
def test_the_tokenizers_gradients_flow_through_the_served_encoder(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(-9000, 9000, 24_000).astype(np.int16)
    corpus = write_corpus(tmp_path, noise, ["a", "o", "e"])
    cmvn = _make_cmvn(Recipe(tmp_path, {}, seed=0), corpus)
    net = LinguisticNet(cmvn, 8)
    hidden = net(torch.from_numpy(noise / np.float32(32768)))
    assert hidden.shape == (25, net.linguistic.encoder.output_size())
    hidden.square().mean().backward()
    gradients = [p.grad for p in net.linguistic.encoder.parameters()]
    assert all(g is not None and g.abs().sum() > 0 for g in gradients)


def test_a_spoilt_prompt_is_not_predicted_and_its_target_is_whole(tmp_path: Path) -> None:
    n_clips, group = 12, 5
    texts = [f"{chr(ord('a') + i)}a {chr(ord('a') + i)}o" for i in range(n_clips)]
    corpus = write_corpus(tmp_path, np.zeros(16_000, np.int16), texts)
    tokens = [np.tile([i, i, *[1024 + i] * 3], 4).astype(np.int32) for i in range(n_clips)]
    (tmp_path / "tokenizer.model").write_bytes(tokenizer_model())
    source = SequenceSource(corpus, Encoded(tokens), tmp_path / "tokenizer.model", spoils=True)
    base = source.builder.vocabulary.audio_base
    whole, spoilt = 0, 0
    for seed in range(60):
        drawn = source.sequence([3], [5], np.random.default_rng(seed))
        audio = drawn.ids[(drawn.ids >= base) & (drawn.ids < base + 5120)] - base
        prompt, target = audio[: 4 * group], audio[4 * group :]
        assert target.tolist() == tokens[5].tolist()
        assert drawn.is_target[-len(target) - 1 :].all()
        whole += drawn.is_target.sum() == 8 * group + 1
        spoilt += drawn.is_target.sum() == 4 * group + 1
        assert drawn.is_target.sum() == 4 * group + 1 or prompt.tolist() == tokens[3].tolist()
    assert whole + spoilt == 60
    assert 15 < spoilt < 40


def test_phone_errors() -> None:
    assert phone_ids("hˈI,t W") == phone_ids("h ItˌW")
    assert len(phone_ids("ʨʰjau↗tau↘")) == 7
    said = phone_ids("həlˈO")
    assert errors(said, said) == 0
    assert errors(said[:-1], said) == 1
    assert errors([], said) == 4
    assert errors([said[0], said[0], *said[1:]], said) == 1
    assert errors(said[::-1], said) == 4


def test_an_unknown_stage_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--stage", "corpus,nonsense"])
    assert "no stage is called nonsense" in capsys.readouterr().err


def _babble(seed: int) -> torch.Tensor:
    """Noise whose level moves like syllables, 1 s at 24 kHz. → [1, L]"""
    rng = np.random.default_rng(seed)
    steps = rng.uniform(0.01, 0.5, 12).repeat(2000)
    return torch.from_numpy((rng.standard_normal(24_000) * steps).astype(np.float32))[None]


def test_envelope_loss_ignores_level_and_tells_another_rhythm() -> None:
    target = _babble(1)
    assert float(envelope_loss(target, target)) < 1e-3
    assert float(envelope_loss(0.3 * target, target)) < 1e-3
    dulled = target + 0.2 * torch.randn(target.shape, generator=torch.Generator().manual_seed(0))
    other = float(envelope_loss(_babble(2), target))
    assert 0.05 < float(envelope_loss(dulled, target)) < other
    assert other > 0.5


def test_spectral_loss_is_least_for_the_target_itself() -> None:
    target = _babble(3)
    own, parts = spectral_loss(target, target)
    quieter, quieter_parts = spectral_loss(0.7 * target, target)
    assert float(own) < 0.01
    assert float(quieter) > 0.5
    assert quieter_parts["level"] > 0.5 > parts["level"]


@pytest.mark.parametrize(
    ("made", "faults"),
    [
        (0.1 * np.ones(24_000, np.float32), []),
        (np.zeros(24_000, np.float32), ["empty"]),
        (np.full(24_000, np.nan, np.float32), ["empty"]),
        (np.zeros(0, np.float32), ["empty"]),
        (0.1 * np.ones(24_000 * 5, np.float32), ["runaway"]),
        (np.ones(24_000, np.float32), ["clipped"]),
    ],
)
def test_faults_are_named(made: np.ndarray, faults: list[str]) -> None:
    assert faults_of(made, original_seconds=1.0) == faults


def test_recipe_names_device_and_precision(tmp_path: Path) -> None:
    plain = Recipe(tmp_path, {"device": "cpu"}, 1)
    assert plain.device == torch.device("cpu")
    a, b = torch.randn(4, 4), torch.randn(4, 4)
    with plain.reduced_precision():
        assert (a @ b).dtype == torch.float32
    with Recipe(tmp_path, {"device": "cpu", "precision": "bfloat16"}, 1).reduced_precision():
        assert (a @ b).dtype == torch.bfloat16


@pytest.mark.parametrize("title", ["Vocoder", "Vocoder.check_health", "Vocoder.handle_request x"])
def test_a_replica_at_work_is_counted_under_its_stage(title: str) -> None:
    assert stage_of(TITLE + title) == "Vocoder"
