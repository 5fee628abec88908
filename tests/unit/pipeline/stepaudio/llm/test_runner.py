"""The slot form of Step1: equal to the plain form, rows depend on themselves alone; loading."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import CheckpointError
from pipeline.stepaudio.llm.exactness import exact_batch, exact_chunks, keys_may_be_cut
from pipeline.stepaudio.llm.projection import Projection, _has_fbgemm, pack
from pipeline.stepaudio.llm.runner import Step1Runner
from pipeline.stepaudio.llm.sampling import AudioVocabulary
from pipeline.stepaudio.llm.step1 import Step1Config, Step1ForCausalLM, alibi_slopes, load_step1
from pipeline.stepaudio.parity.golden import fill
from pipeline.stepaudio.recording import Replay
from tests.step1_files import save_step1

pytestmark = pytest.mark.unit


def sizes(hidden: int, intermediate: int, heads: int, groups: int) -> dict[str, int]:
    return {
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_attention_heads": heads,
        "num_attention_groups": groups,
    }


SIZES = {
    "golden": sizes(192, 320, 12, 2),
    "tiny": sizes(256, 512, 8, 2),
    "odd": sizes(120, 88, 5, 5),
    "one group": sizes(96, 72, 6, 1),
}
SOME_SIZES = [
    pytest.param(size, marks=pytest.mark.slow if size in {"golden", "tiny"} else ())
    for size in SIZES
]


def small_model(
    size: str, layers: int = 2, vocab_size: int = 700, *, is_rounded: bool = False
) -> Step1ForCausalLM:
    """`is_rounded`: weights that bfloat16 holds, as those of checkpoints are."""
    config = Step1Config(
        num_hidden_layers=layers, vocab_size=vocab_size, max_seq_len=2048, **SIZES[size]
    )
    model = Step1ForCausalLM(config).eval().requires_grad_(False)
    fill(model, 5)
    if is_rounded:
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16().float())
    return model


@pytest.fixture(autouse=True)
def same_threads_after() -> Iterator[None]:
    """A test that sets the number of torch's threads sets it for itself alone."""
    n_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(n_threads)


def audio_vocabulary(model: Step1ForCausalLM) -> AudioVocabulary:
    return AudioVocabulary(audio_base=20, stop_id=3, audio_tokens=model.config.vocab_size - 20)


@pytest.mark.slow
@pytest.mark.parametrize("is_rounded", [False, True])
@pytest.mark.parametrize("size", SOME_SIZES)
def test_slots_give_the_logits_of_the_plain_form(size: str, *, is_rounded: bool) -> None:
    model = small_model(size, is_rounded=is_rounded)
    vocabulary = audio_vocabulary(model)
    runner = Step1Runner(model, vocabulary, slots=3, max_context_tokens=600)
    ids = np.random.default_rng(0).integers(0, 700, 540).astype(np.int32)
    plain = model(torch.from_numpy(ids)[None].long())[0]
    rows = [*range(20, 700), 3]
    for start in range(0, 500, 90):
        runner.prefill(1, ids[start : min(start + 90, 500)], start)
    for position in range(500, 540):  # over the border of a key block
        logits = runner.step(range(1, 2), [ids[position]], [position], position)
        assert (logits[0] - plain[position, rows]).abs().max() < 1e-4


