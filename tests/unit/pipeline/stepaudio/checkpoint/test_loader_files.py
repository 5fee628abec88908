"""The files beside the weights: the released loaders read them, and read the same as we do."""

from __future__ import annotations

import subprocess
import sys

import pytest
from sentencepiece import SentencePieceProcessor
from transformers import AutoTokenizer, GenerationConfig, PretrainedConfig

from pipeline.prompting import read_warping
from pipeline.stepaudio.checkpoint.random_init import init_checkpoint
from pipeline.stepaudio.checkpoint.verify import verify_checkpoint
from pipeline.stepaudio.layout import PACKAGED_TINY, CheckpointLayout
from pipeline.stepaudio.llm import prompt
from pipeline.stepaudio.weights import read_torch
from pipeline.voice_list import load_voices

pytestmark = pytest.mark.unit

LOAD_BY_FUNASR = """
import sys
from funasr import AutoModel
loaded = AutoModel(model=sys.argv[1], disable_update=True, device="cpu")
encoder = loaded.model.encoder
print("LOADED", type(encoder).__name__, sum(p.numel() for p in encoder.parameters()),
      sum(float(p.double().sum()) for p in encoder.parameters()),
      len(loaded.kwargs["token_list"]), loaded.kwargs["frontend"].cmvn.shape[1])
"""


@pytest.fixture(scope="module", params=["packaged", "written"])
def layout(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> CheckpointLayout:
    if request.param == "packaged":
        return CheckpointLayout.at(PACKAGED_TINY)
    return init_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.mark.slow
def test_verify_knows_them(layout: CheckpointLayout) -> None:
    report = verify_checkpoint(layout.root)
    assert report.ok, report.problems


def test_transformers_reads_the_text_tokenizer_as_we_do(layout: CheckpointLayout) -> None:
    ours = SentencePieceProcessor(model_file=str(layout.text_tokenizer))
    theirs = AutoTokenizer.from_pretrained(layout.editx, local_files_only=True)
    assert len(theirs) == ours.get_piece_size()
    assert (theirs.bos_token_id, theirs.eos_token_id) == (1, 3)
    clone = prompt._CLONE_SYSTEM.format(
        speaker="clone_12ab", transcript="hɛloʊ wɝld", audio="<audio_7><audio_1024><audio_5119>"
    )
    texts = [voice.transcript for voice in load_voices().values()]
    texts += [f"system\n{clone}", f"system\n{prompt._EDIT_SYSTEM}", "human\n", "assistant\n"]
    texts += ["\n", "  two  spaces", "Hello,\nñandú — 你好，龘 🙂", "ʧɛk ɪt"]
    for text in texts:
        ids = theirs.encode(text, add_special_tokens=False)
        assert ids == ours.encode(text), text
        assert theirs.decode(ids) == ours.decode(ids)


def test_transformers_reads_the_configs(layout: CheckpointLayout) -> None:
    config = PretrainedConfig.from_pretrained(layout.editx, local_files_only=True)
    generation = GenerationConfig.from_pretrained(layout.editx, local_files_only=True)
    assert generation.eos_token_id == config.eos_token_id
    ours = read_warping(layout.generation_config)
    theirs = (generation.temperature, generation.top_p, generation.top_k)
    assert (ours.temperature, ours.top_p, ours.top_k) == theirs == (0.7, 1.0, 50)


@pytest.mark.slow
def test_funasr_reads_the_paraformer_directory() -> None:
    """In a process of its own: importing the whole package takes seconds, prints and warns."""
    layout = CheckpointLayout.at(PACKAGED_TINY)
    state = read_torch(layout.paraformer_weights)
    ours = [w for name, w in state.items() if name.startswith("encoder.")]
    ran = subprocess.run(
        [sys.executable, "-c", LOAD_BY_FUNASR, str(layout.paraformer)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    (line,) = [line for line in ran.stdout.splitlines() if line.startswith("LOADED")]
    name, size, total, n_tokens, n_features = line.split()[1:]
    assert (name, int(n_tokens), int(n_features)) == ("SANMEncoderChunkOpt", 98, 560)
    assert int(size) == sum(w.numel() for w in ours)
    assert float(total) == pytest.approx(sum(float(w.double().sum()) for w in ours))