# Of each size once; all of them with everything are exhaustive.
BITWISE = {("golden", 2, True), ("tiny", 1, True), ("odd", 2, False), ("one group", 2, True)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "n_threads", "is_rounded"),
    [
        pytest.param(*how, marks=() if how in BITWISE else pytest.mark.exhaustive)
        for how in product(SIZES, (1, 2), (False, True))
    ],
)
def test_a_row_is_bitwise_the_same_alone_and_in_every_batch_and_slot(
    size: str, n_threads: int, *, is_rounded: bool
) -> None:
    torch.set_num_threads(n_threads)
    model = small_model(size, is_rounded=is_rounded)
    n_slots, n_steps = 8, 40
    rng = np.random.default_rng(1)
    ids = rng.integers(0, 700, 230 + n_steps).astype(np.int32)
    runner = Step1Runner(model, audio_vocabulary(model), slots=n_slots, max_context_tokens=900)

    def logits_in(slot: int, others: list[int]) -> torch.Tensor:
        """Logits of the same tokens in a slot, beside slots with other prompts and lengths."""
        lengths = {other: int(rng.integers(1, 800)) for other in others}
        for other, length in lengths.items():
            runner.prefill(other, rng.integers(0, 700, length).astype(np.int32), 0)
        runner.prefill(slot, ids[:230], 0)
        used = sorted([slot, *others])
        window = runner.window(used[0], used[-1])
        found = []
        for step in range(n_steps):
            tokens = rng.integers(0, 700, len(window)).tolist()
            positions = [lengths.get(index, 0) + step for index in window]
            tokens[slot - window.start] = int(ids[230 + step])
            positions[slot - window.start] = 230 + step
            longest = max(positions[index - window.start] for index in used)
            found.append(runner.step(window, tokens, positions, longest)[slot - window.start])
        return torch.stack(found)

    alone = logits_in(0, [])
    assert torch.equal(logits_in(5, []), alone)
    assert torch.equal(logits_in(0, [1, 2]), alone)
    assert torch.equal(logits_in(3, [0, 1, 2, 4, 5, 6]), alone)
    assert torch.equal(logits_in(7, list(range(7))), alone)
    assert torch.equal(logits_in(2, [0, 7]), alone)


@pytest.mark.slow
@pytest.mark.parametrize(("dependent_below", "window"), [(1, range(1, 3)), (3, range(1, 4))])
def test_batches_too_small_to_be_exact_are_widened(
    monkeypatch: pytest.MonkeyPatch, dependent_below: int, window: range
) -> None:
    def pack_with_dependence(weight: torch.Tensor) -> Projection:
        project = pack(weight)
        return Projection(
            lambda x: project(x) + (1e-3 / len(x) if len(x) < dependent_below else 0.0), 0
        )

    monkeypatch.setattr("pipeline.stepaudio.llm.runner.pack", pack_with_dependence)
    model = small_model("tiny", layers=1)
    runner = Step1Runner(model, audio_vocabulary(model), slots=4, max_context_tokens=256)
    assert runner.window(1, 2) == window
    assert runner.window(0, 3) == range(4)
    assert len(runner.window(3, 3)) == dependent_below


@pytest.mark.slow
def test_recorded_steps_are_those_that_run_directly() -> None:
    """Recorded as on a GPU, with a recorder that runs anew on the same static tensors."""
    model = small_model("tiny", layers=2)
    runners = [
        Step1Runner(model, audio_vocabulary(model), slots=6, max_context_tokens=1200)
        for _ in range(2)
    ]
    n_recorded = 0

    def record(run: Replay) -> Replay:
        nonlocal n_recorded
        n_recorded += 1
        run()
        return run

    runners[1].record_steps(record)
    assert n_recorded == 4 * 4  # 1, 2, 4, 6 slots; 1, 2, 4, 5 blocks of keys
    rng = np.random.default_rng(3)
    lengths = {0: 3, 1: 250, 2: 700, 3: 20, 4: 256, 5: 1100}
    for slot, length in lengths.items():
        ids = rng.integers(0, 700, length).astype(np.int32)
        for runner in runners:
            runner.prefill(slot, ids, 0)
    for used in ([0], [1], [0, 2], [3], [4, 5], list(range(6))):
        found = []
        for runner in runners:
            window = runner.window(used[0], used[-1])
            tokens = [5 + index for index in window]
            positions = [lengths[index] for index in window]
            logits = runner.step(window, tokens, positions, max(lengths[i] for i in used))
            found.append(logits[[i - window.start for i in used]])
        assert torch.equal(*found)
    assert runners[1].window(2, 2) == range(4)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_weights_that_16_bits_hold_are_held_so_and_nothing_is_lost(n_threads: int) -> None:
    if not _has_fbgemm():
        pytest.skip("this processor has no such kernels")
    torch.set_num_threads(n_threads)
    torch.manual_seed(3)  # one value in thousands is so small that no scale holds it
    spread = 2.0 ** torch.randint(-16, 0, (40, 48))  # far below what float16 itself holds
    weight, x = (torch.randn(40, 48) * spread).bfloat16().float(), torch.randn(5, 48)
    packed = pack(weight)
    assert packed.product.__name__.startswith("half")
    exact = x.double() @ weight.T.double()
    assert (packed(x) - exact).abs().max() < 1e-6 * exact.abs().max()
    one = torch.eye(48)
    assert torch.equal(packed(one), weight.T)
    weight[3, 4] *= 1 + 2.0**-20  # more digits than 16 bits have
    assert not pack(weight).product.__name__.startswith("half")
    assert not pack(torch.zeros(8, 8)).product.__name__.startswith("half")


@pytest.mark.slow
@pytest.mark.parametrize("is_rounded", [False, True])
def test_where_chunks_may_be_cut_anywhere_the_cache_is_bitwise_the_same(
    *, is_rounded: bool
) -> None:
    model = small_model("tiny", layers=3, is_rounded=is_rounded)
    runner = Step1Runner(model, audio_vocabulary(model), slots=2, max_context_tokens=900)
    if not runner.has_free_borders:
        pytest.skip("on this processor a chunk's bits depend on its size")
    rng = np.random.default_rng(2)
    ids = rng.integers(0, 700, 700).astype(np.int32)
    for slot, most in ((0, 1), (1, 70)):
        start = 0
        while start < len(ids):
            left = min(int(rng.integers(1, most + 1)), len(ids) - start)
            end = start + runner.chunk_tokens(left)
            runner.prefill(slot, ids[start:end], start)
            start = end
    assert torch.equal(runner.saved(0, 700), runner.saved(1, 700))


def test_shapes_that_change_bits_are_found() -> None:
    rows = torch.arange(512.0)

    def chunk(part: range) -> torch.Tensor:
        return rows[part.start : part.stop] + (len(part) in (2, 7, 48))

    assert exact_chunks(chunk, 512) == tuple(n for n in (*range(1, 33), 64) if n not in (2, 7))
    assert keys_may_be_cut(lambda position, _n: rows[position], 512, 64)
    assert not keys_may_be_cut(lambda position, n: rows[position] + (n == 320), 512, 64)
    assert exact_batch(lambda window: rows[window.start : window.stop] + (len(window) < 3), 8) == 3


@pytest.mark.slow
@pytest.mark.parametrize("quantization", ["none", "int8"])
def test_weights_can_be_taken_so_that_none_is_held_twice(quantization: str) -> None:
    found = []
    for takes_weights in (False, True):
        model = small_model("golden")
        runner = Step1Runner(
            model,
            audio_vocabulary(model),
            slots=1,
            max_context_tokens=100,
            quantization=quantization,
            takes_weights=takes_weights,
        )
        runner.prefill(0, np.arange(50, dtype=np.int32), 0)
        found.append(runner.step(range(1), [7], [50], 50))
        left = sum(p.numel() for p in model.parameters() if p.ndim > 1)
        assert (left == model.model.embed_tokens.weight.numel()) == takes_weights
    assert torch.equal(*found)


@pytest.mark.slow
def test_bytes_are_those_of_weights_and_cache() -> None:
    model = small_model("tiny", is_rounded=True)
    layers = sum(p.numel() for p in model.model.layers.parameters() if p.ndim > 1)
    head = (audio_vocabulary(model).audio_tokens + 1) * 256

    def runner(quantization: str) -> Step1Runner:
        vocabulary = audio_vocabulary(model)
        return Step1Runner(
            model, vocabulary, slots=3, max_context_tokens=300, quantization=quantization
        )

    embedding = 700 * 256 * 4
    per_weight = 2 if _has_fbgemm() else 4
    assert runner("none").weight_bytes == (layers + head) * per_weight + embedding
    scales = 2 * 2 * (256 + 2 * 64 + 256 + 2 * 512 + 256)  # layers · bytes · rows
    assert runner("int8").weight_bytes == layers + scales + head * per_weight + embedding
    assert runner("none").cache_bytes == 2 * 2 * 3 * 2 * 512 * 32 * 4
    assert runner("none").device_bytes == 0


def test_pack_is_the_product_with_the_weight() -> None:
    weight, x = torch.randn(24, 16), torch.randn(3, 16)
    assert torch.allclose(pack(weight)(x), x @ weight.T, atol=1e-5)
    half = pack(weight.bfloat16())(x.bfloat16())
    assert half.dtype == torch.bfloat16


@pytest.mark.slow
def test_bfloat16_runs_and_is_near_float32() -> None:
    model = small_model("golden")
    ids = np.arange(100, dtype=np.int32)
    expected = model(torch.from_numpy(ids)[None].long())[0, -1, [*range(20, 700), 3]]
    half = model.to(torch.bfloat16)
    runner = Step1Runner(half, audio_vocabulary(model), slots=2, max_context_tokens=256)
    runner.prefill(1, ids[:-1], 0)
    logits = runner.step(range(1, 2), [99], [99], 99)[0]
    assert logits.dtype == torch.float32
    assert (logits - expected).abs().max() < 0.1 * expected.abs().max()


def test_slopes_of_a_head_count_that_is_no_power_of_two() -> None:
    assert alibi_slopes(8).tolist() == [2.0**-i for i in range(1, 9)]
    slopes = alibi_slopes(12).tolist()
    assert slopes[:8] == [2.0**-i for i in range(1, 9)]
    assert slopes[8:] == pytest.approx([2.0 ** (-i / 2) for i in (1, 3, 5, 7)])


def test_a_vocabulary_beyond_the_model_is_refused() -> None:
    model = small_model("tiny", layers=1)
    with pytest.raises(CheckpointError, match="the model has 700 tokens"):
        Step1Runner(model, AudioVocabulary(5, 3), slots=1, max_context_tokens=10)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    save_step1(small_model("tiny"), tmp_path, max_shard_size="1MB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    return tmp_path


def test_loads_shards_of_the_official_layout(checkpoint: Path) -> None:
    loaded = load_step1(checkpoint, "cpu", torch.float32)
    expected = small_model("tiny").state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[k]) for k, tensor in loaded.state_dict().items())
    assert not loaded.training
    assert loaded.config.num_attention_groups == 2
    assert load_step1(checkpoint, "cpu", torch.bfloat16).dtype == torch.bfloat16


def test_loading_draws_no_weights(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch imports its compiler to draw normal ones on the meta device: over a second."""
    monkeypatch.setattr(torch.nn.init, "normal_", None)
    load_step1(checkpoint, "cpu", torch.float32)


def test_loads_one_file_without_an_index(tmp_path: Path) -> None:
    save_step1(small_model("odd"), tmp_path)
    assert load_step1(tmp_path, "cpu", torch.float32).config.hidden_size == 120


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("num_hidden_layers", 3, "missing: model.layers.2.input_layernorm.weight"),
        ("num_hidden_layers", 1, "unexpected: model.layers.1.input_layernorm.weight"),
        ("vocab_size", 701, r"misshapen: lm_head.weight \(is \(700, 256\)"),
        ("num_attention_heads", 7, "must divide"),
    ],
)
def test_a_checkpoint_that_does_not_fit_its_config_is_named(
    checkpoint: Path, field: str, value: int, words: str
) -> None:
    path = checkpoint / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(CheckpointError, match=words):
        load_step1(checkpoint, "cpu", torch.float32)


def test_missing_and_damaged_files_are_named(checkpoint: Path) -> None:
    shard = sorted(checkpoint.glob("*.safetensors"))[0]
    shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_step1(checkpoint, "cpu", torch.float32)
    shard.unlink()
    with pytest.raises(CheckpointError, match=f"missing: {shard.name}"):
        load_step1(checkpoint, "cpu", torch.float32)
    (checkpoint / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_step1(checkpoint, "cpu", torch.float32)
